//! Events that the agent writes.

use std::time::Duration;

use duolb::{
    model::ObjectKey,
    source::kube::{About, Severity, connect},
};

use crate::{agent::options, double::Double, objects::NODE};

#[tokio::test]
async fn an_event_names_its_object_and_its_writer_as_those_of_kube_proxy_do() {
    let double = Double::start().await;
    let connection = connect(&options(double.url())).await.unwrap();
    let reporter = connection.reporter();
    reporter.report(&About::Node, Severity::Normal, "Starting", "StartDuolb", "");
    let about = About::Service(ObjectKey::new("shop", "web"));
    let reason = "FailedToStartServiceHealthcheck";
    reporter.report(
        &about,
        Severity::Warning,
        reason,
        "Listen",
        &"port 30000 é".repeat(200),
    );
    while double.events().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let events = double.events();
    let [of_node, of_service] = &events[..] else {
        panic!("{events:#?}");
    };
    assert_eq!(of_node["regarding"]["kind"], "Node");
    assert_eq!(of_node["regarding"]["name"], NODE);
    assert_eq!(of_node["regarding"]["uid"], NODE);
    assert_eq!(of_node["reportingController"], "duolb");
    assert_eq!(of_node["reportingInstance"], NODE);
    assert_eq!(of_node["type"], "Normal");
    assert_eq!(of_service["regarding"]["kind"], "Service");
    assert_eq!(of_service["regarding"]["namespace"], "shop");
    assert_eq!(of_service["reason"], reason);
    assert_eq!(of_service["type"], "Warning");
    let note = of_service["note"].as_str().unwrap();
    assert!(
        note.len() <= 1024 && note.starts_with("port 30000"),
        "{note}"
    );
}

#[tokio::test]
async fn reporting_never_waits_for_a_server_that_is_away() {
    let mut double = Double::start().await;
    double.down().await;
    let reporter = connect(&options(double.url())).await.unwrap().reporter();
    for _ in 0..1000 {
        reporter.report(&About::Node, Severity::Normal, "Starting", "StartDuolb", "");
    }
}
