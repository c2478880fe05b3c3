//! The language of `behaviours/*.txt`: objects as one line each, and what the maps mean after them.
//!
//! ```text
//! # comment; the first lines say what the script shows, with rule numbers
//! maps services=8 frontends=8 slots=8      sizes, before anything else (64 of each by default)
//! listing / listed                         a complete listing begins / ends
//! service NAME KIND IPS NAME:PORT/PROTO..  it exists; IPS separated by commas, `-` for none
//! slice NAME of SERVICE PORT:NUM/PROTO.. -> ADDRESS[=CONDITIONS]..   conditions: those that hold
//! no-service NAME / no-slice NAME          it is gone
//! restart                                  another agent takes over the maps, knowing nothing
//! expect [CALLS]                           brought up to date, the maps mean the indented lines that
//!   LINE                                   follow, and that took at most so many calls; lines with
//!   ! PROBLEM                              `!` are the problems reported
//! ```

use std::net::IpAddr;

use duolb::{
    model::{
        Conditions, EndpointSlice, IpFamilyPolicy, ObjectKey, Protocol, Service, ServiceKind,
        ServicePort, SliceEndpoint, SlicePort,
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
            steps.push(parse_step(line).unwrap_or_else(|| panic!("not understood: {line}")));
        }
    }
    steps
}

fn parse_step(line: &str) -> Option<Step> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (verb, rest) = words.split_first()?;
    let event = match (*verb, rest) {
        ("maps", [services, frontends, slots]) => {
            return Some(Step::Maps {
                services: services.strip_prefix("services=")?.parse().ok()?,
                frontends: frontends.strip_prefix("frontends=")?.parse().ok()?,
                slots: slots.strip_prefix("slots=")?.parse().ok()?,
            });
        }
        ("restart", []) => return Some(Step::Restart),
        ("expect", []) => {
            return Some(Step::Expect {
                calls: None,
                lines: vec![],
            });
        }
        ("expect", [calls]) => {
            return Some(Step::Expect {
                calls: Some(calls.parse().ok()?),
                lines: vec![],
            });
        }
        ("listing", []) => Event::Init(Kind::Services),
        ("listed", []) => Event::InitDone(Kind::ServiceCidrs),
        ("service", [name, kind, ips, ports @ ..]) => {
            Event::ApplyService(parse_service(name, kind, ips, ports)?)
        }
        ("slice", [name, "of", service, rest @ ..]) => {
            Event::ApplySlice(parse_slice(name, service, rest)?)
        }
        ("no-service", [name]) => Event::DeleteService(key(name)),
        ("no-slice", [name]) => Event::DeleteSlice(key(name)),
        _ => return None,
    };
    Some(Step::Event(Box::new(event)))
}

/// All objects live in the namespace "default" unless they say another.
fn key(name: &str) -> ObjectKey {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    ObjectKey::new(namespace, name)
}

fn parse_service(name: &str, kind: &str, ips: &str, ports: &[&str]) -> Option<Service> {
    let ips = ips.split(',').filter(|ip| *ip != "-");
    let cluster_ips: Vec<IpAddr> = ips.map(|ip| ip.parse().ok()).collect::<Option<_>>()?;
    Some(Service {
        key: key(name),
        kind: match kind {
            "ClusterIP" => ServiceKind::ClusterIp,
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
    })
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
    let (address, conditions) = match endpoint.split_once('=') {
        None => (endpoint, Conditions::default()),
        Some((address, names)) => {
            let has = |name| names.split(',').any(|other| other == name);
            let conditions = Conditions {
                ready: has("ready"),
                serving: has("serving"),
                terminating: has("terminating"),
            };
            (address, conditions)
        }
    };
    Some(SliceEndpoint {
        address: address.parse().ok()?,
        conditions,
        node: None,
        hints: duolb::model::Hints::default(),
    })
}
