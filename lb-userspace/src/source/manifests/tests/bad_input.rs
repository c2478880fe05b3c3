//! Does every kind of nonsense give a message with line, object, field and value, and harm nothing else?

use super::*;

/// The one message for `text` between two sound Services, which must both be served; `text` must not.
fn message(text: &str) -> String {
    message_beside(text, &[])
}

/// The same, with what is said besides of `text`.
fn message_beside(text: &str, said: &[&str]) -> String {
    let update = read(
        DUAL,
        &(service("before", "") + text + &service("zafter", "")),
    );
    let expected = [&["init", "+before", "+zafter"], said, &["done"]].concat();
    assert_eq!(short(&update), expected, "{text}");
    let [message] = &messages(&update)[..] else {
        panic!("{text}: {:?}", messages(&update))
    };
    message.clone()
}

#[test]
fn services_are_checked() {
    for (spec, expected) in [
        (
            "ports: [{port: 70000}]",
            "10: {}spec.ports[0].port: 70000 is not a port (1..65535)",
        ),
        (
            "ports: [{port: 0}]",
            "10: {}spec.ports[0].port: 0 is not a port (1..65535)",
        ),
        (
            "ports: [{port: -1}]",
            "10: {}spec.ports[0].port: -1 is not a port (1..65535)",
        ),
        (
            "ports: [{port: http}]",
            "10: {}spec.ports[0].port: \"http\" is not a port (1..65535)",
        ),
        (
            "ports: [{port: '80'}]",
            "10: {}spec.ports[0].port: \"80\" is not a port (1..65535)",
        ),
        (
            "ports: [{port: 80.5}]",
            "10: {}spec.ports[0].port: 80.5 is not a port (1..65535)",
        ),
        ("ports: [{name: a}]", "10: {}spec.ports[0].port: missing"),
        (
            "ports: [{port: 80, nodePort: 99999}]",
            "10: {}spec.ports[0].nodePort: 99999 is not a port (1..65535)",
        ),
        (
            "ports: [{port: 80, protocol: ICMP}]",
            "10: {}spec.ports[0].protocol: \"ICMP\" is not a protocol (TCP, UDP, SCTP)",
        ),
        (
            "ports: [{port: 80, protocol: tcp}]",
            "10: {}spec.ports[0].protocol: \"tcp\" is not a protocol (TCP, UDP, SCTP)",
        ),
        (
            "ports: [{port: 80, name: a}, {port: 80, name: b}]",
            "10: {}spec.ports[1].port: 80/TCP is there twice",
        ),
        (
            "ports: [{port: 80, name: a}, {port: 81, name: a}]",
            "10: {}spec.ports[1].name: \"a\" is there twice",
        ),
        (
            "ports: [{port: 80}, {port: 81, name: a}]",
            "10: {}spec.ports[0].name: missing",
        ),
        (
            "ports: [{port: 80, name: A_B}]",
            "10: {}spec.ports[0].name: \"A_B\" is not a DNS label (a-z, 0-9 and inner -, at most 63 characters)",
        ),
        ("ports: {port: 80}", "10: {}spec.ports: a map is not a list"),
        ("ports: [80]", "10: {}spec.ports[0].port: missing"),
        ("ports: []", "10: {}spec.ports: missing"),
        (
            "type: Foo, ports: [{port: 80}]",
            "10: {}spec.type: \"Foo\" is not a Service type (ClusterIP, NodePort, LoadBalancer, ExternalName)",
        ),
        ("type: ExternalName", "10: {}spec.externalName: missing"),
        (
            "ipFamilies: [ipv4], ports: [{port: 80}]",
            "10: {}spec.ipFamilies[0]: \"ipv4\" is not a family (IPv4, IPv6)",
        ),
        (
            "ipFamilies: IPv4, ports: [{port: 80}]",
            "10: {}spec.ipFamilies: \"IPv4\" is not a list",
        ),
        (
            "clusterIP: 10.96.0.300, ports: [{port: 80}]",
            "10: {}spec.clusterIP: \"10.96.0.300\" is not an IP address",
        ),
        (
            "clusterIP: 5, ports: [{port: 80}]",
            "10: {}spec.clusterIP: 5 is not text",
        ),
    ] {
        let text = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: ns}}\nspec: {{{spec}}}\n"
        );
        let expected = expected.replace("{}", "Service ns/s: ");
        assert_eq!(message(&text), format!("dir/x.yaml:{expected}"), "{spec}");
    }
    let bare = "---\napiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    assert_eq!(
        message(bare),
        "dir/x.yaml:7: Service default/s: spec: missing"
    );
}

