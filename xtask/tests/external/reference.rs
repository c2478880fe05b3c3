//! What the rules say of a new flow, written straight from them: who may answer, and whom he sees.
//!
//! Pure, and knows nothing of maps or packets: numbers of nodes and pods in, a [`Fate`] out. It is to be read
//! beside docs/semantics.md; what a cell of the table expects comes from here and from nowhere else.
//!
//! One thing is ours: rule 44 masquerades always, we keep the client's address where the endpoint is on the node
//! that translates, because the answer comes back there by itself.

use std::collections::{BTreeMap, BTreeSet};

/// Which endpoints a policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policy {
    /// Those of all nodes.
    Cluster,
    /// Those of the node that translates.
    Local,
}

/// Where an endpoint is, and so what its address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Endpoint {
    /// A pod of a node.
    Pod { node: u8, number: u8 },
    /// A process of the node itself, with the node's address.
    Host { node: u8 },
}

impl Endpoint {
    /// The node it runs on (rule 16).
    pub(crate) const fn node(self) -> u8 {
        match self {
            Self::Pod { node, .. } | Self::Host { node } => node,
        }
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    /// A pod of a node.
    Pod { node: u8, number: u8 },
    /// A process of the node itself, or a host-network pod there.
    Host { node: u8 },
    /// No one of the cluster.
    Outside,
}

impl Client {
    /// The node it runs on.
    pub(crate) const fn node(self) -> Option<u8> {
        match self {
            Self::Pod { node, .. } | Self::Host { node } => Some(node),
            Self::Outside => None,
        }
    }

    /// Whether the endpoint has the client's very address.
    fn is(self, endpoint: Endpoint) -> bool {
        match (self, endpoint) {
            (Self::Pod { node, number }, Endpoint::Pod { node: n, number: m }) => {
                (node, number) == (n, m)
            }
            (Self::Host { node }, Endpoint::Host { node: other }) => node == other,
            _ => false,
        }
    }
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Frontend {
    /// The Service's own address.
    ClusterIp,
    /// The node port, at the InternalIP of a node.
    NodePort { node: u8 },
    /// The node port, at a loopback address: of the caller's own node.
    Loopback,
    /// The node port, at an address of a node that is not its InternalIP.
    SecondaryAddress { node: u8 },
    /// A load balancer's address.
    LoadBalancer,
    /// One of `externalIPs`.
    ExternalIp,
}

/// What of a Service matters here.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// `internalTrafficPolicy`.
    pub(crate) internal: Policy,
    /// `externalTrafficPolicy`.
    pub(crate) external: Policy,
    /// All of them are ready.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// What is around the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    /// The node that the network routes cluster IPs to, for who is outside.
    pub(crate) cluster_ips: u8,
    /// The same for load balancers' addresses.
    pub(crate) load_balancers: u8,
    /// The same for `externalIPs`.
    pub(crate) external_ips: u8,
    /// A CNI gives pods their node's address towards whoever is no pod.
    pub(crate) cni_masquerades: bool,
}

/// Whose address an endpoint sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// The client's own.
    Own,
    /// One of a node.
    Node(u8),
}

/// What becomes of a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// One of these answers and sees that.
    Answered(BTreeMap<Endpoint, Seen>),
    /// The client hears at once that there is no one.
    Refused,
    /// The client hears nothing.
    Dropped,
    /// Likewise; but the client is a process of the node that translates, and is told at once that it may not
    /// (EPERM), as it would be by a rule in netfilter's OUTPUT.
    Denied,
    /// No way leads there from the client: nobody is asked.
    Absent,
}

/// Who the client is to the node that translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    LocalPod,
    ThisNode,
    External,
}

