//! Services as the `SERVICES` map keeps them: conversion between the model and [`ServiceRecord`].
//!
//! A record says everything about a service port but its endpoints, so that a restarted agent finds its
//! ids again, the source of manifests the addresses it assigned, and the CLI the names, with nothing but
//! the pins. A record also determines its frontends: what `desired` asks for and what `restore` expects
//! are read from it by the same function, [`find_frontend`].

mod parse;

pub use parse::{RecordError, RecordedService, parse_record, restored_cluster_ips};

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use lb_common::{
    address::{Address, Family},
    tables::{FrontendKey, NAME_LEN, ServiceRecord},
};

use super::problem::{Cause, Problem};
use crate::model::{IpFamilyPolicy, Protocol, Service, ServiceKind, ServicePort};

/// Number of the families, and so of the addresses, a Service can have.
const FAMILIES: usize = Family::BOTH.len();

/// The record of `service` that stands for `port`, or for the Service as a whole where it has no ports
/// to serve.
///
/// # Errors
/// A [`Problem`] that names the field which does not fit.
pub fn record(service: &Service, port: Option<&ServicePort>) -> Result<ServiceRecord, Problem> {
    let problem = |field: &str, value: String, cause| Problem {
        service: Some(Arc::new(service.key.clone())),
        field: field.into(),
        value,
        cause,
    };
    let name = |field: &str, name: &str| {
        padded(name).map_err(|cause| problem(field, name.to_owned(), cause))
    };
    let (families, cluster_ips) = addresses(service)
        .map_err(|(value, why)| problem("spec.clusterIPs", value, Cause::Invalid(why)))?;
    Ok(ServiceRecord {
        namespace: name("metadata.namespace", &service.key.namespace)?,
        name: name("metadata.name", &service.key.name)?,
        port_name: name("spec.ports[].name", port.map_or("", |port| &port.name))?,
        cluster_ips,
        families,
        port: port.map_or(0, |port| port.port),
        protocol: port.map_or(0, |port| port.protocol.number()),
        policy: match service.ip_family_policy {
            None => 0,
            Some(IpFamilyPolicy::SingleStack) => 1,
            Some(IpFamilyPolicy::PreferDualStack) => 2,
            Some(IpFamilyPolicy::RequireDualStack) => 3,
        },
        kind: match service.kind {
            ServiceKind::ClusterIp => 0,
            ServiceKind::NodePort => 1,
            ServiceKind::LoadBalancer => 2,
            ServiceKind::ExternalName => 3,
            ServiceKind::Headless => 4,
        },
        pad: 0,
    })
}

/// The frontend of a record in family `A`, if it has an address there (rules 21 and 22) and a port.
pub fn find_frontend<A: Address>(record: &ServiceRecord) -> Option<FrontendKey<A>> {
    if record.protocol == 0 {
        return None;
    }
    let vip = ips(record).into_iter().flatten().find_map(A::from_ip)?;
    Some(FrontendKey::new(vip, record.port.to_be(), record.protocol))
}

/// The frontend as users write it: `10.96.0.1:80/TCP`, `[fd00::1]:53/UDP`; of the mark of a VIP the address
/// alone.
pub fn frontend_name<A: Address>(key: &FrontendKey<A>) -> String {
    if (key.port, key.proto) == (0, 0) {
        return key.addr.to_ip().to_string();
    }
    let socket = SocketAddr::new(key.addr.to_ip(), u16::from_be(key.port));
    match Protocol::from_number(key.proto) {
        Some(protocol) => format!("{socket}/{protocol}"),
        None => format!("{socket}/{}", key.proto),
    }
}

/// The cluster IPs of a record, in order, each where its family stands in `families`.
fn ips(record: &ServiceRecord) -> [Option<IpAddr>; FAMILIES] {
    std::array::from_fn(|i| {
        let octets = record.cluster_ips[i];
        let ip = match record.families[i] {
            4 => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
            6 => IpAddr::V6(Ipv6Addr::from(octets)),
            _ => return None,
        };
        (!ip.is_unspecified()).then_some(ip)
    })
}

type RecordedAddresses = ([u8; FAMILIES], [[u8; 16]; FAMILIES]);

