//! The services of a run: some that are called, and as many others as a large cluster has.
//!
//! One list for all who serve it: manifests for duolb, rule sets in kube-proxy's shape. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::{Value, json};

use super::kube_proxy::Service;
use crate::lab::PORTS;

/// Service ranges that hold a hundred thousand of either family.
pub const RANGES: &str = "10.96.0.0/12,fd00:10:96::/108";
/// The pods' networks, as kube-proxy has them told.
pub const PODS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];
/// Protocol and port of the services that are called: by iperf3, by exchanges over many and over one connection, by
/// datagrams; and by those who look whether checksums are right.
pub const CALLED: [(&str, u16); 8] = [
    ("tcp", STREAM),
    ("udp", STREAM),
    ("tcp", SHORT),
    ("tcp", LONG),
    ("udp", SINK),
    ("tcp", ECHO),
    ("udp", ECHO),
    ("udp", BARE),
];
/// iperf3's port.
pub const STREAM: u16 = 5201;
/// Connections for each exchange.
pub const SHORT: u16 = 7001;
/// One connection for all exchanges.
pub const LONG: u16 = 7002;
/// Datagrams.
pub const SINK: u16 = 7003;
/// Whatever is said comes back: the lab's own endpoints.
pub const ECHO: u16 = 7005;
/// The same over UDP without checksums.
pub const BARE: u16 = 7004;
/// Where those who answer on [`BARE`] listen.
pub const BARE_TARGET: u16 = 8004;
/// The port of services that nobody calls.
const IDLE: u16 = 80;

/// What there is to serve: service 0 is called, the others are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Catalogue {
    /// How many services, the called one included.
    pub services: u32,
    /// The endpoint of the called one.
    pub endpoint: [IpAddr; 2],
    /// The node that it is on.
    pub node: &'static str,
}

/// The endpoint's port behind a service's. It is the same for what is timed, as a way without a service has no other; where
/// checksums are looked at, the port changes as well.
const fn target(port: u16) -> u16 {
    match port {
        ECHO => PORTS[0],
        BARE => BARE_TARGET,
        port => port,
    }
}

/// The cluster IPs of a service.
pub fn vips(number: u32) -> [IpAddr; 2] {
    // From .1 on, and in both families alike.
    let v4 = u32::from(Ipv4Addr::new(10, 96, 0, 1)) + number;
    let v6 = u128::from(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 1)) + u128::from(number);
    [Ipv4Addr::from(v4).into(), Ipv6Addr::from(v6).into()]
}

/// The endpoint of a service that nobody calls: it need not exist.
fn idle_endpoint(number: u32) -> [IpAddr; 2] {
    let [_, _, high, low] = number.to_be_bytes();
    let v4 = Ipv4Addr::new(10, 244, high | 0x80, low);
    let v6 = Ipv6Addr::new(
        0xfd00,
        0x10,
        0x244,
        0xff,
        0,
        0,
        u16::from(high),
        u16::from(low),
    );
    [v4.into(), v6.into()]
}

impl Catalogue {
    /// The service ports in one list, the called ones in the middle: where a rule set is walked, they are as far from
    /// its beginning as any on average.
    pub fn ports(&self) -> Vec<Service> {
        let port = |number: u32, protocol, port: u16, endpoints: [IpAddr; 2]| {
            vips(number)
                .into_iter()
                .zip(endpoints)
                .map(move |(vip, endpoint)| Service {
                    name: format!("bench/s-{number}:{protocol}-{port}"),
                    vip: SocketAddr::new(vip, port),
                    protocol,
                    endpoints: vec![SocketAddr::new(endpoint, target(port))],
                })
        };
        let mut all: Vec<Service> = (1..self.services)
            .flat_map(|number| port(number, "tcp", IDLE, idle_endpoint(number)))
            .collect();
        let middle = all.len() / 2;
        let called = CALLED
            .iter()
            .flat_map(|&(protocol, number)| port(0, protocol, number, self.endpoint));
        all.splice(middle..middle, called.collect::<Vec<_>>());
        all
    }

