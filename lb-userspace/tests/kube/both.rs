//! The same objects through both sources: as `kubectl get -o json` prints them, and from an API server.

use std::{collections::BTreeMap, path::Path};

use duolb::source::{
    kube::Options,
    manifests::{Content, Manifests, ServiceCidrs},
};
use serde_json::{Value, json};

use crate::{
    agent::{Agent, control_plane, options, settle},
    double::Double,
    meaning::Meaning,
    objects::{NODE, node, service, service_cidr, slice},
};

/// A small cluster with something of everything.
fn objects() -> Vec<Value> {
    let mut dual = service("dual", "0.30");
    dual["spec"]["clusterIPs"] = json!(["10.96.0.30", "fd00:96::30"]);
    dual["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
    dual["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
    dual["spec"]["ports"] = json!([
        {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080},
        {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 53},
    ]);
    let mut dual_6 = slice("dual-6", "dual", &["fd00::1", "fd00::2"]);
    dual_6["addressType"] = "IPv6".into();
    let mut local = service("local", "0.31");
    local["spec"]["internalTrafficPolicy"] = "Local".into();
    local["spec"]["sessionAffinity"] = "ClientIP".into();
    local["spec"]["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 60}});
    let mut draining = slice("web-2", "web", &["10.0.0.3"]);
    draining["endpoints"][0]["conditions"] =
        json!({"ready": false, "serving": true, "terminating": true});
    let mut foreign = service("foreign", "0.32");
    foreign["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "other"});
    let mut cidr = service_cidr("kubernetes", "10.96.0.0/16");
    cidr["spec"]["cidrs"] = json!(["10.96.0.0/16", "fd00:96::/112"]);
    vec![
        node(NODE, "a"),
        cidr,
        service("web", "0.20"),
        slice("web-1", "web", &["10.0.0.1", "10.0.0.2"]),
        draining,
        dual,
        slice("dual-4", "dual", &["10.0.1.1"]),
        dual_6,
        local,
        slice("local-1", "local", &["10.0.2.1"]),
        foreign,
    ]
}

/// What the maps say after the manifests source has read `list`.
fn through_manifests(list: &Value, node: &str) -> Meaning {
    let directory = Path::new("cluster");
    let mut manifests = Manifests::new(directory, node, ServiceCidrs::default(), Vec::new());
    let content = Content::Bytes(list.to_string().into_bytes());
    let update = manifests.update(BTreeMap::from([("all.json".to_owned(), content)]));
    assert_eq!(update.problems, []);
    let mut reconciler = control_plane(node);
    update
        .events
        .into_iter()
        .for_each(|event| reconciler.handle(event));
    settle(&mut reconciler);
    Meaning::of(reconciler.maps())
}

/// What the maps say when the kube source has read the items of `list`.
async fn come_both_ways_to_the_same(list: &Value, node: &str) {
    let double = Double::start().await;
    for object in list["items"].as_array().expect("a List") {
        if ["Service", "EndpointSlice", "Node", "ServiceCIDR"]
            .contains(&object["kind"].as_str().expect("a kind"))
        {
            double.put(object);
        }
    }
    let expected = without_headless(through_manifests(list, node));
    assert!(!expected.frontends.is_empty());
    let options = Options {
        node: node.to_owned(),
        ..options(double.url())
    };
    let mut agent = Agent::start(&options).await;
    agent.until("all is well", Agent::is_well).await;
    assert_eq!(agent.meaning(), expected);
}

/// Headless Services never come over the wire (rule 1) and have but a name in the maps.
fn without_headless(mut meaning: Meaning) -> Meaning {
    meaning
        .records
        .retain(|record| !record.ends_with(" Headless"));
    meaning
}

#[tokio::test]
async fn the_same_objects_give_the_same_maps_whichever_way_they_come() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects()});
    come_both_ways_to_the_same(&list, NODE).await;
}

#[tokio::test]
async fn what_kubectl_prints_gives_the_maps_that_the_api_server_gives() {
    let list = include_str!("../rules/corpus/kubectl-get.json");
    let list: Value = serde_json::from_str(list).unwrap();
    let mut items = list["items"].as_array().unwrap().iter();
    let node = items.find(|object| object["kind"] == "Node").unwrap();
    come_both_ways_to_the_same(&list, node["metadata"]["name"].as_str().unwrap()).await;
}