/// What becomes of a new flow of `client` to `frontend` of `service`.
pub(crate) fn fate(
    client: Client,
    frontend: Frontend,
    service: &Service,
    around: &Surroundings,
) -> Fate {
    let Some(translator) = translator(client, frontend, around) else {
        return Fate::Absent;
    };
    let standing = match client {
        Client::Pod { node, .. } if node == translator => Standing::LocalPod,
        Client::Host { node } if node == translator => Standing::ThisNode,
        _ => Standing::External,
    };
    // Rules 64 and 62: by default a node port is at the InternalIP alone, so at another address there is no
    // frontend, and the node has no socket there (rule 55). Its own processes are served all the same.
    if matches!(frontend, Frontend::SecondaryAddress { .. }) && standing != Standing::ThisNode {
        return Fate::Refused;
    }
    // Rule 40, whatever the policy.
    if service.endpoints.is_empty() {
        return Fate::Refused;
    }
    let list: BTreeSet<Endpoint> = match list(frontend, standing, service) {
        Policy::Cluster => service.endpoints.iter().copied().collect(),
        Policy::Local => {
            let all = service.endpoints.iter().copied();
            all.filter(|endpoint| endpoint.node() == translator)
                .collect()
        }
    };
    // Rules 41 and 42: there are endpoints, only not here.
    if list.is_empty() {
        return match standing {
            Standing::ThisNode => Fate::Denied,
            Standing::LocalPod | Standing::External => Fate::Dropped,
        };
    }
    let seen = |endpoint| {
        let seen = seen(client, endpoint, translator, standing, around);
        (endpoint, seen)
    };
    Fate::Answered(list.into_iter().map(seen).collect())
}

/// The node that translates: the client's own if it knows the address (rule 67: of node ports only its own),
/// else the one that the packet comes to.
fn translator(client: Client, frontend: Frontend, around: &Surroundings) -> Option<u8> {
    let routed = match frontend {
        Frontend::NodePort { node } => return Some(node),
        // Pods have loopback addresses of their own (rule 65), and nobody routes there.
        Frontend::Loopback => {
            return match client {
                Client::Host { node } => Some(node),
                _ => None,
            };
        }
        // It is in the network of that node's pods.
        Frontend::SecondaryAddress { node } => return Some(node),
        Frontend::ClusterIp => around.cluster_ips,
        Frontend::LoadBalancer => around.load_balancers,
        Frontend::ExternalIp => around.external_ips,
    };
    Some(client.node().unwrap_or(routed))
}

/// Which list is chosen from (rules 43 and 45).
fn list(frontend: Frontend, standing: Standing, service: &Service) -> Policy {
    match (frontend, standing) {
        (Frontend::ClusterIp, _) => service.internal,
        // Rules 42, 45 (i), 45 (ii) and 100: who is inside gets the Cluster list.
        (_, Standing::LocalPod | Standing::ThisNode) => Policy::Cluster,
        // Rules 44 and 45 (iii).
        (_, Standing::External) => service.external,
    }
}

/// Whose address the endpoint sees.
fn seen(
    client: Client,
    endpoint: Endpoint,
    translator: u8,
    standing: Standing,
    around: &Surroundings,
) -> Seen {
    let is_pod = matches!(endpoint, Endpoint::Pod { .. });
    match standing {
        // Its address is one of the node's, which one depends on the way (rule 45 (ii)).
        Standing::ThisNode => Seen::Node(translator),
        // Rule 57.
        Standing::LocalPod if client.is(endpoint) => Seen::Node(translator),
        // Rules 45 (i) and 56: pods are not masqueraded, but by the CNI on the way out to who is no pod.
        Standing::LocalPod
            if around.cni_masquerades && !is_pod && endpoint.node() != translator =>
        {
            Seen::Node(translator)
        }
        Standing::LocalPod => Seen::Own,
        // Rule 46, and 44 as we have it: the answer comes back here.
        Standing::External if endpoint.node() == translator => arrives_as(client, around),
        // Rules 44 and 56.
        Standing::External => Seen::Node(translator),
    }
}

/// The address that a client from elsewhere has when its packet comes to the node.
fn arrives_as(client: Client, around: &Surroundings) -> Seen {
    match client {
        // What is called is a node, which is no pod.
        Client::Pod { node, .. } if around.cni_masquerades => Seen::Node(node),
        Client::Host { node } => Seen::Node(node),
        Client::Pod { .. } | Client::Outside => Seen::Own,
    }
}

#[cfg(test)]
mod tests {
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
}