#[test]
fn slices_are_checked() {
    for (body, expected) in [
        ("endpoints: []", "{}addressType: missing"),
        (
            "addressType: IPv5",
            "{}addressType: \"IPv5\" is not a family (IPv4, IPv6)",
        ),
        (
            "addressType: IPv4\nports: [{port: 0}]",
            "{}ports[0].port: 0 is not a port (1..65535)",
        ),
        (
            "addressType: IPv4\nports: [{port: 1}, {port: 2}]",
            "{}ports[1].name: \"\" is there twice",
        ),
        (
            "addressType: IPv4\nports: [{port: 1, protocol: X}]",
            "{}ports[0].protocol: \"X\" is not a protocol (TCP, UDP, SCTP)",
        ),
    ] {
        let head = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\n";
        let message = message(&format!("{head}{body}\n"));
        let expected = expected.replace("{}", "EndpointSlice default/s: ");
        assert!(message.ends_with(&expected), "{body}: {message}");
    }
}

#[test]
fn an_endpoint_that_is_wrong_is_left_out_and_the_slice_counts() {
    for (body, expected) in [
        (
            "addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]",
            "{}endpoints[0].addresses[0]: \"fd00::1\" is not an IPv4 address",
        ),
        (
            "addressType: IPv6\nendpoints: [{addresses: [10.0.0.1]}]",
            "{}endpoints[0].addresses[0]: \"10.0.0.1\" is not an IPv6 address",
        ),
        (
            "addressType: IPv4\nendpoints: [{addresses: [web]}]",
            "{}endpoints[0].addresses[0]: \"web\" is not an IP address",
        ),
        (
            "addressType: IPv4\nendpoints: [{addresses: [127.0.0.1]}]",
            "{}endpoints[0].addresses[0]: \"127.0.0.1\" is a loopback address, which cannot be served",
        ),
        (
            "addressType: IPv6\nendpoints: [{addresses: ['fe80::1']}]",
            "{}endpoints[0].addresses[0]: \"fe80::1\" is a link-local address, which cannot be served",
        ),
        (
            "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: 1}}]",
            "{}endpoints[0].conditions.ready: 1 is not true or false",
        ),
        (
            "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hints: {forZones: [east]}}]",
            "{}endpoints[0].hints.forZones[0].name: missing",
        ),
        (
            "addressType: IPv4\nendpoints: [7]",
            "{}endpoints[0]: 7 is not a map",
        ),
    ] {
        let head = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: {kubernetes.io/service-name: a}}\n";
        let message = message_beside(&format!("{head}{body}\n"), &["+slice s"]);
        let expected = expected.replace("{}", "EndpointSlice default/s: ");
        assert!(message.ends_with(&expected), "{body}: {message}");
    }
}

#[test]
fn objects_are_recognised_or_reported() {
    for (text, expected) in [
        ("---\nkind: Service\n", "7: apiVersion: missing"),
        ("---\napiVersion: v1\n", "7: kind: missing"),
        ("---\n- a\n", "7: is not a map"),
        (
            "---\napiVersion: v1\nkind: Service\n",
            "7: metadata: missing",
        ),
        (
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: Web\n",
            "10: metadata.name: \"Web\" is not a DNS label (a-z, 0-9 and inner -, at most 63 characters)",
        ),
        (
            "---\napiVersion: v1\nkind: Node\nmetadata: {}\n",
            "9: metadata.name: missing",
        ),
    ] {
        assert_eq!(message(text), format!("dir/x.yaml:{expected}"), "{text}");
    }
}

#[test]
fn one_bad_item_of_a_list_leaves_the_others_alone() {
    let update = read(
        DUAL,
        r#"{"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
             "spec": {"ports": [{"port": 80}]}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"},
             "spec": {"ports": [
                {"port": 808080}]}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"},
             "spec": {"ports": [{"port": 80}]}}]}"#,
    );
    assert_eq!(short(&update), ["init", "+a", "+c", "done"]);
    let message = "Service default/b: spec.ports[0].port: 808080 is not a port (1..65535)";
    assert_eq!(messages(&update), [format!("dir/x.yaml:6: {message}")]);
}
