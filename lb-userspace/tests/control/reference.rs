//! The desired state worked out naively, from the rules and nothing else: no index, no order, no maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use duolb::model::{EndpointSlice, Service, ServicePort, SliceEndpoint, TrafficPolicy};
use lb_common::address::Family;

use crate::{
    NODE,
    meaning::{Meaning, is_served},
};

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
    let lists = lists(service, port, Family::of(&ip), slices, NODE, None);
    match service.internal_policy {
        TrafficPolicy::Cluster => lists.cluster,
        TrafficPolicy::Local => lists.local,
    }
}

/// The endpoints of a service port, and which of them new flows may go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    /// All that slices name.
    pub(crate) known: BTreeSet<SocketAddr>,
    /// Rule 31; empty if it is not used (rule 30).
    pub(crate) cluster: BTreeSet<SocketAddr>,
    /// Rule 32; empty if it is not used (rule 30).
    pub(crate) local: BTreeSet<SocketAddr>,
    /// Rule 34.
    pub(crate) has_any: bool,
    /// Rule 29.
    pub(crate) is_external: bool,
}

/// What rules 10 and 16 to 18 leave of the slices, and 29 to 39 of that, on the node `node` in `zone`.
pub(crate) fn lists(
    service: &Service,
    port: &ServicePort,
    family: Family,
    slices: &[&EndpointSlice],
    node: &str,
    zone: Option<&str>,
) -> Lists {
    let mut slices = slices.to_vec();
    slices.sort_by(|a, b| a.key.name.cmp(&b.key.name));
    let mut seen: BTreeMap<SocketAddr, Vec<&SliceEndpoint>> = BTreeMap::new();
    for slice in slices {
        let is_ours = slice.key.namespace == service.key.namespace
            && slice.service == service.key.name
            && slice.family == family;
        for target in slice.ports.iter().filter(|_| is_ours) {
            if target.name == port.name && target.protocol == port.protocol {
                for endpoint in &slice.endpoints {
                    let socket = SocketAddr::new(endpoint.address, target.port);
                    seen.entry(socket).or_default().push(endpoint);
                }
            }
        }
    }
    let is_local = |e: &SliceEndpoint| !node.is_empty() && e.node.as_deref() == Some(node);
    // Rule 17: one that is not terminating beats one that is; then the readier one, the local one, the first.
    let all: BTreeMap<SocketAddr, &SliceEndpoint> = seen
        .into_iter()
        .map(|(socket, same)| {
            let mut best = same[0];
            for other in same {
                let rank = |e: &SliceEndpoint| {
                    let c = e.conditions;
                    (!c.terminating, c.ready, c.serving, is_local(e))
                };
                if rank(other) > rank(best) {
                    best = other;
                }
            }
            (socket, best)
        })
        .collect();
    let pick = |wanted: &dyn Fn(&SliceEndpoint) -> bool| -> BTreeSet<SocketAddr> {
        let picked = all.iter().filter(|(_, endpoint)| wanted(endpoint));
        picked.map(|(socket, _)| *socket).collect()
    };

    let is_ready = |e: &SliceEndpoint| e.conditions.ready;
    let is_leaving = |e: &SliceEndpoint| e.conditions.serving && e.conditions.terminating;
    let for_us = |e: &SliceEndpoint| e.hints.nodes.iter().any(|name| name == node);
    let for_our_zone = |e: &SliceEndpoint| e.hints.zones.iter().any(|name| Some(&**name) == zone);
    let ready: Vec<&SliceEndpoint> = all.values().copied().filter(|e| is_ready(e)).collect();
    let near: &dyn Fn(&SliceEndpoint) -> bool =
        if ready.iter().all(|e| !e.hints.nodes.is_empty()) && ready.iter().any(|e| for_us(e)) {
            &for_us
        } else if ready.iter().all(|e| !e.hints.zones.is_empty())
            && ready.iter().any(|e| for_our_zone(e))
        {
            &for_our_zone
        } else {
            &|_| true
        };
    let or = |first: BTreeSet<SocketAddr>, second| if first.is_empty() { second } else { first };
    let cluster = or(pick(&|e| is_ready(e) && near(e)), pick(&is_leaving));
    let local = or(
        pick(&|e| is_ready(e) && is_local(e)),
        pick(&|e| is_leaving(e) && is_local(e)),
    );

    let outside = || {
        service
            .external_ips
            .iter()
            .chain(&service.load_balancer_ips)
    };
    let is_external = port.node_port != 0 || outside().any(|ip| Family::of(ip) == family);
    let internal_is_local = service.internal_policy == TrafficPolicy::Local;
    let external_is_local = service.external_policy == TrafficPolicy::Local;
    let only_if = |used, list: BTreeSet<SocketAddr>| if used { list } else { BTreeSet::new() };
    Lists {
        known: all.keys().copied().collect(),
        has_any: !ready.is_empty() || !pick(&is_leaving).is_empty(),
        cluster: only_if(!internal_is_local || is_external, cluster),
        local: only_if(internal_is_local || external_is_local && is_external, local),
        is_external,
    }
}