    /// The same as a List of Services and EndpointSlices.
    pub fn manifest(&self) -> String {
        let items: Vec<Value> = (0..self.services)
            .flat_map(|number| {
                let idle = [("tcp", IDLE)];
                let (ports, endpoint) = if number == 0 {
                    (&CALLED[..], self.endpoint)
                } else {
                    (&idle[..], idle_endpoint(number))
                };
                objects(number, ports, endpoint, self.node)
            })
            .collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    }
}

/// A Service with both families and its slices.
fn objects(number: u32, ports: &[(&str, u16)], endpoint: [IpAddr; 2], node: &str) -> [Value; 3] {
    let name = format!("s-{number}");
    let listed = |number: fn(u16) -> u16| -> Vec<Value> {
        let port = |&(protocol, port): &(&str, u16)| {
            let name = format!("{protocol}-{port}");
            json!({"name": name, "protocol": protocol.to_uppercase(), "port": number(port)})
        };
        ports.iter().map(port).collect()
    };
    let (targets, ports) = (listed(target), listed(|port| port));
    let [v4, v6] = vips(number);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "bench"},
        "spec": {
            "clusterIP": v4, "clusterIPs": [v4, v6], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack", "ports": ports,
        },
    });
    let [slice_v4, slice_v6] =
        [("IPv4", endpoint[0]), ("IPv6", endpoint[1])].map(|(family, ip)| {
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{name}-{}", family.to_lowercase()), "namespace": "bench",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": family, "ports": targets,
                "endpoints": [{"addresses": [ip], "nodeName": node}],
            })
        });
    [service, slice_v4, slice_v6]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn catalogue(services: u32) -> Catalogue {
        Catalogue {
            services,
            endpoint: ["10.244.1.10", "fd00:10:244:1::10"].map(|text| text.parse().unwrap()),
            node: "node-1",
        }
    }

    #[test]
    fn a_hundred_thousand_services_have_addresses_of_their_own_in_their_ranges() {
        let ranges: Vec<ipnet::IpNet> = RANGES
            .split(',')
            .map(|text| text.parse().unwrap())
            .collect();
        let all: BTreeSet<IpAddr> = (0..100_000).flat_map(vips).collect();
        assert_eq!(all.len(), 200_000);
        assert!(
            all.iter()
                .all(|ip| ranges.iter().any(|range| range.contains(ip)))
        );
    }

    #[test]
    fn the_called_service_stands_in_the_middle() {
        let ports = catalogue(101).ports();
        assert_eq!(ports.len(), 200 + 2 * CALLED.len());
        let first = ports
            .iter()
            .position(|port| port.name.starts_with("bench/s-0:"))
            .unwrap();
        assert_eq!(first, 100);
    }

    #[test]
    fn where_checksums_are_looked_at_the_port_changes() {
        let ports = catalogue(1).ports();
        let changed = |port: &&Service| port.endpoints[0].port() != port.vip.port();
        let changed: Vec<u16> = ports
            .iter()
            .filter(changed)
            .map(|port| port.vip.port())
            .collect();
        assert_eq!(changed, [ECHO, ECHO, ECHO, ECHO, BARE, BARE]);
        let list: Value = serde_json::from_str(&catalogue(1).manifest()).unwrap();
        assert_eq!(list["items"][0]["spec"]["ports"][7]["port"], BARE);
        assert_eq!(list["items"][1]["ports"][7]["port"], BARE_TARGET);
    }

    #[test]
    fn the_manifest_has_every_port_in_both_families() {
        let list: Value = serde_json::from_str(&catalogue(3).manifest()).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), 9);
        assert_eq!(
            list["items"][0]["spec"]["ports"].as_array().unwrap().len(),
            CALLED.len()
        );
        assert_eq!(
            list["items"][5]["endpoints"][0]["addresses"][0],
            "fd00:10:244:ff::1"
        );
    }
}
