//! The reference against the rules, one by one.

use super::*;

const AROUND: Surroundings = Surroundings {
    cluster_ips: 3,
    load_balancers: 1,
    external_ips: 2,
    cni_masquerades: false,
};

const fn pod(node: u8, number: u8) -> Endpoint {
    Endpoint::Pod { node, number }
}

const fn caller(node: u8) -> Client {
    Client::Pod { node, number: 100 }
}

fn service(internal: Policy, external: Policy, endpoints: &[Endpoint]) -> Service {
    Service {
        internal,
        external,
        endpoints: endpoints.to_vec(),
    }
}

fn answered(all: &[(Endpoint, Seen)]) -> Fate {
    Fate::Answered(all.iter().copied().collect())
}

/// Endpoints on nodes 1 and 2, not on 3; both policies Local.
fn local() -> Service {
    service(Policy::Local, Policy::Local, &[pod(1, 10), pod(2, 10)])
}

const EXTERNAL: [Frontend; 3] = [
    Frontend::NodePort { node: 1 },
    Frontend::LoadBalancer,
    Frontend::ExternalIp,
];

#[test]
fn rule_40_no_endpoint_anywhere_is_refused_to_everybody() {
    let none = service(Policy::Local, Policy::Local, &[]);
    for client in [caller(1), Client::Host { node: 2 }, Client::Outside] {
        for frontend in [&EXTERNAL[..], &[Frontend::ClusterIp]].concat() {
            assert_eq!(fate(client, frontend, &none, &AROUND), Fate::Refused);
        }
    }
}

#[test]
fn rule_41_internal_policy_local_drops_where_no_endpoint_is() {
    let fate = |client| fate(client, Frontend::ClusterIp, &local(), &AROUND);
    assert_eq!(fate(caller(1)), answered(&[(pod(1, 10), Seen::Own)]));
    assert_eq!(fate(caller(3)), Fate::Dropped);
    assert_eq!(fate(Client::Host { node: 3 }), Fate::Denied);
    // It comes in at node 3.
    assert_eq!(fate(Client::Outside), Fate::Dropped);
}

#[test]
fn rule_42_external_policy_local_drops_outside_clients_and_serves_those_inside() {
    let at = Frontend::NodePort { node: 3 };
    let fate = |client| fate(client, at, &local(), &AROUND);
    assert_eq!(fate(Client::Outside), Fate::Dropped);
    assert_eq!(
        fate(caller(1)),
        Fate::Dropped,
        "another node's pods are outside"
    );
    let both = |seen| answered(&[(pod(1, 10), seen), (pod(2, 10), seen)]);
    assert_eq!(fate(caller(3)), both(Seen::Own));
    assert_eq!(fate(Client::Host { node: 3 }), both(Seen::Node(3)));
}

#[test]
fn rule_43_internal_policy_is_nothing_to_external_addresses_nor_the_other_way_round() {
    let far = [pod(2, 10)];
    let internal = service(Policy::Local, Policy::Cluster, &far);
    let external = service(Policy::Cluster, Policy::Local, &far);
    let at = Frontend::LoadBalancer;
    assert_eq!(
        fate(Client::Outside, at, &internal, &AROUND),
        answered(&[(pod(2, 10), Seen::Node(1))])
    );
    let cluster_ip = fate(Client::Outside, Frontend::ClusterIp, &external, &AROUND);
    assert_eq!(cluster_ip, answered(&[(pod(2, 10), Seen::Node(3))]));
}

#[test]
fn rule_44_masquerades_only_to_endpoints_on_other_nodes() {
    let all = service(
        Policy::Cluster,
        Policy::Cluster,
        &[pod(1, 10), Endpoint::Host { node: 1 }, pod(3, 10)],
    );
    let expected = answered(&[
        (pod(1, 10), Seen::Own),
        (Endpoint::Host { node: 1 }, Seen::Own),
        (pod(3, 10), Seen::Node(1)),
    ]);
    let fate = fate(Client::Outside, EXTERNAL[0], &all, &AROUND);
    assert_eq!(fate, expected);
}

#[test]
fn rules_45_and_46_local_endpoints_see_who_calls_from_outside() {
    for (frontend, node) in EXTERNAL.into_iter().zip([1, 1, 2]) {
        let fate = fate(Client::Outside, frontend, &local(), &AROUND);
        assert_eq!(fate, answered(&[(pod(node, 10), Seen::Own)]));
    }
}

