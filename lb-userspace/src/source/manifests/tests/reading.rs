//! Is what users write and what kubectl prints understood?

use std::time::{Duration, Instant};

use lb_common::address::Family;

use super::*;
use crate::model::{
    Conditions, EndpointSlice, Hints, ObjectKey, Protocol, ServiceKind, ServicePort, SliceEndpoint,
    SlicePort,
};

fn slices(update: &Update) -> Vec<EndpointSlice> {
    let applied = update.events.iter().filter_map(|event| match event {
        Event::ApplySlice(slice) => Some(slice.clone()),
        _ => None,
    });
    applied.collect()
}

#[test]
fn a_service_as_kubectl_prints_it_is_read() {
    let update = read(
        DUAL,
        "apiVersion: v1
kind: Service
metadata:
  creationTimestamp: \"2026-11-01T00:00:00Z\"
  labels:
    app: web
  name: web
  namespace: shop
  resourceVersion: \"123\"
spec:
  clusterIP: 10.96.0.10
  clusterIPs:
  - 10.96.0.10
  - fd00:10:96::a
  internalTrafficPolicy: Cluster
  ipFamilies:
  - IPv4
  - IPv6
  ipFamilyPolicy: PreferDualStack
  ports:
  - name: http
    nodePort: 30080
    port: 80
    protocol: TCP
    targetPort: web
  - name: dns
    port: 80
    protocol: UDP
    targetPort: 8081
  selector:
    app: web
  sessionAffinity: None
  type: NodePort
status:
  loadBalancer: {}
",
    );
    assert_eq!(messages(&update), [""; 0]);
    let port = |name: &str, protocol, node_port| ServicePort {
        name: name.to_owned(),
        protocol,
        port: 80,
        node_port,
    };
    assert_eq!(
        services(&update)["web"],
        Service {
            key: ObjectKey::new("shop", "web"),
            kind: ServiceKind::NodePort,
            ip_family_policy: Some(crate::model::IpFamilyPolicy::PreferDualStack),
            ip_families: vec![Family::V4, Family::V6],
            cluster_ips: vec![
                "10.96.0.10".parse().unwrap(),
                "fd00:10:96::a".parse().unwrap()
            ],
            ports: vec![
                port("http", Protocol::Tcp, 30080),
                port("dns", Protocol::Udp, 0)
            ],
            ..Service::default()
        }
    );
}

#[test]
fn a_slice_is_read_with_the_defaults_of_its_conditions() {
    let update = read(
        DUAL,
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web.x-abc12
  labels: {kubernetes.io/service-name: web}
  annotations: {endpoints.kubernetes.io/last-change-trigger-time: '2026-11-01T00:00:00.25Z'}
addressType: IPv4
ports:
- {name: '', port: 8080, protocol: TCP}
- {name: all}
- {name: dns, port: 5353, protocol: UDP}
endpoints:
- addresses: [172.30.0.041, 10.0.0.2]
  nodeName: node-1
  hints: {forZones: [{name: east}, {name: west}], forNodes: [{name: node-2}]}
- addresses: []
- addresses: [10.0.0.3]
  conditions: {ready: false, terminating: true}
- addresses: [10.0.0.4]
  conditions: {ready: null, serving: false}
",
    );
    assert_eq!(messages(&update), [""; 0]);
    let endpoint = |ip: &str, conditions, node: Option<&str>| SliceEndpoint {
        address: ip.parse().unwrap(),
        conditions,
        node: node.map(str::to_owned),
        hints: node.map_or_else(Hints::default, |_| Hints {
            nodes: vec!["node-2".to_owned()],
            zones: vec!["east".to_owned(), "west".to_owned()],
        }),
    };
    let conditions = |ready, serving, terminating| Conditions {
        ready,
        serving,
        terminating,
    };
    let port = |name: &str, protocol, port| SlicePort {
        name: name.to_owned(),
        protocol,
        port,
    };
    let expected = EndpointSlice {
        key: ObjectKey::new("default", "web.x-abc12"),
        service: "web".to_owned(),
        family: Family::V4,
        // Rule 11: a port without a number is left out.
        ports: vec![
            port("", Protocol::Tcp, 8080),
            port("dns", Protocol::Udp, 5353),
        ],
        endpoints: vec![
            // Rules 12 and 20: the first address only, canonical; rule 15: defaults.
            endpoint("172.30.0.41", conditions(true, true, false), Some("node-1")),
            endpoint("10.0.0.3", conditions(false, true, true), None),
            endpoint("10.0.0.4", conditions(true, false, false), None),
        ],
        // Rule 88: 2026-11-01T00:00:00.25Z.
        triggered: Some(1_793_491_200_250),
    };
    assert_eq!(slices(&update), [expected]);
}

#[test]
fn objects_that_are_none_of_our_business_are_passed_over_quietly() {
    for text in [
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: x}\n",
        "apiVersion: v1\nkind: Node\nmetadata: {name: node-2}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n",
        "apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: x}}]\n",
        "apiVersion: v1\nkind: List\nitems: []\n",
        "apiVersion: v1\nkind: List\n",
        // Rules 13 and 14.
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x}\naddressType: IPv4\n",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: x, labels: {kubernetes.io/service-name: w}}\naddressType: FQDN\nendpoints: [{addresses: [example.org]}]\n",
        "",
        "# nothing\n---\n",
    ] {
        let update = read(DUAL, text);
        assert_eq!(
            (short(&update), messages(&update).len()),
            (vec!["init".into(), "done".into()], 0),
            "{text}"
        );
    }
}

#[test]
fn lists_are_opened_whatever_their_form() {
    let json = r#"{"apiVersion": "v1", "kind": "ServiceList", "items": [
        {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"ports": [{"port": 80}]}}]}"#;
    let yaml = "apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ServiceList
  items:
  - metadata: {name: a}
    spec: {ports: [{port: 80}]}
- apiVersion: apps/v1
  kind: Deployment
- apiVersion: v1
  kind: Service
  metadata: {name: b}
  spec: {ports: [{port: 80}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSliceList
  items: []
";
    for text in [json, yaml] {
        let update = read(DUAL, text);
        assert_eq!(short(&update), ["init", "+a", "+b", "done"]);
        assert_eq!(messages(&update), [""; 0]);
    }
}

#[test]
fn anchors_and_aliases_are_understood() {
    let text = service("a", "selector: &app {app: x}")
        + &service("b", "").replace(
            "{port: 80}",
            "&p {port: 80, name: a}, {<<: *p, name: b, port: 81}",
        );
    let update = read(DUAL, &text);
    assert_eq!(messages(&update), [""; 0]);
    assert_eq!(services(&update)["b"].ports.len(), 2);
}

#[test]
fn large_files_are_read_in_a_moment() {
    let mut text = String::new();
    for slice in 0..500 {
        text += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: s{slice}\n  labels: {{kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{{port: 80}}]\nendpoints:\n"
        );
        for endpoint in 0..100 {
            text += &format!(
                "- addresses:\n  - 10.{}.{}.{endpoint}\n  conditions:\n    ready: true\n    serving: true\n    terminating: false\n  nodeName: node-1\n",
                slice / 250,
                slice % 250
            );
        }
    }
    assert!(text.len() > 5 << 20, "{}", text.len());
    let started = Instant::now();
    let update = read(DUAL, &text);
    assert_eq!((slices(&update).len(), messages(&update).len()), (500, 0));
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    eprintln!("{} bytes of YAML in {:?}", text.len(), started.elapsed());
}
