//! What `kubectl get svc,endpointslices,nodes -A -o json` prints is taken unchanged.
//!
//! The file is put together after what clusters made by kubeadm print, with everything beside the point that is
//! there: managed fields, Windows nodes, hints, headless and foreign Services, slices of host names, fields that
//! are null.

use std::net::IpAddr;

use duolb::model::{ObjectKey, TrafficPolicy};

use crate::{
    cases::{Client, Outcome},
    judge::Agent,
};

fn agent(node: &str) -> Agent {
    let mut agent = Agent::new(node);
    agent.read_text(include_str!("corpus/kubectl-get.json").to_owned());
    agent
}

fn answer(agent: &Agent, vip: &str, port: u16, protocol: u8) -> String {
    let vip: IpAddr = vip.parse().unwrap();
    match agent.answer(Client::Pod, vip, port, protocol) {
        Outcome::Answered(endpoints, sticky) => {
            let mut words: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
            words.extend((sticky != 0).then(|| format!("sticky={sticky}")));
            words.join(" ")
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn every_service_of_a_real_cluster_is_served_as_its_objects_say() {
    let (east, west, control) = (agent("worker-1"), agent("worker-2"), agent("control-1"));
    for (agent, vip, port, protocol, expected) in [
        (&east, "10.96.0.1", 443, 6, "192.168.10.11:6443"),
        (&east, "10.96.0.10", 53, 17, "10.244.1.7:53"),
        (&west, "10.96.0.10", 53, 6, "10.244.2.9:53"),
        (
            &control,
            "10.96.0.10",
            9153,
            6,
            "10.244.1.7:9153 10.244.2.9:9153",
        ),
        // One endpoint of port "http" has no hint for nodes, none of "https" is without.
        (
            &east,
            "10.96.211.4",
            80,
            6,
            "10.244.1.30:8080 10.244.1.31:8081",
        ),
        (&east, "10.96.211.4", 443, 6, "10.244.1.30:8443"),
        (
            &control,
            "10.96.211.4",
            443,
            6,
            "10.244.1.30:8443 10.244.2.30:8443",
        ),
        (&east, "10.96.211.4", 8443, 6, "Refused"),
        (&east, "10.96.17.2", 443, 6, "10.244.2.40:8443"),
        (
            &east,
            "fd00:10:96::1702",
            443,
            6,
            "[fd00:10:244:2::40]:8443",
        ),
        (
            &east,
            "10.96.93.121",
            8080,
            6,
            "10.244.1.50:8080 sticky=600",
        ),
        (
            &east,
            "fd00:10:96::7f3",
            9100,
            6,
            "[fd00:10:244:1::100]:9100",
        ),
        (
            &west,
            "fd00:10:96::7f3",
            9100,
            6,
            "[fd00:10:244:2::100]:9100",
        ),
        (&control, "fd00:10:96::7f3", 9100, 6, "Dropped"),
        (&east, "10.96.93.122", 80, 6, "Passed"),
        (&east, "10.96.3.3", 80, 6, "10.244.2.60:80"),
        (&east, "10.96.3.4", 132, 132, "Refused"),
    ] {
        assert_eq!(
            answer(agent, vip, port, protocol),
            expected,
            "{vip}:{port}/{protocol}"
        );
    }
}

#[test]
fn what_the_datapath_does_not_need_yet_is_known_as_well() {
    let agent = agent("worker-2");
    let index = agent.index();
    let edge = index.find_service(&ObjectKey::new("shop", "edge")).unwrap();
    let text = |ips: &[IpAddr]| {
        let words: Vec<String> = ips.iter().map(ToString::to_string).collect();
        words.join(" ")
    };
    assert_eq!(text(&edge.load_balancer_ips), "198.51.100.7 2001:db8:1::7");
    assert_eq!(edge.source_ranges.len(), 2);
    assert_eq!(edge.external_policy, TrafficPolicy::Local);
    assert_eq!(edge.health_check_node_port, Some(32441));
    let front = index
        .find_service(&ObjectKey::new("shop", "front"))
        .unwrap();
    assert_eq!(text(&front.load_balancer_ips), "");
    assert_eq!(
        front.source_ranges,
        [],
        "kube-proxy does not read the annotation"
    );
    let admin = index
        .find_service(&ObjectKey::new("shop", "admin"))
        .unwrap();
    assert_eq!(text(&admin.external_ips), "203.0.113.10");
    let node = index.node().expect("the agent's node");
    assert_eq!(
        (node.zone.as_deref(), node.is_leaving),
        (Some("west"), true)
    );
    assert_eq!(
        (text(&node.addresses).as_str(), node.pod_cidrs.len()),
        ("192.168.10.22", 2)
    );
}
