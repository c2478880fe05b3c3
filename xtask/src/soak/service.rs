//! A Service of the soak: everything about it follows from its number, so that an answer tells whose it is. Pure.
//!
//! Number `N`: ClusterIP 10.96.1.N and fd00:10:96::1NN, node port 30000 + N, a load balancer's 198.51.100.N,
//! `externalIPs` 203.0.113.N, both families each. Its endpoints serve port 8000 + N, and 8100 + N when it has
//! been born again under another name: an endpoint says by which port it was asked, so that an answer of
//! another service's endpoint, or of this address's former owner, is known for what it is.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::lab::{
    Addresses,
    reference::{self, Client, Endpoint, Fate, Frontend, Policy, Surroundings},
};

/// The numbers there are.
pub(super) const NUMBERS: [u8; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
/// What every endpoint serves under its number, in either life of a service.
pub(super) fn targets() -> impl Iterator<Item = u16> {
    let of = |base: u16| NUMBERS.map(|number| base + u16::from(number)).into_iter();
    of(8000).chain(of(8100))
}

/// A Service as it is at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// One of [`NUMBERS`].
    pub(super) number: u8,
    /// Whether it is the second one with these addresses.
    pub(super) reborn: bool,
    /// The port at all addresses but the nodes'.
    pub(super) port: u16,
    /// Both traffic policies.
    pub(super) policy: Policy,
    /// All of them are ready.
    pub(super) endpoints: BTreeSet<Endpoint>,
    /// Seconds that a client stays with an endpoint; 0: it does not.
    pub(super) affinity: u32,
    /// `loadBalancerSourceRanges`.
    pub(super) sources: Vec<IpNet>,
}

impl Service {
    /// One with these endpoints and nothing else.
    pub(super) fn new(number: u8, policy: Policy, endpoints: &[Endpoint]) -> Self {
        Self {
            number,
            reborn: false,
            port: 80,
            policy,
            endpoints: endpoints.iter().copied().collect(),
            affinity: 0,
            sources: Vec::new(),
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> String {
        let life = if self.reborn { "second" } else { "first" };
        format!("soak-{}-{life}", self.number)
    }

    /// What its endpoints serve.
    pub(super) fn target(&self) -> u16 {
        let base = if self.reborn { 8100 } else { 8000 };
        base + u16::from(self.number)
    }

    /// What an endpoint of it says its name is.
    pub(super) fn who(&self, endpoint: Endpoint) -> String {
        who(endpoint, self.target())
    }

    /// The node port.
    pub(super) fn node_port(&self) -> u16 {
        30_000 + u16::from(self.number)
    }

    /// Its ClusterIPs, IPv4 first.
    pub(super) fn cluster_ips(&self) -> [IpAddr; 2] {
        let v6 = format!("fd00:10:96::1{:02}", self.number);
        [
            [10, 96, 1, self.number].into(),
            v6.parse().expect("decimal digits are hexadecimal ones"),
        ]
    }

    /// Where a client finds a frontend, in the family that `v6` says.
    pub(super) fn socket(&self, frontend: Frontend, v6: bool) -> SocketAddr {
        let at = |both: [IpAddr; 2]| both[usize::from(v6)];
        let (ip, port) = match frontend {
            Frontend::ClusterIp => (at(self.cluster_ips()), self.port),
            Frontend::LoadBalancer => {
                let both = Addresses::of_load_balancer(self.number).both();
                (at(both), self.port)
            }
            Frontend::ExternalIp => {
                let both = Addresses::of_external_ip(self.number).both();
                (at(both), self.port)
            }
            Frontend::NodePort { node } => (at(Addresses::of_node(node).both()), self.node_port()),
            Frontend::SecondaryAddress { node } => {
                (at(Addresses::of_gateway(node).both()), self.node_port())
            }
            Frontend::Loopback => {
                let both = [[127, 0, 0, 1].into(), Ipv6Addr::LOCALHOST.into()];
                (at(both), self.node_port())
            }
        };
        SocketAddr::new(ip, port)
    }

    /// What becomes of a new flow.
    pub(super) fn fate(
        &self,
        client: Client,
        frontend: Frontend,
        v6: bool,
        around: &Surroundings,
    ) -> Fate {
        let service = reference::Service {
            internal: self.policy,
            external: self.policy,
            endpoints: self.endpoints.iter().copied().collect(),
        };
        let fate = reference::fate(client, frontend, &service, around);
        let ip = address(client, v6);
        let is_admitted =
            self.sources.is_empty() || self.sources.iter().any(|range| range.contains(&ip));
        // Rules 47 and 48.
        match (frontend, client) {
            (Frontend::LoadBalancer, _) if is_admitted || fate == Fate::Absent => fate,
            (Frontend::LoadBalancer, Client::Host { .. }) => Fate::Denied,
            (Frontend::LoadBalancer, _) => Fate::Dropped,
            _ => fate,
        }
    }

    /// The endpoints that its ClusterIP leads to on a node.
    pub(super) fn listed(&self, node: u8, v6: bool) -> BTreeSet<SocketAddr> {
        let endpoints = self.endpoints.iter().copied();
        let here =
            endpoints.filter(|endpoint| self.policy == Policy::Cluster || endpoint.node() == node);
        here.map(|endpoint| (addresses(endpoint).both()[usize::from(v6)], self.target()).into())
            .collect()
    }

    /// The Service and its slices.
    pub(super) fn objects(&self) -> Vec<Value> {
        let slices = ["IPv4", "IPv6"].into_iter().enumerate();
        let slices = slices.map(|(at, family)| self.slice(at, family));
        [self.as_object()].into_iter().chain(slices).collect()
    }

    fn as_object(&self) -> Value {
        let vips = self.cluster_ips();
        let policy = match self.policy {
            Policy::Cluster => "Cluster",
            Policy::Local => "Local",
        };
        let ingress = Addresses::of_load_balancer(self.number).both();
        let ingress = ingress.map(|ip| json!({"ip": ip, "ipMode": "VIP"}));
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name(), "namespace": "default"},
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": vips[0],
                "clusterIPs": vips,
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "internalTrafficPolicy": policy,
                "externalTrafficPolicy": policy,
                "externalIPs": Addresses::of_external_ip(self.number).both(),
                "loadBalancerSourceRanges": self.sources,
                "selector": {"app": self.name()},
                "ports": ports(&json!({
                    "port": self.port, "targetPort": self.target(), "nodePort": self.node_port(),
                })),
            },
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        if self.policy == Policy::Local {
            service["spec"]["healthCheckNodePort"] = (31_000 + u16::from(self.number)).into();
        }
        if self.affinity > 0 {
            service["spec"]["sessionAffinity"] = "ClientIP".into();
            let seconds = json!({"clientIP": {"timeoutSeconds": self.affinity}});
            service["spec"]["sessionAffinityConfig"] = seconds;
        }
        service
    }

