//! What must hold with any API server: run against the double, and against a real one where there is one.

use std::{collections::BTreeMap, sync::Mutex};

use duolb::source::{Event, kube::Options};
use serde_json::{Value, json};

use crate::{
    agent::{Agent, options},
    double::Double,
    objects::{NODE, node, place, resource, service, service_cidr, slice},
    real::Real,
};

/// An API server and what a test has put there.
pub(crate) struct Cluster {
    server: Server,
    put: Mutex<BTreeMap<String, Value>>,
}

enum Server {
    Double(Double),
    Real(Real),
}

impl Cluster {
    async fn double() -> Self {
        Self {
            server: Server::Double(Double::start().await),
            put: Mutex::default(),
        }
    }

    fn real(real: Real) -> Self {
        Self {
            server: Server::Real(real),
            put: Mutex::default(),
        }
    }

    fn options(&self) -> Options {
        match &self.server {
            Server::Double(double) => options(double.url()),
            Server::Real(real) => real.options(),
        }
    }

    async fn put(&self, object: &Value) {
        match &self.server {
            Server::Double(double) => double.put(object),
            Server::Real(real) => real.put(object).await,
        }
        let mut put = self.put.lock().expect("no test panics while it holds this");
        put.insert(
            format!("{:?} {:?}", resource(object), place(object)),
            object.clone(),
        );
    }

    async fn delete(&self, object: &Value) {
        match &self.server {
            Server::Double(double) => double.delete(object),
            Server::Real(real) => real.delete(object).await,
        }
        let mut put = self.put.lock().expect("no test panics while it holds this");
        put.remove(&format!("{:?} {:?}", resource(object), place(object)));
    }

    /// Deletes all that was put there.
    async fn clear(&self) {
        let put: Vec<_> = {
            let put = self.put.lock().expect("no test panics while it holds this");
            put.values().cloned().collect()
        };
        for object in put {
            self.delete(&object).await;
        }
    }

    /// A cluster with our node and the Service `web` with one endpoint, and an agent that serves it.
    async fn with_web(&self) -> Agent {
        self.put(&node(NODE, "a")).await;
        self.put(&service("web", "0.20")).await;
        self.put(&slice("web-1", "web", &["10.0.0.1"])).await;
        let mut agent = Agent::start(&self.options()).await;
        agent
            .until("web is served", |agent| {
                agent.leads("10.96.0.20:80", &["10.0.0.1:8080"]) && agent.is_well()
            })
            .await;
        agent
    }
}

/// Every scenario, with its name.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod with_the_double {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(&super::Cluster::double().await).await;
                }
            )*
        }

        #[tokio::test]
        async fn all_of_it_holds_with_a_real_api_server() {
            let Some(real) = Real::start().await else {
                return;
            };
            let cluster = Cluster::real(real);
            $(
                println!("{}", stringify!($name));
                $name(&cluster).await;
                cluster.clear().await;
            )*
        }
    };
}

scenarios! {
    endpoints_are_followed_as_they_come_and_go,
    a_deleted_service_is_served_no_more,
    rule_1_the_label_of_another_proxy_is_a_delete_and_its_removal_an_add,
    rule_1_headless_services_never_arrive,
    rule_2_the_headless_label_takes_the_slice_away,
    rule_4_only_our_own_node_is_followed,
    rule_13_a_slice_that_loses_its_service_is_gone,
    service_cidrs_are_followed,
    what_is_added_while_nobody_watches_is_found_by_the_next_agent,
    a_port_that_changes_its_number_is_another_frontend,
}

async fn endpoints_are_followed_as_they_come_and_go(cluster: &Cluster) {
    let mut agent = cluster.with_web().await;
    cluster
        .put(&slice("web-1", "web", &["10.0.0.1", "10.0.0.2"]))
        .await;
    cluster.put(&slice("web-2", "web", &["10.0.0.3"])).await;
    let all = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"];
    agent
        .until("three endpoints", |agent| {
            agent.leads("10.96.0.20:80", &all)
        })
        .await;
    cluster.delete(&slice("web-1", "web", &[])).await;
    let left = ["10.0.0.3:8080"];
    agent
        .until("one is left", |agent| agent.leads("10.96.0.20:80", &left))
        .await;
}

async fn a_deleted_service_is_served_no_more(cluster: &Cluster) {
    let mut agent = cluster.with_web().await;
    cluster.delete(&service("web", "0.20")).await;
    agent
        .until("web is gone", |agent| {
            !agent.knows("web") && agent.lacks("10.96.0.20")
        })
        .await;
}

