//! An API server that behaves badly: what it says in the end counts, and nothing is lost on the way.

use std::{collections::VecDeque, time::Duration};

use duolb::source::{Event, Kind};

use crate::{
    agent::{Agent, options},
    double::{Double, WatchFault},
    objects::{NODE, Resource, node, service, service_cidr, slice},
};

/// A double with our node, `web` with one endpoint and a ServiceCIDR, and an agent that serves it.
pub(crate) async fn world() -> (Double, Agent) {
    let double = Double::start().await;
    double.put(&node(NODE, "a"));
    double.put(&service_cidr("kubernetes", "10.96.0.0/16"));
    double.put(&service("web", "0.20"));
    double.put(&slice("web-1", "web", &["10.0.0.1"]));
    let mut agent = Agent::start(&options(double.url())).await;
    agent.until("web is served", serves).await;
    (double, agent)
}

fn serves(agent: &Agent) -> bool {
    agent.leads("10.96.0.20:80", &["10.0.0.1:8080"]) && agent.is_well()
}

/// Whether any event says that something is gone.
fn says_gone(events: &[Event]) -> bool {
    let gone = |event: &Event| {
        matches!(
            event,
            Event::DeleteService(_)
                | Event::DeleteSlice(_)
                | Event::DeleteNode(_)
                | Event::DeleteServiceCidr(_)
        )
    };
    events.iter().any(gone)
}

/// What arrives after `fault` hits the next event is what the event said.
async fn survives(fault: WatchFault) -> (Double, Agent) {
    let (double, mut agent) = world().await;
    // An event before it, so that there is one to come back to.
    double.put(&slice("web-2", "web", &["10.0.0.8"]));
    let both = ["10.0.0.1:8080", "10.0.0.8:8080"];
    agent
        .until("an event", |agent| agent.leads("10.96.0.20:80", &both))
        .await;
    double.faults(|faults| {
        faults
            .watch
            .insert(Resource::Slices, VecDeque::from([fault]));
    });
    double.put(&slice("web-1", "web", &["10.0.0.2"]));
    let endpoints = ["10.0.0.2:8080", "10.0.0.8:8080"];
    agent
        .until("the event counts", |agent| {
            agent.leads("10.96.0.20:80", &endpoints)
        })
        .await;
    // And the one after it.
    double.put(&slice("web-2", "web", &["10.0.0.3"]));
    let endpoints = ["10.0.0.2:8080", "10.0.0.3:8080"];
    agent
        .until(
            "the next one counts, and nothing is wrong any more",
            |agent| agent.leads("10.96.0.20:80", &endpoints) && agent.is_well(),
        )
        .await;
    assert!(!says_gone(&agent.said), "{:#?}", agent.said);
    (double, agent)
}

#[tokio::test]
async fn rules_1_2_and_4_it_is_the_server_that_selects() {
    let (double, mut agent) = world().await;
    agent.take_for(Duration::from_millis(200)).await;
    for (path, selectors) in [
        (
            "/api/v1/services?",
            &[
                "service.kubernetes.io%2Fservice-proxy-name",
                "spec.clusterIP%21%3DNone",
            ][..],
        ),
        (
            "/apis/discovery.k8s.io/v1/endpointslices?",
            &["%21service.kubernetes.io%2Fheadless"],
        ),
        ("/api/v1/nodes?", &["metadata.name%3Dnode-1"]),
    ] {
        let requests = double.requests(|request| request.starts_with(path));
        assert!(requests.len() >= 2, "a list and a watch: {requests:#?}");
        for request in requests {
            assert!(
                selectors.iter().all(|selector| request.contains(selector)),
                "{request}"
            );
        }
    }
}

#[tokio::test]
async fn a_watch_that_is_cut_in_mid_event_goes_on_where_it_was() {
    let (double, _) = survives(WatchFault::Cut).await;
    assert_eq!(double.lists(Resource::Slices), 1, "no need to list anew");
}

#[tokio::test]
async fn a_line_that_is_no_event_makes_it_list_anew() {
    let (double, _) = survives(WatchFault::Garbage).await;
    assert_eq!(double.lists(Resource::Slices), 2);
}

#[tokio::test]
async fn an_event_that_comes_in_drops_is_an_event() {
    let (double, _) = survives(WatchFault::Drip).await;
    assert_eq!(double.lists(Resource::Slices), 1);
}

