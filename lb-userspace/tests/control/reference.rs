//! The desired state worked out naively, from the rules and nothing else: no index, no order, no maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use duolb::model::{Conditions, EndpointSlice, Service, ServicePort};
use lb_common::address::Family;

use crate::meaning::{Meaning, is_served};

pub(crate) fn meaning<'a>(
    services: impl Iterator<Item = &'a Service>,
    slices: &[&EndpointSlice],
) -> Meaning {
    let mut meaning = Meaning::default();
    for service in services {
        if !is_served(service.kind) {
            meaning
                .records
                .insert(format!("{} {}", service.key, service.kind));
            continue;
        }
        for port in &service.ports {
            let name = format!("{}:{}/{}", service.key, port.name, port.protocol);
            meaning.records.insert(name.clone());
            for ip in &service.cluster_ips {
                let frontend = format!("{}/{}", SocketAddr::new(*ip, port.port), port.protocol);
                let endpoints = endpoints(service, port, *ip, slices);
                meaning
                    .frontends
                    .insert(frontend, (name.clone(), endpoints));
            }
        }
    }
    meaning
}

fn endpoints(
    service: &Service,
    port: &ServicePort,
    ip: IpAddr,
    slices: &[&EndpointSlice],
) -> BTreeSet<SocketAddr> {
    let mut seen: BTreeMap<SocketAddr, Vec<Conditions>> = BTreeMap::new();
    for slice in slices {
        let is_ours = slice.key.namespace == service.key.namespace
            && slice.service == service.key.name
            && slice.family == Family::of(&ip);
        for target in slice.ports.iter().filter(|_| is_ours) {
            if target.name == port.name && target.protocol == port.protocol {
                for endpoint in &slice.endpoints {
                    let socket = SocketAddr::new(endpoint.address, target.port);
                    seen.entry(socket).or_default().push(endpoint.conditions);
                }
            }
        }
    }
    // Rule 17: one that is not terminating beats one that is; then the readier one.
    let best = |all: &Vec<Conditions>| {
        let staying: Vec<_> = all
            .iter()
            .filter(|conditions| !conditions.terminating)
            .collect();
        let all = if staying.is_empty() {
            all.iter().collect()
        } else {
            staying
        };
        *all.into_iter()
            .max_by_key(|c| (c.ready, c.serving))
            .expect("seen at least once")
    };
    let pick = |wanted: fn(Conditions) -> bool| -> BTreeSet<SocketAddr> {
        seen.iter()
            .filter(|(_, all)| wanted(best(all)))
            .map(|(socket, _)| *socket)
            .collect()
    };
    let ready = pick(|c| c.ready);
    if ready.is_empty() {
        pick(|c| c.serving && c.terminating)
    } else {
        ready
    }
}
