//! The language of `behaviours/*.txt`: objects as one line each, and what the maps mean after them.
//!
//! ```text
//! # comment; the first lines say what the script shows, with rule numbers
//! maps services=8 frontends=8 slots=8      sizes, before anything else (64 of each by default)
//! node-ports WORD..                        the addresses of node ports, before anything else but sizes: primary
//!                                          (that is so by default), localhost, all, or networks
//! listing / listed                         a complete listing begins / ends
//! listing KIND / listed KIND               of services, slices, nodes or cidrs alone
//! service NAME KIND IPS [OPTION..] NAME:PORT/PROTO..  it exists; IPS separated by commas, `-` for none;
//!                                          options: itp=Local etp=Local affinity=SECONDS node-port=NUMBER
//!                                          (of the first port) external=IP,.. balancer=IP,..
//!                                          sources=NETWORK,..
//! slice NAME of SERVICE PORT:NUM/PROTO.. -> ADDRESS[@NODE][=CONDITIONS][;zones=..][;nodes=..]..
//!                                          conditions: those that hold; lists separated by commas
//! node NAME [zone=ZONE] [address=IP,..]    the agent runs on the node "here"
//! addresses IP..                           the node's own addresses, as the kernel tells
//! cidr NAME NETWORK..                      a ServiceCIDR
//! no-service NAME / no-slice NAME / no-node NAME / no-cidr NAME      it is gone
//! restart                                  another agent takes over the maps, knowing nothing
//! expect [CALLS]                           brought up to date, the maps mean the indented lines that
//!   LINE                                   follow, and that took at most so many calls; lines with
//!   ! PROBLEM                              `!` are the problems reported
//! ```

use std::net::IpAddr;

use duolb::{
    config::NodePortAddress,
    model::{
        Conditions, EndpointSlice, Hints, IpFamilyPolicy, Node, NodeAddress, ObjectKey, Protocol,
        Service, ServiceCidr, ServiceKind, ServicePort, SliceEndpoint, SlicePort, TrafficPolicy,
    },
    source::{Event, Kind},
};
use lb_common::address::Family;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Maps {
        services: u32,
        frontends: usize,
        slots: u32,
    },
    NodePorts(Vec<NodePortAddress>),
    Event(Box<Event>),
    Restart,
    Expect {
        calls: Option<usize>,
        lines: Vec<String>,
    },
}

pub(crate) fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    {
        if let Some(expected) = line.strip_prefix("  ") {
            match steps.last_mut() {
                Some(Step::Expect { lines, .. }) => lines.push(expected.to_owned()),
                _ => panic!("an indented line without `expect`: {line}"),
            }
        } else {
            let parsed = parse_step(line);
            steps.extend(parsed.unwrap_or_else(|| panic!("not understood: {line}")));
        }
    }
    steps
}

fn parse_step(line: &str) -> Option<Vec<Step>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (verb, rest) = words.split_first()?;
    let event = match (*verb, rest) {
        ("maps", [services, frontends, slots]) => {
            return Some(vec![Step::Maps {
                services: services.strip_prefix("services=")?.parse().ok()?,
                frontends: frontends.strip_prefix("frontends=")?.parse().ok()?,
                slots: slots.strip_prefix("slots=")?.parse().ok()?,
            }]);
        }
        ("node-ports", words) => {
            let addresses = words.iter().map(|word| node_port_address(word));
            return Some(vec![Step::NodePorts(addresses.collect::<Option<_>>()?)]);
        }
        ("addresses", ips) => Event::NodeAddresses(
            ips.iter()
                .map(|ip| {
                    Some(NodeAddress {
                        ip: ip.parse().ok()?,
                    })
                })
                .collect::<Option<_>>()?,
        ),
        ("restart", []) => return Some(vec![Step::Restart]),
        ("expect", []) => {
            return Some(vec![Step::Expect {
                calls: None,
                lines: vec![],
            }]);
        }
        ("expect", [calls]) => {
            return Some(vec![Step::Expect {
                calls: Some(calls.parse().ok()?),
                lines: vec![],
            }]);
        }
        ("listing", []) => return Some(Kind::ALL.map(|kind| step(Event::Init(kind))).into()),
        ("listed", []) => return Some(Kind::ALL.map(|kind| step(Event::InitDone(kind))).into()),
        ("listing", [kind]) => Event::Init(parse_kind(kind)?),
        ("listed", [kind]) => Event::InitDone(parse_kind(kind)?),
        ("service", [name, kind, ips, rest @ ..]) => {
            let is_port = |word: &&str| word.contains('/') && !word.contains('=');
            let ports = rest.iter().position(is_port)?;
            let (options, ports) = rest.split_at(ports);
            Event::ApplyService(parse_service(name, kind, ips, options, ports)?)
        }
        ("slice", [name, "of", service, rest @ ..]) => {
            Event::ApplySlice(parse_slice(name, service, rest)?)
        }
        ("node", [name, options @ ..]) => Event::ApplyNode(parse_node(name, options)?),
        ("cidr", [name, cidrs @ ..]) => Event::ApplyServiceCidr(ServiceCidr {
            name: (*name).into(),
            cidrs: cidrs
                .iter()
                .map(|cidr| cidr.parse().ok())
                .collect::<Option<_>>()?,
        }),
        ("no-service", [name]) => Event::DeleteService(key(name)),
        ("no-slice", [name]) => Event::DeleteSlice(key(name)),
        ("no-node", [name]) => Event::DeleteNode((*name).into()),
        ("no-cidr", [name]) => Event::DeleteServiceCidr((*name).into()),
        _ => return None,
    };
    Some(vec![step(event)])
}

