//! An API server that refuses us: a clear message with the remedy, attempts that go on, the datapath untouched.

use std::time::Duration;

use duolb::source::kube::Options;

use crate::{
    agent::{Agent, options},
    double::Double,
    objects::{NODE, Resource, node, service, service_cidr, slice},
};

async fn world() -> Double {
    let double = Double::start().await;
    double.put(&node(NODE, "a"));
    double.put(&service_cidr("kubernetes", "10.96.0.0/16"));
    double.put(&service("web", "0.20"));
    double.put(&slice("web-1", "web", &["10.0.0.1"]));
    double
}

fn serves(agent: &Agent) -> bool {
    agent.leads("10.96.0.20:80", &["10.0.0.1:8080"])
}

#[tokio::test]
async fn a_token_that_is_replaced_in_its_file_is_read_again() {
    let double = world().await;
    double.faults(|faults| faults.token = Some("new".to_owned()));
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "old").unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: '{}'}}}}]\n\
         users: [{{name: u, user: {{tokenFile: {}}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
        double.url(),
        token.display(),
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let options = Options {
        kubeconfig: Some(kubeconfig),
        master: None,
        ..options(String::new())
    };
    let mut agent = Agent::start(&options).await;
    agent
        .until("it is told", |agent| {
            agent.tells(&["401", "token", "expired"])
        })
        .await;
    assert_eq!(
        agent.problems().len(),
        1,
        "one line for all kinds: {:#?}",
        agent.problems()
    );
    assert_eq!(agent.said, []);
    std::fs::write(&token, "new").unwrap();
    agent
        .until("web is served", |agent| serves(agent) && agent.is_well())
        .await;
    // It expires again: what is in force stays.
    double.faults(|faults| faults.token = Some("newer".to_owned()));
    double.compact();
    agent
        .until("it is told again", |agent| agent.tells(&["401"]))
        .await;
    assert!(serves(&agent));
    std::fs::write(&token, "newer").unwrap();
    agent.until("all is well", Agent::is_well).await;
}

#[tokio::test]
async fn a_resource_that_we_may_not_see_is_named_with_the_role_to_apply() {
    let double = world().await;
    double.deny(Resource::Slices, 403);
    let mut agent = Agent::start(&options(double.url())).await;
    let told = [
        "endpointslices.discovery.k8s.io",
        "may not list",
        "403",
        "ClusterRole duolb",
    ];
    agent.until("it is told", |agent| agent.tells(&told)).await;
    agent.take_for(Duration::from_millis(500)).await;
    assert_eq!(
        agent.problems().len(),
        1,
        "the others are seen: {:#?}",
        agent.problems()
    );
    assert!(
        !agent.index().is_complete(),
        "and nothing is written without it"
    );
    double.faults(|faults| faults.deny.clear());
    agent
        .until("web is served", |agent| serves(agent) && agent.is_well())
        .await;
}

#[tokio::test]
async fn a_cluster_without_service_cidrs_has_none() {
    let double = world().await;
    double.deny(Resource::Cidrs, 404);
    let mut agent = Agent::start(&options(double.url())).await;
    agent
        .until("web is served", |agent| serves(agent) && agent.is_well())
        .await;
    assert!(agent.index().service_cidrs().is_empty());
    agent.take_for(Duration::from_secs(1)).await;
    assert_eq!(
        double.lists(Resource::Cidrs),
        1,
        "it is not asked for again soon"
    );
}

#[tokio::test]
async fn service_cidrs_that_we_may_not_see_are_told_and_done_without() {
    let double = world().await;
    double.deny(Resource::Cidrs, 403);
    let mut agent = Agent::start(&options(double.url())).await;
    agent
        .until("web is served, and it is told", |agent| {
            serves(agent) && agent.tells(&["servicecidrs.networking.k8s.io", "403", "ClusterRole"])
        })
        .await;
}

#[tokio::test]
async fn service_cidrs_that_we_may_not_see_any_more_stay() {
    let double = world().await;
    let mut agent = Agent::start(&options(double.url())).await;
    agent
        .until("web is served", |agent| serves(agent) && agent.is_well())
        .await;
    double.deny(Resource::Cidrs, 403);
    double.compact();
    agent
        .until("it is told", |agent| agent.tells(&["servicecidrs", "403"]))
        .await;
    assert_eq!(agent.index().service_cidrs().len(), 1);
}

#[tokio::test]
async fn a_server_of_another_version_is_told_by_what_it_lacks() {
    let double = world().await;
    double.deny(Resource::Slices, 404);
    let mut agent = Agent::start(&options(double.url())).await;
    let told = [
        "endpointslices",
        "another version",
        "discovery.k8s.io/v1",
        "1.21",
    ];
    agent.until("it is told", |agent| agent.tells(&told)).await;
    assert!(!agent.index().is_complete());
}

#[tokio::test]
async fn a_server_that_is_no_api_server_is_told() {
    let double = world().await;
    double.faults(|faults| faults.nonsense = true);
    let mut agent = Agent::start(&options(double.url())).await;
    let told = [
        "services",
        "cannot be read",
        "is this a Kubernetes API server?",
    ];
    agent.until("it is told", |agent| agent.tells(&told)).await;
    assert_eq!(agent.said, []);
}

#[tokio::test]
async fn a_node_that_is_not_in_the_cluster_is_told_and_the_rest_is_served() {
    let double = world().await;
    double.delete(&node(NODE, "a"));
    let mut agent = Agent::start(&options(double.url())).await;
    agent
        .until("web is served, and it is told", |agent| {
            serves(agent) && agent.tells(&["Node node-1", "does not exist", "--hostname-override"])
        })
        .await;
    double.put(&node(NODE, "b"));
    agent
        .until("it is there", |agent| {
            agent.is_well() && agent.index().node().is_some()
        })
        .await;
}
