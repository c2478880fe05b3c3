//! What concerns the cluster as a whole: the agent's node, ServiceCIDRs, and objects from real clusters.

use super::*;
use crate::model::TrafficPolicy;

/// A Service of `name` with an address in 10.97/16.
fn outside(name: &str) -> String {
    service(name, "clusterIP: 10.97.0.5")
}

const MORE: &str = "---\napiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\nspec: {cidrs: [10.97.0.0/16]}\n";

#[test]
fn only_the_agents_own_node_counts_rule_4() {
    let node = |name: &str, zone: &str| {
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, uid: u-{name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n"
        )
    };
    let mut manifests = directory(DUAL, Vec::new());
    let text = node("node-2", "a") + &node("node-1", "b");
    let update = write(&mut manifests, &[("x.yaml", &text)]);
    assert_eq!(short(&update), ["init", "+node node-1", "done"]);
    let applied = |update: &Update| {
        update.events.iter().find_map(|event| match event {
            Event::ApplyNode(node) => node.zone.clone(),
            _ => None,
        })
    };
    assert_eq!(applied(&update).as_deref(), Some("b"));
    let text = node("node-2", "c") + &node("node-1", "b");
    assert_eq!(short(&write(&mut manifests, &[("x.yaml", &text)])), [""; 0]);
    let text = node("node-2", "c") + &node("node-1", "d");
    let update = write(&mut manifests, &[("x.yaml", &text)]);
    assert_eq!(applied(&update).as_deref(), Some("d"));
    let update = write(&mut manifests, &[("x.yaml", &node("node-2", "c"))]);
    assert_eq!(short(&update), ["-node node-1"]);
}

#[test]
fn a_node_is_read_with_what_concerns_the_agent() {
    let update = read(
        DUAL,
        "apiVersion: v1
kind: Node
metadata: {name: node-1, uid: u-1}
spec:
  podCIDR: 10.244.1.0/24
  podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']
  taints:
  - {key: ToBeDeletedByClusterAutoscaler, value: '1', effect: NoSchedule}
status:
  addresses:
  - {type: Hostname, address: node-1}
  - {type: ExternalIP, address: 203.0.113.7}
  - {type: InternalIP, address: 192.168.1.11}
  - {type: InternalIP, address: 'fd00::11'}
",
    );
    assert_eq!(messages(&update), [""; 0]);
    let expected = crate::model::Node {
        name: "node-1".into(),
        zone: None,
        addresses: ["192.168.1.11", "fd00::11", "203.0.113.7"]
            .map(|ip| ip.parse().unwrap())
            .into(),
        pod_cidrs: ["10.244.1.0/24", "fd00:10:244:1::/64"]
            .map(|net| net.parse().unwrap())
            .into(),
        is_leaving: true,
        uid: "u-1".into(),
    };
    assert!(update.events.contains(&Event::ApplyNode(expected)));
}

#[test]
fn the_flag_is_the_range_called_kubernetes_unless_an_object_is() {
    let of = |update: &Update| {
        let mut cidrs = Vec::new();
        for event in &update.events {
            if let Event::ApplyServiceCidr(cidr) = event {
                cidrs.push(format!("{} {:?}", cidr.name, cidr.cidrs));
            }
        }
        cidrs
    };
    assert_eq!(
        of(&read(DUAL, MORE)),
        [
            "kubernetes [10.96.0.0/16, fd00:10:96::/112]",
            "more [10.97.0.0/16]"
        ]
    );
    assert_eq!(of(&read("", MORE)), ["more [10.97.0.0/16]"]);
    let object = MORE.replace("more", "kubernetes");
    assert_eq!(of(&read(DUAL, &object)), ["kubernetes [10.97.0.0/16]"]);
    assert_eq!(of(&read("", "")), [""; 0]);
}

#[test]
fn addresses_may_be_of_any_range_and_are_assigned_from_the_flags() {
    let update = read(DUAL, &(outside("a") + MORE + &service("b", "")));
    assert_eq!(messages(&update), [""; 0]);
    assert_eq!(
        services(&update)["a"].cluster_ips[0].to_string(),
        "10.97.0.5"
    );
    let assigned = services(&update)["b"].cluster_ips[0].to_string();
    assert!(assigned.starts_with("10.96."), "{assigned}");

    let update = read(DUAL, &outside("a"));
    assert_eq!(
        messages(&update),
        [
            "dir/x.yaml:5: Service default/a: spec.clusterIP: 10.97.0.5 is outside the service range 10.96.0.0/16"
        ]
    );
}

#[test]
fn without_the_flag_addresses_are_assigned_from_the_objects_one_after_the_other() {
    let small = MORE.replace("10.97.0.0/16", "10.97.0.0/30");
    let default = small
        .replace("more", "kubernetes")
        .replace("10.97", "10.96");
    let names = ["a", "b", "c", "d"];
    let wanted: String = names.iter().map(|name| service(name, "")).collect();
    let update = read("", &(wanted + &small + &default));
    // Each has room for two, one of which is for default/kubernetes.
    let message = &messages(&update)[..];
    let served = services(&update);
    let ips: Vec<String> = served
        .values()
        .map(|s| s.cluster_ips[0].to_string())
        .collect();
    assert_eq!(ips, ["10.96.0.2", "10.97.0.2"]);
    assert_eq!(message.len(), 2, "{message:?}");
    assert!(
        message[0]
            .ends_with("missing, and the service range 10.96.0.0/30 has no free address left"),
        "{message:?}"
    );
}