/// Families and cluster IPs as they stand in a record; else the value that does not fit, and why.
fn addresses(service: &Service) -> Result<RecordedAddresses, (String, &'static str)> {
    let (mut families, mut octets) = ([0; FAMILIES], [[0; 16]; FAMILIES]);
    if service.cluster_ips.len() > FAMILIES || service.ip_families.len() > FAMILIES {
        return Err((
            format!("{:?}", service.cluster_ips),
            "more than one per family",
        ));
    }
    for (slot, family) in families.iter_mut().zip(&service.ip_families) {
        *slot = *family as u8;
    }
    for (i, ip) in service.cluster_ips.iter().enumerate() {
        let family = Family::of(ip) as u8;
        if ip.is_unspecified() {
            return Err((ip.to_string(), "not an address of a service"));
        }
        if families[..i].contains(&family) {
            return Err((ip.to_string(), "second address of its family"));
        }
        // No families given: the addresses say them (rule 21).
        if families[i] != family && !service.ip_families.is_empty() {
            return Err((
                ip.to_string(),
                "not of the family that spec.ipFamilies names",
            ));
        }
        families[i] = family;
        match ip {
            IpAddr::V4(ip) => octets[i][..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => octets[i] = ip.octets(),
        }
    }
    Ok((families, octets))
}

fn padded(name: &str) -> Result<[u8; NAME_LEN], Cause> {
    if name.contains('\0') {
        return Err(Cause::Invalid("contains a zero byte"));
    }
    let mut bytes = [0; NAME_LEN];
    let place = bytes
        .get_mut(..name.len())
        .ok_or(Cause::LongerThan(NAME_LEN))?;
    place.copy_from_slice(name.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use lb_common::address::{V4, V6};

    use super::*;
    use crate::model::ObjectKey;

    fn dual_stack() -> Service {
        Service {
            key: ObjectKey::new("default", "web"),
            kind: ServiceKind::ClusterIp,
            ip_family_policy: Some(IpFamilyPolicy::PreferDualStack),
            ip_families: vec![Family::V6, Family::V4],
            cluster_ips: vec!["fd00::1".parse().unwrap(), "10.96.0.1".parse().unwrap()],
            ports: vec![ServicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: 0,
            }],
            ..Service::default()
        }
    }

    #[test]
    fn a_record_says_what_the_service_said() {
        let service = dual_stack();
        let record = record(&service, Some(&service.ports[0])).unwrap();
        let parsed = parse_record(&record).unwrap();
        assert_eq!(
            parsed.service,
            Service {
                ports: vec![],
                ..service.clone()
            }
        );
        assert_eq!(parsed.port.as_ref(), Some(&service.ports[0]));
    }

    #[test]
    fn a_frontend_has_the_address_of_its_family_and_a_port_in_network_order() {
        let service = dual_stack();
        let record = record(&service, Some(&service.ports[0])).unwrap();
        let v4 = find_frontend::<V4>(&record).unwrap();
        assert_eq!(
            v4,
            FrontendKey::new(V4::from(Ipv4Addr::new(10, 96, 0, 1)), 80u16.to_be(), 6)
        );
        let v6 = find_frontend::<V6>(&record).unwrap();
        assert_eq!(v6.addr.to_ip().to_string(), "fd00::1");
    }

    #[test]
    fn a_record_without_port_or_address_has_no_frontend() {
        let service = dual_stack();
        assert_eq!(find_frontend::<V4>(&record(&service, None).unwrap()), None);
        let v6_only = Service {
            ip_families: vec![Family::V6],
            cluster_ips: vec!["fd00::1".parse().unwrap()],
            ..service
        };
        let record = record(&v6_only, Some(&v6_only.ports[0])).unwrap();
        assert_eq!(find_frontend::<V4>(&record), None);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let long = Service {
            key: ObjectKey::new("default", "x".repeat(65)),
            ..dual_stack()
        };
        let problem = record(&long, None).unwrap_err();
        assert_eq!(
            (problem.field.as_str(), problem.cause),
            ("metadata.name", Cause::LongerThan(64))
        );

        let swapped = Service {
            ip_families: vec![Family::V4, Family::V6],
            ..dual_stack()
        };
        let problem = record(&swapped, None).unwrap_err();
        assert_eq!(
            (problem.field.as_str(), problem.value.as_str()),
            ("spec.clusterIPs", "fd00::1")
        );

        let longest = Service {
            key: ObjectKey::new("default", "x".repeat(64)),
            ..dual_stack()
        };
        let parsed = parse_record(&record(&longest, None).unwrap()).unwrap();
        assert_eq!(parsed.service.key.name.len(), 64);
    }
}