async fn rule_1_the_label_of_another_proxy_is_a_delete_and_its_removal_an_add(cluster: &Cluster) {
    let mut agent = cluster.with_web().await;
    let mut foreign = service("web", "0.20");
    // Any value means another proxy, even none.
    foreign["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": ""});
    cluster.put(&foreign).await;
    agent
        .until("web is not ours", |agent| agent.lacks("10.96.0.20"))
        .await;
    assert!(
        agent
            .said
            .iter()
            .any(|event| matches!(event, Event::DeleteService(key) if key.name == "web"))
    );
    cluster.put(&service("web", "0.20")).await;
    let endpoints = ["10.0.0.1:8080"];
    agent
        .until("web is ours", |agent| {
            agent.leads("10.96.0.20:80", &endpoints)
        })
        .await;
}

async fn rule_1_headless_services_never_arrive(cluster: &Cluster) {
    let mut headless = service("headless", "0.21");
    headless["spec"]["clusterIP"] = "None".into();
    headless["spec"]["clusterIPs"] = json!(["None"]);
    cluster.put(&headless).await;
    let mut agent = cluster.with_web().await;
    headless["metadata"]["labels"] = json!({"touched": "yes"});
    cluster.put(&headless).await;
    cluster.put(&service("other", "0.22")).await;
    agent
        .until("the next one has come", |agent| agent.knows("other"))
        .await;
    let about = |event: &Event| format!("{event:?}").contains("\"headless\"");
    assert!(!agent.said.iter().any(about), "{:#?}", agent.said);
}

async fn rule_2_the_headless_label_takes_the_slice_away(cluster: &Cluster) {
    let mut agent = cluster.with_web().await;
    let mut headless = slice("web-1", "web", &["10.0.0.1"]);
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = "".into();
    cluster.put(&headless).await;
    agent
        .until("no endpoint", |agent| agent.leads("10.96.0.20:80", &[]))
        .await;
}

async fn rule_4_only_our_own_node_is_followed(cluster: &Cluster) {
    cluster.put(&node("node-2", "b")).await;
    let mut agent = cluster.with_web().await;
    let zone = |agent: &Agent| agent.index().node().and_then(|node| node.zone.clone());
    assert_eq!(zone(&agent).as_deref(), Some("a"));
    cluster.put(&node(NODE, "c")).await;
    agent
        .until("another zone", |agent| zone(agent).as_deref() == Some("c"))
        .await;
    let others = |event: &&Event| matches!(event, Event::ApplyNode(node) if node.name != NODE);
    assert_eq!(agent.said.iter().find(others), None);
    cluster.delete(&node(NODE, "c")).await;
    agent
        .until("no node", |agent| agent.index().node().is_none())
        .await;
    assert!(
        agent.tells(&["Node node-1", "--hostname-override"]),
        "{:?}",
        agent.problems()
    );
}

async fn rule_13_a_slice_that_loses_its_service_is_gone(cluster: &Cluster) {
    let mut agent = cluster.with_web().await;
    let mut orphan = slice("web-1", "web", &["10.0.0.1"]);
    orphan["metadata"]["labels"] = json!({});
    cluster.put(&orphan).await;
    agent
        .until("no endpoint", |agent| agent.leads("10.96.0.20:80", &[]))
        .await;
}

async fn service_cidrs_are_followed(cluster: &Cluster) {
    let mut agent = cluster.with_web().await;
    let cidr = "10.112.0.0/16";
    let knows = |agent: &Agent| {
        let cidrs = agent.index().service_cidrs();
        cidrs.iter().any(|known| known.to_string() == cidr)
    };
    cluster.put(&service_cidr("more", cidr)).await;
    agent.until("more addresses", knows).await;
    cluster.delete(&service_cidr("more", cidr)).await;
    agent.until("no more of them", |agent| !knows(agent)).await;
}

async fn what_is_added_while_nobody_watches_is_found_by_the_next_agent(cluster: &Cluster) {
    drop(cluster.with_web().await);
    cluster.delete(&service("web", "0.20")).await;
    cluster.put(&service("new", "0.23")).await;
    cluster.put(&slice("new-1", "new", &["10.0.0.9"])).await;
    let mut agent = Agent::start(&cluster.options()).await;
    agent
        .until("the new one", |agent| {
            agent.leads("10.96.0.23:80", &["10.0.0.9:8080"]) && agent.lacks("10.96.0.20")
        })
        .await;
}

async fn a_port_that_changes_its_number_is_another_frontend(cluster: &Cluster) {
    let mut agent = cluster.with_web().await;
    let mut moved = service("web", "0.20");
    moved["spec"]["ports"][0]["port"] = 81.into();
    cluster.put(&moved).await;
    agent
        .until("another port", |agent| {
            agent.leads("10.96.0.20:81", &["10.0.0.1:8080"]) && agent.lacks("10.96.0.20:80")
        })
        .await;
}
