//! Services of type LoadBalancer with all addresses there are, as objects.
//!
//! Everything about one follows from its number `N`: ClusterIP 10.96.1.N and fd00:10:96::1NN, node port
//! 30000 + N, a load balancer's 198.51.100.N, `externalIPs` 203.0.113.N, both families each, port 80 of TCP
//! and UDP, 8080 of its endpoints.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::Addresses;

use crate::reference::{Client, Endpoint, Frontend, Policy, Service};

/// The port at all addresses but the nodes'.
const PORT: u16 = 80;
/// What endpoints serve.
pub(crate) const TARGET: u16 = 8080;

/// A Service with its number and name.
#[derive(Clone, Debug)]
pub(crate) struct Numbered {
    /// 1 to 99.
    pub(crate) number: u8,
    /// Its name.
    pub(crate) name: String,
    /// What the rules must know.
    pub(crate) service: Service,
    /// `loadBalancerSourceRanges`.
    pub(crate) source_ranges: Vec<String>,
}

impl Numbered {
    /// Both policies alike, no source ranges.
    pub(crate) fn new(number: u8, name: &str, policy: Policy, endpoints: &[Endpoint]) -> Self {
        Self {
            number,
            name: name.to_owned(),
            service: Service {
                internal: policy,
                external: policy,
                endpoints: endpoints.to_vec(),
            },
            source_ranges: Vec::new(),
        }
    }

    /// With `loadBalancerSourceRanges`.
    pub(crate) fn sources(self, ranges: &[&str]) -> Self {
        Self {
            source_ranges: ranges.iter().map(|&range| range.to_owned()).collect(),
            ..self
        }
    }

    fn cluster_ips(&self) -> [IpAddr; 2] {
        let v6 = format!("fd00:10:96::1{:02}", self.number);
        [
            [10, 96, 1, self.number].into(),
            v6.parse().expect("decimal digits are hexadecimal ones"),
        ]
    }

    /// The node port, of TCP and UDP alike.
    pub(crate) fn node_port(&self) -> u16 {
        30_000 + u16::from(self.number)
    }

    /// Where `client` finds a frontend, in the family that `v6` says.
    pub(crate) fn socket(&self, frontend: Frontend, v6: bool) -> SocketAddr {
        let at = |both: [IpAddr; 2]| both[usize::from(v6)];
        let (ip, port) = match frontend {
            Frontend::ClusterIp => (at(self.cluster_ips()), PORT),
            Frontend::LoadBalancer => {
                let both = Addresses::of_load_balancer(self.number).both();
                (at(both), PORT)
            }
            Frontend::ExternalIp => (at(Addresses::of_external_ip(self.number).both()), PORT),
            Frontend::NodePort { node } => (at(Addresses::of_node(node).both()), self.node_port()),
            Frontend::SecondaryAddress { node } => {
                (at(Addresses::of_gateway(node).both()), self.node_port())
            }
            Frontend::Loopback => (
                at([[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()]),
                self.node_port(),
            ),
        };
        SocketAddr::new(ip, port)
    }

    /// The Service and its slices.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let slices = ["IPv4", "IPv6"]
            .into_iter()
            .enumerate()
            .map(|(at, family)| self.slice(at, family));
        [self.as_service()].into_iter().chain(slices).collect()
    }

    fn as_service(&self) -> Value {
        let vips = self.cluster_ips();
        let policy = |policy| match policy {
            Policy::Cluster => "Cluster",
            Policy::Local => "Local",
        };
        let ingress = Addresses::of_load_balancer(self.number)
            .both()
            .map(|ip| json!({"ip": ip, "ipMode": "VIP"}));
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": "default"},
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": vips[0],
                "clusterIPs": vips,
                "ipFamilies": ["IPv4", "IPv6"],
                "ipFamilyPolicy": "RequireDualStack",
                "internalTrafficPolicy": policy(self.service.internal),
                "externalTrafficPolicy": policy(self.service.external),
                "externalIPs": Addresses::of_external_ip(self.number).both(),
                "loadBalancerSourceRanges": self.source_ranges,
                "selector": {"app": self.name},
                "ports": ports(json!({
                    "port": PORT, "targetPort": TARGET, "nodePort": self.node_port(),
                })),
            },
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        if self.service.external == Policy::Local {
            service["spec"]["healthCheckNodePort"] = (31_000 + u16::from(self.number)).into();
        }
        service
    }

    fn slice(&self, at: usize, family: &str) -> Value {
        let endpoints = self.service.endpoints.iter().map(|&endpoint| {
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
                "name": format!("{}-{}", self.name, family.to_lowercase()),
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": self.name},
            },
            "addressType": family,
            "ports": ports(json!({"port": TARGET})),
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    }
}

/// A port of TCP and one of UDP.
fn ports(number: Value) -> [Value; 2] {
    ["TCP", "UDP"].map(|protocol| {
        let mut port = number.clone();
        port["protocol"] = protocol.into();
        port["name"] = protocol.to_lowercase().into();
        port
    })
}

/// An endpoint's addresses.
pub(crate) fn addresses(endpoint: Endpoint) -> Addresses {
    match endpoint {
        Endpoint::Pod { node, number } => Addresses::of_pod(node, number),
        Endpoint::Host { node } => Addresses::of_node(node),
    }
}

/// What an endpoint says its name is.
pub(crate) fn name(endpoint: Endpoint) -> String {
    endpoint.to_string()
}

/// What a client's namespace is called in the lab.
pub(crate) fn place(client: Client) -> String {
    client.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frontend_has_an_address_of_each_family() {
        let one = Numbered::new(7, "one", Policy::Local, &[]);
        let both = |frontend| [false, true].map(|v6| one.socket(frontend, v6).to_string());
        for (frontend, expected) in [
            (
                Frontend::ClusterIp,
                ["10.96.1.7:80", "[fd00:10:96::107]:80"],
            ),
            (
                Frontend::LoadBalancer,
                ["198.51.100.7:80", "[2001:db8:51::7]:80"],
            ),
            (
                Frontend::ExternalIp,
                ["203.0.113.7:80", "[2001:db8:113::7]:80"],
            ),
            (
                Frontend::NodePort { node: 2 },
                ["172.18.0.2:30007", "[fd00:172:18::2]:30007"],
            ),
            (
                Frontend::SecondaryAddress { node: 2 },
                ["10.244.2.1:30007", "[fd00:10:244:2::1]:30007"],
            ),
            (Frontend::Loopback, ["127.0.0.1:30007", "[::1]:30007"]),
        ] {
            assert_eq!(both(frontend), expected);
        }
    }
}