#[tokio::test]
async fn an_event_that_comes_twice_counts_once() {
    let (double, _) = survives(WatchFault::Repeat).await;
    assert_eq!(double.lists(Resource::Slices), 1);
}

#[tokio::test]
async fn an_event_that_comes_late_does_not_undo_a_later_one() {
    let (double, _) = survives(WatchFault::Backwards).await;
    assert_eq!(double.lists(Resource::Slices), 2, "only a listing tells");
}

#[tokio::test]
async fn a_version_that_is_gone_makes_it_list_anew() {
    let (double, _) = survives(WatchFault::Gone).await;
    assert_eq!(double.lists(Resource::Slices), 2);
}

#[tokio::test]
async fn an_error_in_a_watch_is_no_end() {
    survives(WatchFault::Failed).await;
}

#[tokio::test]
async fn a_watch_whose_time_is_over_goes_on() {
    let (double, _) = survives(WatchFault::End).await;
    assert_eq!(double.lists(Resource::Slices), 1);
}

#[tokio::test]
async fn a_watch_that_is_refused_with_410_makes_it_list_anew() {
    let (double, mut agent) = world().await;
    double.faults(|faults| {
        faults
            .deny_watch
            .insert(Resource::Slices, VecDeque::from([410]));
        faults
            .watch
            .insert(Resource::Slices, VecDeque::from([WatchFault::End]));
    });
    double.put(&slice("web-1", "web", &["10.0.0.2"]));
    let endpoints = ["10.0.0.2:8080"];
    agent
        .until("the new one", |agent| {
            agent.leads("10.96.0.20:80", &endpoints)
        })
        .await;
    agent
        .until("listed anew", |_| double.lists(Resource::Slices) == 2)
        .await;
}

#[tokio::test]
async fn what_was_deleted_while_the_server_was_away_and_forgot_it_is_gone() {
    let (mut double, mut agent) = world().await;
    double.put(&service("old", "0.30"));
    agent
        .until("old is known", |agent| agent.knows("old"))
        .await;
    double.down().await;
    double.delete(&service("old", "0.30"));
    double.put(&service("new", "0.31"));
    double.compact();
    double.up().await;
    agent
        .until("new is there and old is not", |agent| {
            agent.knows("new") && !agent.knows("old") && agent.is_well()
        })
        .await;
}

#[tokio::test]
async fn a_server_that_is_away_changes_nothing_and_is_told_once() {
    let (mut double, mut agent) = world().await;
    let before = agent.meaning();
    let said = agent.said.len();
    double.down().await;
    agent
        .until("it is told", |agent| {
            agent.tells(&["connection refused", "--master"])
        })
        .await;
    agent.take_for(Duration::from_secs(2)).await;
    assert_eq!(agent.problems().len(), 1, "{:#?}", agent.problems());
    assert_eq!(agent.said[said..], [], "nobody has anything to say");
    assert_eq!(agent.meaning(), before);
    double.up().await;
    agent.until("all is well", Agent::is_well).await;
    assert_eq!(agent.meaning(), before);
    assert!(!says_gone(&agent.said));
}

#[tokio::test]
async fn an_agent_that_starts_before_the_server_waits_for_it() {
    let mut double = Double::start().await;
    double.put(&node(NODE, "a"));
    double.put(&service("web", "0.20"));
    double.put(&slice("web-1", "web", &["10.0.0.1"]));
    double.down().await;
    let mut agent = Agent::start(&options(double.url())).await;
    agent
        .until("it is told", |agent| agent.tells(&["connection refused"]))
        .await;
    assert_eq!(agent.said, []);
    double.up().await;
    agent.until("web is served", serves).await;
}

#[tokio::test]
async fn a_server_that_fails_for_a_while_changes_nothing() {
    let (mut double, mut agent) = world().await;
    let before = agent.meaning();
    double.faults(|faults| faults.deny = Resource::ALL.map(|resource| (resource, 500)).into());
    // Cut, so that all must be asked for again, and compacted, so that all must be listed.
    double.down().await;
    double.compact();
    double.up().await;
    agent
        .until("it is told", |agent| agent.tells(&["services", "500"]))
        .await;
    agent.take_for(Duration::from_secs(1)).await;
    assert_eq!(agent.meaning(), before);
    double.faults(|faults| faults.deny.clear());
    agent.until("all is well", Agent::is_well).await;
    assert_eq!(agent.meaning(), before);
    assert!(!says_gone(&agent.said));
}

