//! The nouns: what the agent knows of Services and EndpointSlices, whatever told it.
//!
//! Sources translate what they read into these types and nothing of Kubernetes goes further (design:
//! sources -> **model** -> desired -> plan -> apply). Plain data: no I/O, no clock, no aya.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use lb_common::address::Family;

/// Namespace and name of an object; of one that belongs to no namespace, the name alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace; empty for what belongs to the cluster as a whole, such as a Node.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// The key `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// Transport protocol of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, protocol 6.
    Tcp,
    /// UDP, protocol 17.
    Udp,
    /// SCTP, protocol 132.
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with that number, if it is one of these.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpFamilyPolicy {
    /// One family.
    SingleStack,
    /// Both where the cluster has both.
    PreferDualStack,
    /// Both, or an error.
    RequireDualStack,
}

impl fmt::Display for IpFamilyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a Service is, as far as serving it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// `type: ClusterIP` with an address.
    #[default]
    ClusterIp,
    /// `type: NodePort`.
    NodePort,
    /// `type: LoadBalancer`.
    LoadBalancer,
    /// `type: ExternalName`: never served (rule 3).
    ExternalName,
    /// `clusterIP: None`: never served (rule 3).
    Headless,
}

impl ServiceKind {
    /// Whether packets are ever translated for such a Service (rule 3).
    pub const fn is_served(self) -> bool {
        !matches!(self, Self::ExternalName | Self::Headless)
    }
}

impl fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName => "ExternalName",
            Self::Headless => "Headless",
        })
    }
}

/// `spec.internalTrafficPolicy` and `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrafficPolicy {
    /// Any endpoint that topology allows.
    #[default]
    Cluster,
    /// Endpoints on this node only.
    Local,
}

/// A Service with everything the API server would have filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// What it is.
    pub kind: ServiceKind,
    /// `ipFamilyPolicy`; `None` only where Kubernetes has none (ExternalName).
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// `ipFamilies`, primary first; may be empty only for ExternalName.
    pub ip_families: Vec<Family>,
    /// `clusterIPs`, primary first, one per family of `ip_families`; empty when headless or ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// Ports in the order of the manifest.
    pub ports: Vec<ServicePort>,
    /// `internalTrafficPolicy`: for clients of the cluster IP.
    pub internal_policy: TrafficPolicy,
    /// `externalTrafficPolicy`: for clients of any other address; `Cluster` where it has no meaning.
    pub external_policy: TrafficPolicy,
    /// `sessionAffinity: ClientIP` with its timeout in seconds (rule 28); `None` without affinity.
    pub affinity: Option<u32>,
    /// `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress` with an address and ipMode VIP (rule 24).
    pub load_balancer_ips: Vec<IpAddr>,
    /// `loadBalancerSourceRanges`, whatever their family; empty: no restriction (rule 25).
    pub source_ranges: Vec<IpNet>,
    /// `healthCheckNodePort`, host byte order, where the Service needs one (rule 27).
    pub health_check_node_port: Option<u16>,
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; empty for an unnamed port.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// The port clients use, host byte order, never 0.
    pub port: u16,
    /// `nodePort`, host byte order; 0: none.
    pub node_port: u16,
}

/// Some of the endpoints of a Service, of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name of the slice itself.
    pub key: ObjectKey,
    /// Name of the Service in the same namespace (label `kubernetes.io/service-name`, rule 13).
    pub service: String,
    /// `addressType`; FQDN slices never get here (rule 14).
    pub family: Family,
    /// Ports; those without a number or name are left out by the source (rule 11).
    pub ports: Vec<SlicePort>,
    /// Endpoints; those without an address are left out by the source (rule 12).
    pub endpoints: Vec<SliceEndpoint>,
    /// When what led to this state of the slice happened, in milliseconds since 1970, if it says (rule 88).
    pub triggered: Option<u64>,
}

/// One entry of a slice's `ports`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SlicePort {
    /// Name of the Service port it belongs to; empty for an unnamed one.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// The port the endpoints listen on, host byte order, never 0.
    pub port: u16,
}

/// One entry of a slice's `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// The first of its addresses (rule 12), of the slice's family.
    pub address: IpAddr,
    /// Conditions with Kubernetes' defaults applied (rule 15).
    pub conditions: Conditions,
    /// The node it runs on, if known (rule 16).
    pub node: Option<String>,
    /// For which nodes and zones it is meant, if somebody said.
    pub hints: Hints,
}

/// `hints` of an endpoint (rules 35 and 36). Empty: no hint of that kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `forNodes`.
    pub nodes: Vec<String>,
    /// `forZones`.
    pub zones: Vec<String>,
}

/// The node that the agent runs on (rule 4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Label `topology.kubernetes.io/zone` (rule 39).
    pub zone: Option<String>,
    /// Its addresses (`status.addresses`, InternalIP before ExternalIP).
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether it is about to be deleted: has a deletion timestamp or the autoscaler's taint (rule 85).
    pub is_leaving: bool,
    /// `metadata.uid`, for events about it.
    pub uid: String,
}

/// An address that one of the node's devices has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress {
    /// It, of whatever scope.
    pub ip: IpAddr,
}

impl NodeAddress {
    /// Whether it is meant for the node itself.
    pub const fn is_loopback(&self) -> bool {
        self.ip.is_loopback()
    }

    /// Whether it means something on one link only, so that clients beyond it do not reach it.
    pub const fn is_link_local(&self) -> bool {
        match self.ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        }
    }
}

/// A ServiceCIDR: ranges that cluster IPs are assigned from (rule 50).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceCidr {
    /// Name.
    pub name: String,
    /// `spec.cidrs`: one, or one of each family.
    pub cidrs: Vec<IpNet>,
}

/// An endpoint's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// May be sent new flows.
    pub ready: bool,
    /// Answers, whether or not it is about to leave.
    pub serving: bool,
    /// Is about to leave.
    pub terminating: bool,
}

/// Conditions of an endpoint that states none (rule 15).
impl Default for Conditions {
    fn default() -> Self {
        Self {
            ready: true,
            serving: true,
            terminating: false,
        }
    }
}
