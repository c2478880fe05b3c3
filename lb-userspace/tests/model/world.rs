//! The Services and endpoints there are: as the rules see them, and as objects for the agent.

use std::collections::BTreeMap;

use duolb::{
    model::{
        Conditions, EndpointSlice, Hints, IpFamilyPolicy, NodeAddress, ObjectKey, Protocol,
        ServiceCidr, ServiceKind, ServicePort, SliceEndpoint, SlicePort, TrafficPolicy,
    },
    source::{Event, Kind},
};
use lb_common::address::Family;

use crate::{
    cast::{self, PORT, TARGET},
    packet::{SCTP, TCP, UDP},
};

/// The node that the agent is on.
pub const NODE: &str = "here";
pub const PROTOCOLS: [u8; 3] = [TCP, UDP, SCTP];

/// What a Service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Which addresses it has.
    pub vip: u8,
    /// 0 ClusterIP, 1 NodePort, 2 LoadBalancer.
    pub kind: u8,
    /// Whether it has a port for each of [`PROTOCOLS`].
    pub protocols: [bool; 3],
    pub is_internal_local: bool,
    pub is_external_local: bool,
    pub affinity: Option<u32>,
    pub has_external: bool,
    /// Which of [`cast::source_ranges`].
    pub source_ranges: u8,
}

/// Conditions of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

/// All there is, by number.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub services: BTreeMap<u8, Service>,
    /// By Service and endpoint: its conditions, and the how manieth of that address it is.
    pub endpoints: BTreeMap<(u8, u8), (Endpoint, u32)>,
    /// How many ports and endpoints there have been.
    pub generations: BTreeMap<(u8, u8), u32>,
    count: u32,
}

impl World {
    /// Whether another Service has the addresses that `service` wants.
    pub fn is_taken(&self, number: u8, service: &Service) -> bool {
        let mut others = self.services.iter().filter(|(other, _)| **other != number);
        others.any(|(_, other)| other.vip == service.vip)
    }

    pub fn apply(&mut self, number: u8, service: Service) -> Event {
        for (proto, is_there) in PROTOCOLS.into_iter().zip(service.protocols) {
            let had = self.services.get(&number).is_some_and(|old| old.has(proto));
            if is_there && !had {
                self.count += 1;
                self.generations.insert((number, proto), self.count);
            }
        }
        let event = Event::ApplyService(object(number, &service));
        self.services.insert(number, service);
        event
    }

    pub fn delete(&mut self, number: u8) -> Event {
        self.services.remove(&number);
        Event::DeleteService(key(number))
    }

    pub fn set_endpoint(&mut self, service: u8, number: u8, new: Option<Endpoint>) -> Vec<Event> {
        match new {
            Some(new) => {
                self.count += 1;
                let first = (new, self.count);
                self.endpoints.entry((service, number)).or_insert(first).0 = new;
            }
            None => {
                self.endpoints.remove(&(service, number));
            }
        }
        [false, true].map(|is_v6| self.slice(service, is_v6)).into()
    }

    fn slice(&self, service: u8, is_v6: bool) -> Event {
        let endpoints = self.endpoints.range((service, 0)..=(service, u8::MAX));
        let port = |proto| SlicePort {
            name: name(proto).into(),
            protocol: Protocol::from_number(proto).expect("one of three"),
            port: TARGET,
        };
        Event::ApplySlice(EndpointSlice {
            key: ObjectKey::new("default", format!("s{service}-{is_v6}")),
            service: key(service).name,
            family: family(is_v6),
            ports: PROTOCOLS.map(port).into(),
            endpoints: endpoints
                .map(|((_, number), (endpoint, _))| SliceEndpoint {
                    address: cast::endpoint(*number, is_v6),
                    conditions: Conditions {
                        ready: endpoint.ready,
                        serving: endpoint.serving,
                        terminating: endpoint.terminating,
                    },
                    node: Some(
                        if cast::is_here(*number) {
                            NODE
                        } else {
                            "there"
                        }
                        .into(),
                    ),
                    hints: Hints::default(),
                })
                .collect(),
            triggered: None,
        })
    }
}

impl Service {
    /// Whether it has a port of that protocol.
    pub fn has(&self, proto: u8) -> bool {
        let mut all = PROTOCOLS.into_iter().zip(self.protocols);
        all.any(|(other, is_there)| is_there && other == proto)
    }
}

/// What an agent hears first: complete listings of nothing, and what never changes here.
pub fn beginning() -> Vec<Event> {
    let addresses = [false, true].map(|is_v6| NodeAddress {
        ip: cast::node(is_v6),
    });
    let mut events = vec![Event::NodeAddresses(addresses.into())];
    events.extend(Kind::ALL.map(Event::Init));
    events.push(Event::ApplyServiceCidr(ServiceCidr {
        name: "cidr".into(),
        cidrs: [false, true]
            .map(|is_v6| cast::cidr(is_v6).parse().expect("a network"))
            .into(),
    }));
    events.extend(Kind::ALL.map(Event::InitDone));
    events
}

fn key(number: u8) -> ObjectKey {
    ObjectKey::new("default", format!("s{number}"))
}

fn name(proto: u8) -> &'static str {
    match proto {
        TCP => "tcp",
        UDP => "udp",
        _ => "sctp",
    }
}

fn family(is_v6: bool) -> Family {
    if is_v6 { Family::V6 } else { Family::V4 }
}

fn object(number: u8, service: &Service) -> duolb::model::Service {
    let both = [false, true];
    let policy = |is_local| match is_local {
        true => TrafficPolicy::Local,
        false => TrafficPolicy::Cluster,
    };
    let ranges = cast::source_ranges(service.source_ranges).iter();
    duolb::model::Service {
        key: key(number),
        kind: match service.kind {
            0 => ServiceKind::ClusterIp,
            1 => ServiceKind::NodePort,
            _ => ServiceKind::LoadBalancer,
        },
        ip_family_policy: Some(IpFamilyPolicy::RequireDualStack),
        ip_families: both.map(family).into(),
        cluster_ips: both.map(|v6| cast::cluster_ip(service.vip, v6)).into(),
        ports: PROTOCOLS
            .into_iter()
            .filter(|proto| service.has(*proto))
            .map(|proto| ServicePort {
                name: name(proto).into(),
                protocol: Protocol::from_number(proto).expect("one of three"),
                port: PORT,
                node_port: if service.kind > 0 {
                    cast::node_port(service.vip, proto)
                } else {
                    0
                },
            })
            .collect(),
        internal_policy: policy(service.is_internal_local),
        external_policy: policy(service.is_external_local),
        affinity: service.affinity,
        external_ips: match service.has_external {
            true => both.map(|v6| cast::external(service.vip, v6)).into(),
            false => vec![],
        },
        load_balancer_ips: match service.kind > 1 {
            true => both.map(|v6| cast::load_balancer(service.vip, v6)).into(),
            false => vec![],
        },
        source_ranges: ranges.map(|net| net.parse().expect("a network")).collect(),
        health_check_node_port: None,
    }
}
