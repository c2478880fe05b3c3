//! What the rules say of a new flow, written straight from them: who may answer, and whom he sees.
//!
//! What `tests/external` and `cargo xtask soak` expect comes from here. Pure, and knows nothing of maps or packets: numbers of nodes and pods in, a [`Fate`] out. It is to be
//! read beside the rules, whose numbers it names.
//!
//! One thing is ours: rule 44 masquerades always, we keep the client's address where the endpoint is on the node
//! that translates, because the answer comes back there by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Which endpoints a policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Those of all nodes.
    Cluster,
    /// Those of the node that translates.
    Local,
}

/// Where an endpoint is, and so what its address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// A pod of a node.
    Pod {
        /// The node's number.
        node: u8,
        /// Its own number there.
        number: u8,
    },
    /// A process of the node itself, with the node's address.
    Host {
        /// The node's number.
        node: u8,
    },
}

impl Endpoint {
    /// The node it runs on (rule 16).
    pub const fn node(self) -> u8 {
        match self {
            Self::Pod { node, .. } | Self::Host { node } => node,
        }
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// A pod of a node.
    Pod {
        /// The node's number.
        node: u8,
        /// Its own number there.
        number: u8,
    },
    /// A process of the node itself, or a host-network pod there.
    Host {
        /// The node's number.
        node: u8,
    },
    /// No one of the cluster.
    Outside,
}

impl Client {
    /// The node it runs on.
    pub const fn node(self) -> Option<u8> {
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
pub enum Frontend {
    /// The Service's own address.
    ClusterIp,
    /// The node port, at the InternalIP of a node.
    NodePort {
        /// The node's number.
        node: u8,
    },
    /// The node port, at a loopback address: of the caller's own node.
    Loopback,
    /// The node port, at an address of a node that is not its InternalIP.
    SecondaryAddress {
        /// The node's number.
        node: u8,
    },
    /// A load balancer's address.
    LoadBalancer,
    /// One of `externalIPs`.
    ExternalIp,
}

/// What of a Service matters here.
#[derive(Clone, Debug)]
pub struct Service {
    /// `internalTrafficPolicy`.
    pub internal: Policy,
    /// `externalTrafficPolicy`.
    pub external: Policy,
    /// All of them are ready.
    pub endpoints: Vec<Endpoint>,
}

/// What is around the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// The node that the network routes cluster IPs to, for who is outside.
    pub cluster_ips: u8,
    /// The same for load balancers' addresses.
    pub load_balancers: u8,
    /// The same for `externalIPs`.
    pub external_ips: u8,
    /// A CNI gives pods their node's address towards whoever is no pod.
    pub cni_masquerades: bool,
}

/// Whose address an endpoint sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// The client's own.
    Own,
    /// One of a node.
    Node(u8),
}

/// What becomes of a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
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
pub fn fate(client: Client, frontend: Frontend, service: &Service, around: &Surroundings) -> Fate {
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
pub fn translator(client: Client, frontend: Frontend, around: &Surroundings) -> Option<u8> {
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

/// What an endpoint says its name is.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { node, number } => f.pad(&format!("pod-{node}-{number}")),
            Self::Host { node } => f.pad(&format!("node-{node}")),
        }
    }
}

/// What a client's namespace is called in the lab.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { node, number: 100 } => f.pad(&format!("client-{node}")),
            Self::Pod { node, number } => f.pad(&format!("pod-{node}-{number}")),
            Self::Host { node } => f.pad(&format!("node-{node}")),
            Self::Outside => f.pad("outside"),
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClusterIp => f.pad("ClusterIP"),
            Self::NodePort { node } => f.pad(&format!("NodePort {node}")),
            Self::Loopback => f.pad("loopback"),
            Self::SecondaryAddress { node } => f.pad(&format!("secondary {node}")),
            Self::LoadBalancer => f.pad("LoadBalancer"),
            Self::ExternalIp => f.pad("externalIP"),
        }
    }
}

#[cfg(test)]
mod tests;
