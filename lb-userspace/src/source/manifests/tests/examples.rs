//! Are the examples in the repository sound, and each case of the dual-stack model and of choosing endpoints among them?

use std::{fs, path::PathBuf};

use super::*;

#[test]
fn every_example_is_served_as_it_says() {
    let directory_path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory_path).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            files.insert(name, Content::Bytes(fs::read(path).unwrap()));
        }
    }
    let update = directory(DUAL, Vec::new()).update(files);
    assert_eq!(messages(&update), [""; 0]);
    let services = services(&update);
    let shown: Vec<String> = services
        .values()
        .map(|service| {
            let families: Vec<&str> = service
                .ip_families
                .iter()
                .map(|family| family.name())
                .collect();
            let policy = service
                .ip_family_policy
                .map_or("-".to_owned(), |policy| policy.to_string());
            let ports = service.ports.len();
            let addresses = service.cluster_ips.len();
            format!(
                "{} {} {policy} {} {ports} {addresses}",
                service.key,
                service.kind,
                families.join(",")
            )
        })
        .collect();
    assert_eq!(shown, EXPECTED);
    // Each served Service has endpoints of each of its families, ready or not, on every node.
    for service in services.values().filter(|service| service.kind.is_served()) {
        for family in &service.ip_families {
            let mut nodes: Vec<String> = Vec::new();
            for event in &update.events {
                if let Event::ApplySlice(slice) = event
                    && (&slice.service, &slice.key.namespace)
                        == (&service.key.name, &service.key.namespace)
                    && slice.family == *family
                {
                    nodes.extend(
                        slice
                            .endpoints
                            .iter()
                            .filter_map(|endpoint| endpoint.node.clone()),
                    );
                    for port in &service.ports {
                        let matches = |p: &&crate::model::SlicePort| {
                            (&p.name, p.protocol) == (&port.name, port.protocol)
                        };
                        assert!(
                            slice.ports.iter().find(matches).is_some(),
                            "{}: {}",
                            slice.key,
                            port.name
                        );
                    }
                }
            }
            nodes.sort();
            nodes.dedup();
            // These are about a node without.
            let count = match &*service.key.name {
                "internal-traffic-policy-local" | "load-balancer" => 2,
                _ => 3,
            };
            assert_eq!(
                nodes,
                ["node-1", "node-2", "node-3"][..count],
                "{} {family}",
                service.key
            );
        }
    }
}

/// Service, kind, policy, families, number of ports, number of addresses.
const EXPECTED: [&str; 20] = [
    "default/all-terminating ClusterIP PreferDualStack IPv4,IPv6 1 2",
    "default/explicit-cluster-ip ClusterIP RequireDualStack IPv4,IPv6 2 2",
    "default/external-ips ClusterIP PreferDualStack IPv4,IPv6 1 2",
    "default/external-name ExternalName -  0 0",
    "default/headless-with-selector Headless SingleStack IPv4 1 0",
    "default/headless-without-selector Headless RequireDualStack IPv4,IPv6 1 0",
    "default/internal-traffic-policy-local ClusterIP PreferDualStack IPv4,IPv6 1 2",
    "default/ipv4-first ClusterIP RequireDualStack IPv4,IPv6 1 2",
    "default/ipv6-first ClusterIP PreferDualStack IPv6,IPv4 1 2",
    "default/load-balancer LoadBalancer PreferDualStack IPv4,IPv6 1 2",
    "default/multi-port ClusterIP PreferDualStack IPv4,IPv6 3 2",
    "default/no-endpoints ClusterIP PreferDualStack IPv4,IPv6 1 2",
    "default/node-port NodePort PreferDualStack IPv4,IPv6 1 2",
    "default/prefer-dual-stack ClusterIP PreferDualStack IPv4,IPv6 1 2",
    "default/require-dual-stack ClusterIP RequireDualStack IPv4,IPv6 1 2",
    "default/session-affinity ClusterIP PreferDualStack IPv4,IPv6 1 2",
    "default/single-stack-ipv4 ClusterIP SingleStack IPv4 1 1",
    "default/single-stack-ipv6 ClusterIP SingleStack IPv6 1 1",
    "default/terminating ClusterIP PreferDualStack IPv4,IPv6 1 2",
    "default/topology-hints ClusterIP PreferDualStack IPv4,IPv6 1 2",
];