    fn slice(&self, at: usize, family: &str) -> Value {
        let endpoints = self.endpoints.iter().map(|&endpoint| {
            json!({
                "addresses": [addresses(endpoint).both()[at]],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", endpoint.node()),
            })
        });
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{}", self.name(), family.to_lowercase()),
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": self.name()},
            },
            "addressType": family,
            "ports": ports(&json!({"port": self.target()})),
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    }
}

/// A port of TCP and one of UDP.
fn ports(number: &Value) -> [Value; 2] {
    ["TCP", "UDP"].map(|protocol| {
        let mut port = number.clone();
        port["protocol"] = protocol.into();
        port["name"] = protocol.to_lowercase().into();
        port
    })
}

/// What an endpoint says its name is where it serves `target`.
pub(super) fn who(endpoint: Endpoint, target: u16) -> String {
    format!("{endpoint}/{target}")
}

/// An endpoint's addresses.
pub(super) fn addresses(endpoint: Endpoint) -> Addresses {
    match endpoint {
        Endpoint::Pod { node, number } => Addresses::of_pod(node, number),
        Endpoint::Host { node } => Addresses::of_node(node),
    }
}

/// The address that source ranges look at.
pub(super) fn address(client: Client, v6: bool) -> IpAddr {
    let both = match client {
        Client::Pod { node, number } => Addresses::of_pod(node, number),
        Client::Host { node } => Addresses::of_node(node),
        Client::Outside => Addresses::of_outside(),
    };
    both.both()[usize::from(v6)]
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

    #[test]
    fn rule_47_source_ranges_bind_the_load_balancers_address_alone() {
        let endpoint = Endpoint::Pod {
            node: 1,
            number: 10,
        };
        let mut service = Service::new(5, Policy::Cluster, &[endpoint]);
        service.sources = vec!["10.244.1.0/24".parse().unwrap()];
        let fate = |client, frontend| service.fate(client, frontend, false, &AROUND);
        let pod = |node| Client::Pod { node, number: 100 };
        assert!(matches!(
            fate(pod(1), Frontend::LoadBalancer),
            Fate::Answered(_)
        ));
        assert_eq!(fate(pod(2), Frontend::LoadBalancer), Fate::Dropped);
        assert_eq!(
            fate(Client::Host { node: 2 }, Frontend::LoadBalancer),
            Fate::Denied
        );
        assert!(matches!(
            fate(pod(2), Frontend::ClusterIp),
            Fate::Answered(_)
        ));
    }

    #[test]
    fn no_two_services_share_what_an_endpoint_is_asked_by() {
        let all: BTreeSet<u16> = targets().collect();
        assert_eq!(all.len(), 2 * NUMBERS.len());
    }
}
