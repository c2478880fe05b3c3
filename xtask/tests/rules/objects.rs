//! Objects as JSON: nodes with zones, a Service with whatever spec, its slices.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};
use xtask::lab::Addresses;

/// The addresses of Service `web`.
pub(crate) const VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 96, 0, 80)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x80)),
];

/// Its frontends, for TCP and UDP alike.
pub(crate) fn frontends() -> [SocketAddr; 2] {
    VIPS.map(|vip| SocketAddr::new(vip, 80))
}

/// A pod as an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    node: u8,
    number: u8,
    conditions: Value,
    hints: Value,
}

impl Pod {
    /// Pod `number` of a node: ready, without hints.
    pub(crate) fn new(node: u8, number: u8) -> Self {
        Self {
            node,
            number,
            conditions: json!({"ready": true, "serving": true, "terminating": false}),
            hints: Value::Null,
        }
    }

    /// About to leave; `serving` while it answers.
    pub(crate) fn terminating(self, serving: bool) -> Self {
        Self {
            conditions: json!({"ready": false, "serving": serving, "terminating": true}),
            ..self
        }
    }

    /// Neither ready nor leaving.
    pub(crate) fn unready(self) -> Self {
        Self {
            conditions: json!({"ready": false, "serving": false, "terminating": false}),
            ..self
        }
    }

    /// Meant for clients of a zone.
    pub(crate) fn for_zone(self, zone: &str) -> Self {
        Self {
            hints: json!({"forZones": [{"name": zone}]}),
            ..self
        }
    }

    /// Its name in the lab.
    pub(crate) fn name(&self) -> String {
        format!("pod-{}-{}", self.node, self.number)
    }
}

/// Node `number`, in a zone.
pub(crate) fn node(number: u8, zone: &str) -> Value {
    let addresses = Addresses::of_node(number)
        .both()
        .map(|ip| json!({"type": "InternalIP", "address": ip}));
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": format!("node-{number}"),
            "labels": {"topology.kubernetes.io/zone": zone},
        },
        "status": {"addresses": addresses},
    })
}

/// Dual-stack Service `web` with ports 80 of TCP and UDP, its spec overridden by `spec`, and its slices.
pub(crate) fn web(spec: &Value, pods: &[Pod]) -> Vec<Value> {
    let ports = |number: &str, value: u16| {
        ["TCP", "UDP"].map(|protocol| json!({"name": protocol.to_lowercase(), "protocol": protocol, number: value}))
    };
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": VIPS[0],
            "clusterIPs": VIPS,
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack",
            "selector": {"app": "web"},
            "ports": ports("port", 80),
        },
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        service["spec"][field] = value.clone();
    }
    let slices = ["IPv4", "IPv6"]
        .into_iter()
        .enumerate()
        .map(|(at, family)| {
            let endpoints = pods.iter().map(|pod| {
                let mut endpoint = json!({
                    "addresses": [Addresses::of_pod(pod.node, pod.number).both()[at]],
                    "conditions": pod.conditions,
                    "nodeName": format!("node-{}", pod.node),
                });
                if !pod.hints.is_null() {
                    endpoint["hints"] = pod.hints.clone();
                }
                endpoint
            });
            json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("web-{}", family.to_lowercase()),
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "web"},
                },
                "addressType": family,
                "ports": ports("port", 8080),
                "endpoints": endpoints.collect::<Vec<_>>(),
            })
        });
    let slices: Vec<Value> = slices.collect();
    [service].into_iter().chain(slices).collect()
}