fn node_port_address(word: &str) -> Option<NodePortAddress> {
    Some(match word {
        "primary" => NodePortAddress::Primary,
        "localhost" => NodePortAddress::Localhost,
        "all" => NodePortAddress::All,
        network => NodePortAddress::Network(network.parse().ok()?),
    })
}

fn parse_node(name: &str, options: &[&str]) -> Option<Node> {
    let mut node = Node {
        name: name.into(),
        ..Node::default()
    };
    for option in options {
        match option.split_once('=')? {
            ("zone", zone) => node.zone = Some(zone.into()),
            ("address", ips) => {
                let ips = ips.split(',').map(|ip| ip.parse().ok());
                node.addresses = ips.collect::<Option<_>>()?;
            }
            _ => return None,
        }
    }
    Some(node)
}

fn step(event: Event) -> Step {
    Step::Event(Box::new(event))
}

fn parse_kind(word: &str) -> Option<Kind> {
    match word {
        "services" => Some(Kind::Services),
        "slices" => Some(Kind::Slices),
        "nodes" => Some(Kind::Nodes),
        "cidrs" => Some(Kind::ServiceCidrs),
        _ => None,
    }
}

/// All objects live in the namespace "default" unless they say another.
fn key(name: &str) -> ObjectKey {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    ObjectKey::new(namespace, name)
}

fn parse_service(
    name: &str,
    kind: &str,
    ips: &str,
    options: &[&str],
    ports: &[&str],
) -> Option<Service> {
    let ips = ips.split(',').filter(|ip| *ip != "-");
    let cluster_ips: Vec<IpAddr> = ips.map(|ip| ip.parse().ok()).collect::<Option<_>>()?;
    let mut service = Service {
        key: key(name),
        kind: match kind {
            "ClusterIP" => ServiceKind::ClusterIp,
            "NodePort" => ServiceKind::NodePort,
            "LoadBalancer" => ServiceKind::LoadBalancer,
            "Headless" => ServiceKind::Headless,
            "ExternalName" => ServiceKind::ExternalName,
            _ => return None,
        },
        ip_family_policy: Some(match cluster_ips.len() {
            2 => IpFamilyPolicy::PreferDualStack,
            _ => IpFamilyPolicy::SingleStack,
        }),
        ip_families: cluster_ips.iter().map(Family::of).collect(),
        cluster_ips,
        ports: ports
            .iter()
            .map(|port| {
                let (name, port, protocol) = parse_port(port)?;
                Some(ServicePort {
                    name,
                    protocol,
                    port,
                    node_port: 0,
                })
            })
            .collect::<Option<_>>()?,
        ..Service::default()
    };
    for option in options {
        let (option, value) = option.split_once('=')?;
        let ips = || {
            value
                .split(',')
                .map(|ip| ip.parse().ok())
                .collect::<Option<_>>()
        };
        match (option, value) {
            ("itp", "Local") => service.internal_policy = TrafficPolicy::Local,
            ("etp", "Local") => service.external_policy = TrafficPolicy::Local,
            ("affinity", _) => service.affinity = Some(value.parse().ok()?),
            ("node-port", _) => service.ports.first_mut()?.node_port = value.parse().ok()?,
            ("external", _) => service.external_ips = ips()?,
            ("balancer", _) => service.load_balancer_ips = ips()?,
            ("sources", _) => {
                let nets = value.split(',').map(|net| net.parse().ok());
                service.source_ranges = nets.collect::<Option<_>>()?;
            }
            _ => return None,
        }
    }
    Some(service)
}

fn parse_slice(name: &str, service: &str, rest: &[&str]) -> Option<EndpointSlice> {
    let arrow = rest.iter().position(|word| *word == "->")?;
    let endpoints: Vec<_> = rest[arrow + 1..]
        .iter()
        .map(|word| parse_endpoint(word))
        .collect::<Option<_>>()?;
    let family = endpoints
        .first()
        .map_or(Family::V4, |endpoint| Family::of(&endpoint.address));
    let port = |port: &&str| {
        let (name, port, protocol) = parse_port(port)?;
        Some(SlicePort {
            name,
            protocol,
            port,
        })
    };
    Some(EndpointSlice {
        key: key(name),
        service: service.into(),
        family,
        ports: rest[..arrow].iter().map(port).collect::<Option<_>>()?,
        endpoints,
        triggered: None,
    })
}

fn parse_port(port: &str) -> Option<(String, u16, Protocol)> {
    let (name, rest) = port.rsplit_once(':')?;
    let (number, protocol) = rest.split_once('/')?;
    let protocol = match protocol {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    Some((name.into(), number.parse().ok()?, protocol))
}

fn parse_endpoint(endpoint: &str) -> Option<SliceEndpoint> {
    let mut parts = endpoint.split(';');
    let place = parts.next()?;
    let (place, conditions) = match place.split_once('=') {
        None => (place, Conditions::default()),
        Some((place, names)) => {
            let has = |name| names.split(',').any(|other| other == name);
            let conditions = Conditions {
                ready: has("ready"),
                serving: has("serving"),
                terminating: has("terminating"),
            };
            (place, conditions)
        }
    };
    let (address, node) = match place.split_once('@') {
        None => (place, None),
        Some((address, node)) => (address, Some(node.to_owned())),
    };
    let mut hints = Hints::default();
    for part in parts {
        let (kind, names) = part.split_once('=')?;
        let names = names.split(',').map(str::to_owned).collect();
        match kind {
            "zones" => hints.zones = names,
            "nodes" => hints.nodes = names,
            _ => return None,
        }
    }
    Some(SliceEndpoint {
        address: address.parse().ok()?,
        conditions,
        node,
        hints,
    })
}
