//! Services and slices as manifests. Pure but for [`write`].

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use xtask::lab::{Addresses, Protocol};

/// The port of every test service.
const PORT: u16 = 80;

/// A dual-stack service with a VIP of each family that follows from its number; one port, TCP and UDP.
#[derive(Clone, Debug)]
pub struct Service {
    number: u8,
    target: u16,
    endpoints: Vec<Addresses>,
    per_slice: usize,
    affinity: Option<u32>,
    local: bool,
    external: bool,
}

impl Service {
    /// Service `number` (1 to 254) with port 8080 of `endpoints` behind it.
    pub fn new(number: u8, endpoints: impl Into<Vec<Addresses>>) -> Self {
        Self {
            number,
            target: 8080,
            endpoints: endpoints.into(),
            per_slice: 100,
            affinity: None,
            local: false,
            external: false,
        }
    }

    /// Another port of the endpoints.
    pub fn target(self, target: u16) -> Self {
        Self { target, ..self }
    }

    /// Fewer endpoints in a slice than Kubernetes' 100.
    pub fn per_slice(self, per_slice: usize) -> Self {
        Self { per_slice, ..self }
    }

    /// Session affinity by client address for so many seconds.
    pub fn affinity(self, seconds: u32) -> Self {
        Self {
            affinity: Some(seconds),
            ..self
        }
    }

    /// With `internalTrafficPolicy: Local`; endpoints are said to be on the node whose pods they are.
    pub fn local(self) -> Self {
        Self {
            local: true,
            ..self
        }
    }

    /// Of type LoadBalancer with `externalTrafficPolicy: Local`, reached by [`Service::external_frontends`] as well;
    /// endpoints are said to be on the node whose pods they are.
    pub fn external(self) -> Self {
        Self {
            external: true,
            ..self
        }
    }

    /// What leads to it from outside the cluster, but for node ports: the addresses of a load balancer, and
    /// external ones.
    pub fn external_frontends(&self) -> Vec<SocketAddr> {
        let addresses = self.load_balancer().into_iter().chain(self.external_ips());
        addresses.map(|ip| SocketAddr::new(ip, PORT)).collect()
    }

    /// The node port of one of its protocols.
    pub fn node_port(&self, protocol: Protocol) -> u16 {
        let number = u16::from(self.number);
        match protocol {
            Protocol::Tcp => 30_000 + number,
            Protocol::Udp => 31_000 + number,
        }
    }

    fn load_balancer(&self) -> [IpAddr; 2] {
        self.outside(1)
    }

    fn external_ips(&self) -> [IpAddr; 2] {
        self.outside(2)
    }

    fn outside(&self, kind: u8) -> [IpAddr; 2] {
        let number = self.number;
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, kind.into(), number.into());
        [Ipv4Addr::new(192, 0, kind, number).into(), v6.into()]
    }

    /// Its addresses.
    pub fn vip(&self) -> Addresses {
        let number = self.number;
        let v4 = [10, 96, 7, number].into();
        let v6 = format!("fd00:10:96::7{number:02x}").parse();
        Addresses {
            v4,
            v6: v6.expect("hexadecimal digits"),
        }
    }

    /// Its frontends, IPv4 first.
    pub fn frontends(&self) -> [SocketAddr; 2] {
        self.vip().both().map(|ip| SocketAddr::new(ip, PORT))
    }

    /// Its endpoints' sockets, in the family of `frontend`.
    pub fn sockets_like(&self, frontend: SocketAddr) -> impl Iterator<Item = SocketAddr> {
        let to = move |endpoint: &Addresses| endpoint.like(&frontend.ip());
        self.endpoints
            .iter()
            .map(move |endpoint| SocketAddr::new(to(endpoint), self.target))
    }

    fn name(&self) -> String {
        format!("service-{}", self.number)
    }

    fn objects(&self) -> Vec<Value> {
        let vips = self.vip().both();
        let both = |number: Value| {
            ["TCP", "UDP"].map(|protocol| {
                let mut port = number.clone();
                port["protocol"] = protocol.into();
                port["name"] = protocol.to_lowercase().into();
                port
            })
        };
        let slice = |(number, family, at): (usize, &str, usize), endpoints: &[Addresses]| {
            let endpoints = endpoints.iter().map(|endpoint| {
                let mut entry =
                    json!({ "addresses": [endpoint.both()[at]], "conditions": { "ready": true } });
                if self.local || self.external {
                    let [.., node, _] = endpoint.v4.octets();
                    entry["nodeName"] = format!("node-{node}").into();
                }
                entry
            });
            json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{}-{}-{number}", self.name(), family.to_lowercase()),
                    "labels": { "kubernetes.io/service-name": self.name() },
                },
                "addressType": family,
                "ports": both(json!({ "port": self.target })),
                "endpoints": endpoints.collect::<Vec<_>>(),
            })
        };
        let mut service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name() },
            "spec": {
                "clusterIP": vips[0],
                "clusterIPs": vips,
                "ipFamilyPolicy": "RequireDualStack",
                "selector": { "app": self.name() },
                "ports": both(json!({ "port": PORT, "targetPort": self.target })),
            },
        });
        if self.external {
            let spec = &mut service["spec"];
            spec["type"] = "LoadBalancer".into();
            spec["externalTrafficPolicy"] = "Local".into();
            spec["externalIPs"] = json!(self.external_ips());
            for (at, protocol) in Protocol::BOTH.into_iter().enumerate() {
                spec["ports"][at]["nodePort"] = self.node_port(protocol).into();
            }
            let ingress = self.load_balancer().map(|ip| json!({ "ip": ip }));
            service["status"]["loadBalancer"]["ingress"] = ingress.into_iter().collect();
        }
        if self.local {
            service["spec"]["internalTrafficPolicy"] = "Local".into();
        }
        if let Some(seconds) = self.affinity {
            service["spec"]["sessionAffinity"] = "ClientIP".into();
            service["spec"]["sessionAffinityConfig"] =
                json!({ "clientIP": { "timeoutSeconds": seconds } });
        }
        let chunks = self.endpoints.chunks(self.per_slice).enumerate();
        let slices = chunks.flat_map(|(number, endpoints)| {
            [("IPv4", 0), ("IPv6", 1)].map(|(family, at)| slice((number, family, at), endpoints))
        });
        std::iter::once(service).chain(slices).collect()
    }
}

/// Writes the directory of manifests that `duolb agent` reads.
pub fn write(directory: &Path, services: &[Service]) -> Result<()> {
    fs::create_dir_all(directory)?;
    let items: Vec<Value> = services.iter().flat_map(Service::objects).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    fs::write(directory.join("services.json"), list.to_string()).context("manifests")
}