#[test]
fn how_clients_reach_a_service_is_read_with_the_api_servers_defaults() {
    let update = read(
        "",
        "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  internalTrafficPolicy: Local
  externalTrafficPolicy: Local
  healthCheckNodePort: 31000
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  externalIPs: [203.0.113.041, 'fd00::9', 203.0.113.41]
  loadBalancerSourceRanges: [' 10.0.0.0/8', '', '010.1.0.0/16 ', 'fd00::/8']
  ports: [{port: 80, nodePort: 30080}]
status:
  loadBalancer:
    ingress:
    - hostname: lb.example.org
    - {ip: 198.51.100.1}
    - {ip: 198.51.100.2, ipMode: VIP}
    - {ip: 198.51.100.3, ipMode: Proxy}
",
    );
    assert_eq!(messages(&update), [""; 0]);
    let web = &services(&update)["web"];
    let text = |list: Vec<String>| list.join(" ");
    assert_eq!(web.internal_policy, TrafficPolicy::Local);
    assert_eq!(web.external_policy, TrafficPolicy::Local);
    assert_eq!(web.affinity, Some(60));
    assert_eq!(web.health_check_node_port, Some(31000), "rule 27");
    assert_eq!(web.ports[0].node_port, 30080);
    let ips = web.external_ips.iter().map(ToString::to_string).collect();
    assert_eq!(text(ips), "203.0.113.41 fd00::9", "rule 20");
    let ips = web.load_balancer_ips.iter().map(ToString::to_string);
    assert_eq!(text(ips.collect()), "198.51.100.1 198.51.100.2", "rule 24");
    let ranges = web.source_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(text(ranges), "10.0.0.0/8 10.1.0.0/16 fd00::/8", "rule 20");

    let update = read(
        DUAL,
        &(service(
            "plain",
            "externalTrafficPolicy: Local, healthCheckNodePort: 31000",
        ) + &service("sticky", "sessionAffinity: ClientIP")
            + &service(
                "named",
                "type: NodePort, externalTrafficPolicy: Local, healthCheckNodePort: 31000",
            )),
    );
    let served = services(&update);
    assert_eq!(messages(&update), [""; 0]);
    let plain = &served["plain"];
    assert_eq!(plain.internal_policy, TrafficPolicy::Cluster);
    assert_eq!(
        plain.external_policy,
        TrafficPolicy::Cluster,
        "it has no meaning"
    );
    assert_eq!((plain.affinity, plain.health_check_node_port), (None, None));
    assert_eq!(served["sticky"].affinity, Some(10_800), "rule 28");
    assert_eq!(served["named"].external_policy, TrafficPolicy::Local);
    assert_eq!(served["named"].health_check_node_port, None, "rule 27");
}

#[test]
fn what_stands_for_itself_is_left_out_and_told_of_and_the_rest_counts() {
    let bad = "externalIPs: [web, 127.0.0.1, 203.0.113.1], loadBalancerSourceRanges: [10.0.0.0/33, 10.0.0.0/8]";
    let text = service("a", bad).replace(
        "\nspec:",
        "\nstatus: {loadBalancer: {ingress: [{ip: x}, {ip: 198.51.100.1}]}}\nspec:",
    );
    let slice = "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
endpoints:
- addresses: [10.0.0.300]
- addresses: [10.0.0.1]
";
    let update = read(DUAL, &(text + slice));
    let told: Vec<String> = messages(&update)
        .iter()
        .map(|message| message.split_once(": ").unwrap().1.to_owned())
        .collect();
    assert_eq!(
        told,
        [
            "Service default/a: status.loadBalancer.ingress[0].ip: \"x\" is not an IP address",
            "Service default/a: spec.externalIPs[0]: \"web\" is not an IP address",
            "Service default/a: spec.externalIPs[1]: \"127.0.0.1\" is a loopback address, which cannot be served",
            "Service default/a: spec.loadBalancerSourceRanges[0]: \"10.0.0.0/33\" is not a network such as 10.0.0.0/8",
            "EndpointSlice default/a-1: endpoints[0].addresses[0]: \"10.0.0.300\" is not an IP address",
        ]
    );
    let a = &services(&update)["a"];
    assert_eq!(
        (
            a.external_ips.len(),
            a.load_balancer_ips.len(),
            a.source_ranges.len()
        ),
        (1, 1, 1)
    );
    let endpoints = update.events.iter().find_map(|event| match event {
        Event::ApplySlice(slice) => Some(slice.endpoints.len()),
        _ => None,
    });
    assert_eq!(endpoints, Some(1));
}

#[test]
fn values_that_cannot_be_are_named() {
    for (spec, expected) in [
        (
            "internalTrafficPolicy: local",
            "spec.internalTrafficPolicy: \"local\" is not a traffic policy (Cluster, Local)",
        ),
        (
            "sessionAffinity: Cookie",
            "spec.sessionAffinity: \"Cookie\" is not an affinity (None, ClientIP)",
        ),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not a number of seconds (1..86400)",
        ),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not a number of seconds (1..86400)",
        ),
        (
            "externalIPs: 203.0.113.1",
            "spec.externalIPs: \"203.0.113.1\" is not a list",
        ),
    ] {
        let update = read(DUAL, &service("a", spec));
        let message = messages(&update).concat();
        assert!(message.ends_with(expected), "{spec}: {message}");
        assert!(services(&update).is_empty(), "{spec}");
    }
}