#[tokio::test]
async fn lists_come_in_pages_and_one_whose_rest_was_compacted_begins_anew() {
    let double = Double::start().await;
    double.put(&node(NODE, "a"));
    double.put(&service("web", "0.20"));
    for number in 0..230 {
        let address = format!("10.0.1.{number}");
        double.put(&slice(&format!("web-{number}"), "web", &[&address]));
    }
    double.faults(|faults| faults.forget_pages = 1);
    let mut agent = Agent::start(&options(double.url())).await;
    agent.until("all is well", Agent::is_well).await;
    let text = agent.meaning().to_string();
    assert_eq!(text.matches("10.0.1.").count(), 230, "{text}");
    assert_eq!(double.lists(Resource::Slices), 2);
    let pages = double
        .requests(|request| request.contains("/endpointslices?") && request.contains("continue="));
    assert_eq!(pages.len(), 3, "one that failed and two: {pages:#?}");
    let inits = agent
        .said
        .iter()
        .filter(|event| **event == Event::Init(Kind::Slices));
    assert_eq!(
        inits.count(),
        2,
        "a listing that fails half-way begins anew"
    );
    let done = agent
        .said
        .iter()
        .filter(|event| **event == Event::InitDone(Kind::Slices));
    assert_eq!(done.count(), 1);
}

#[tokio::test]
async fn an_object_that_is_wrong_leaves_its_last_good_version_in_force() {
    let (mut double, mut agent) = world().await;
    let mut bad = slice("web-1", "web", &["10.0.0.1"]);
    bad["ports"][0]["port"] = 70_000.into();
    double.put(&bad);
    let told = [
        "API server",
        "EndpointSlice default/web-1",
        "ports[0].port",
        "70000",
    ];
    agent.until("it is told", |agent| agent.tells(&told)).await;
    // Another one is served, before and after everything is listed anew.
    double.put(&service("other", "0.40"));
    agent
        .until("another one is known", |agent| agent.knows("other"))
        .await;
    assert!(
        agent.leads("10.96.0.20:80", &["10.0.0.1:8080"]),
        "{}",
        agent.meaning()
    );
    double.down().await;
    double.compact();
    double.up().await;
    agent
        .until("listed anew", |_| double.lists(Resource::Slices) == 2)
        .await;
    agent.take_for(Duration::from_millis(500)).await;
    assert!(agent.tells(&told), "{:?}", agent.problems());
    assert!(
        agent.leads("10.96.0.20:80", &["10.0.0.1:8080"]),
        "{}",
        agent.meaning()
    );
    double.put(&slice("web-1", "web", &["10.0.0.5"]));
    agent
        .until("the good one counts", |agent| {
            agent.leads("10.96.0.20:80", &["10.0.0.5:8080"]) && agent.is_well()
        })
        .await;
}

#[tokio::test]
async fn rule_3_a_service_that_becomes_an_external_name_is_served_no_more() {
    let (double, mut agent) = world().await;
    let mut external = service("web", "0.20");
    external["spec"]["type"] = "ExternalName".into();
    external["spec"]["externalName"] = "example.org".into();
    double.put(&external);
    agent
        .until("not served", |agent| agent.lacks("10.96.0.20"))
        .await;
    assert!(agent.is_well());
}

#[tokio::test]
async fn rule_3_a_service_without_an_address_waits_for_one() {
    let (double, mut agent) = world().await;
    let mut early = service("early", "0.50");
    early["spec"]["clusterIP"] = "".into();
    early["spec"].as_object_mut().unwrap().remove("clusterIPs");
    double.put(&early);
    double.put(&service("later", "0.51"));
    agent
        .until("the next one is known", |agent| agent.knows("later"))
        .await;
    assert!(!agent.knows("early") && agent.is_well());
    double.put(&service("early", "0.50"));
    agent
        .until("it has one", |agent| !agent.lacks("10.96.0.50:80"))
        .await;
}

#[tokio::test]
async fn rule_21_families_that_are_not_said_follow_from_the_addresses() {
    let (double, mut agent) = world().await;
    let mut old = service("old", "0.60");
    old["spec"].as_object_mut().unwrap().remove("ipFamilies");
    old["spec"].as_object_mut().unwrap().remove("clusterIPs");
    double.put(&old);
    agent
        .until("it is served", |agent| !agent.lacks("10.96.0.60:80"))
        .await;
}