#[test]
fn rule_56_pods_keep_their_address_and_others_do_not() {
    let one = service(Policy::Cluster, Policy::Cluster, &[pod(2, 10)]);
    let seen = |client| fate(client, Frontend::ClusterIp, &one, &AROUND);
    assert_eq!(seen(caller(1)), answered(&[(pod(2, 10), Seen::Own)]));
    let by_node = |node| answered(&[(pod(2, 10), Seen::Node(node))]);
    assert_eq!(seen(Client::Host { node: 1 }), by_node(1));
    assert_eq!(seen(Client::Outside), by_node(3));
}

#[test]
fn rule_57_a_pod_that_calls_itself_sees_its_node() {
    let own = service(Policy::Local, Policy::Local, &[pod(2, 10)]);
    let itself = Client::Pod {
        node: 2,
        number: 10,
    };
    for frontend in [
        Frontend::ClusterIp,
        Frontend::LoadBalancer,
        Frontend::NodePort { node: 2 },
    ] {
        let expected = answered(&[(pod(2, 10), Seen::Node(2))]);
        assert_eq!(fate(itself, frontend, &own, &AROUND), expected);
    }
    // By way of another node it is an outside client there.
    let cluster = service(Policy::Cluster, Policy::Cluster, &[pod(2, 10)]);
    let there = fate(itself, Frontend::NodePort { node: 1 }, &cluster, &AROUND);
    assert_eq!(there, answered(&[(pod(2, 10), Seen::Node(1))]));
}

#[test]
fn rules_62_to_65_node_ports_are_at_internal_ips_and_for_the_nodes_own_processes_everywhere() {
    let one = service(Policy::Cluster, Policy::Local, &[pod(1, 10)]);
    let fate = |client, frontend| fate(client, frontend, &one, &AROUND);
    let host = Client::Host { node: 2 };
    let secondary = Frontend::SecondaryAddress { node: 2 };
    let served = answered(&[(pod(1, 10), Seen::Node(2))]);
    assert_eq!(fate(host, secondary), served);
    assert_eq!(fate(host, Frontend::Loopback), served);
    assert_eq!(fate(caller(2), secondary), Fate::Refused);
    assert_eq!(fate(caller(2), Frontend::Loopback), Fate::Absent);
}

#[test]
fn rule_67_a_node_port_is_translated_by_the_node_that_has_the_address() {
    let one = service(Policy::Cluster, Policy::Local, &[pod(1, 10)]);
    // On its own node a pod would get the Cluster list; at node 2 it is from outside, and there is none.
    let there = fate(caller(1), Frontend::NodePort { node: 2 }, &one, &AROUND);
    assert_eq!(there, Fate::Dropped);
    let here = fate(caller(2), Frontend::NodePort { node: 1 }, &one, &AROUND);
    assert_eq!(here, answered(&[(pod(1, 10), Seen::Own)]));
}

#[test]
fn rule_100_a_load_balancers_address_works_inside_with_no_local_endpoint() {
    let far = service(Policy::Local, Policy::Local, &[pod(2, 10)]);
    let inside = fate(caller(3), Frontend::LoadBalancer, &far, &AROUND);
    assert_eq!(inside, answered(&[(pod(2, 10), Seen::Own)]));
    let outside = fate(Client::Outside, Frontend::LoadBalancer, &far, &AROUND);
    assert_eq!(outside, Fate::Dropped);
}

#[test]
fn a_masquerading_cni_hides_pods_from_who_is_no_pod() {
    let around = Surroundings {
        cni_masquerades: true,
        ..AROUND
    };
    let hosts = [Endpoint::Host { node: 1 }, Endpoint::Host { node: 2 }];
    let hosts = service(Policy::Cluster, Policy::Cluster, &hosts);
    let at_home = fate(caller(1), Frontend::ClusterIp, &hosts, &around);
    assert_eq!(
        at_home,
        answered(&[
            (Endpoint::Host { node: 1 }, Seen::Own),
            (Endpoint::Host { node: 2 }, Seen::Node(1)),
        ])
    );
    let pods = service(Policy::Cluster, Policy::Local, &[pod(1, 10)]);
    let through = fate(caller(2), Frontend::NodePort { node: 1 }, &pods, &around);
    assert_eq!(through, answered(&[(pod(1, 10), Seen::Node(2))]));
}
