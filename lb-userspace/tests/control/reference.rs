//! The desired state worked out naively, from the rules and nothing else: no index, no order, no maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use duolb::model::{
    EndpointSlice, NodeAddress, Service, ServicePort, SliceEndpoint, TrafficPolicy,
};
use ipnet::IpNet;
use lb_common::address::Family;

use crate::{
    NODE,
    meaning::{Meaning, Ways, is_served},
};

pub(crate) fn meaning<'a>(
    services: impl Iterator<Item = &'a Service>,
    slices: &[&EndpointSlice],
    own: &[NodeAddress],
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
                let ways = of_cluster_ip(service, port, *ip, slices);
                meaning.frontends.insert(frontend, (name.clone(), ways));
                let family = Family::of(ip);
                for (ip, number, words) in outside(service, port, family, own) {
                    let frontend = format!("{}/{}", SocketAddr::new(ip, number), port.protocol);
                    let ways = of_outside(service, port, family, slices, words);
                    meaning.frontends.insert(frontend, (name.clone(), ways));
                }
                let sources = sources(service, family).into_iter();
                meaning
                    .sources
                    .extend(sources.map(|net| (name.clone(), net)));
            }
        }
    }
    meaning
}

fn of_cluster_ip(
    service: &Service,
    port: &ServicePort,
    ip: IpAddr,
    slices: &[&EndpointSlice],
) -> Ways {
    let lists = lists(service, port, Family::of(&ip), slices, NODE, None);
    let is_local = service.internal_policy == TrafficPolicy::Local;
    // Rule 41.
    let is_dropped = is_local && lists.has_any && lists.local.is_empty();
    Ways {
        words: if is_dropped { vec!["drop"] } else { vec![] },
        endpoints: if is_local { lists.local } else { lists.cluster },
        inside: None,
    }
}

/// What clients address but the cluster IP, with what it is; no address twice.
pub(crate) fn outside(
    service: &Service,
    port: &ServicePort,
    family: Family,
    own: &[NodeAddress],
) -> Vec<(IpAddr, u16, Vec<&'static str>)> {
    let mut all: Vec<(IpAddr, u16, Vec<&'static str>)> = Vec::new();
    let of_family = |ip: &&IpAddr| Family::of(ip) == family;
    for ip in service.load_balancer_ips.iter().filter(of_family) {
        let mut words = vec!["LoadBalancer"];
        if service.external_ips.contains(ip) {
            words.push("ExternalIP");
        }
        let ranges = sources(service, family);
        if !ranges.is_empty() {
            words.push("restricted");
            let clients = own.iter();
            let clients = clients.filter(|it| !it.is_loopback() && !it.is_link_local());
            let mut clients = clients.map(|address| address.ip);
            // Rule 47.
            if !clients.any(|ip| ranges.iter().any(|net| net.contains(&ip))) {
                words.push("node-denied");
            }
        }
        all.push((*ip, port.port, words));
    }
    for ip in service.external_ips.iter().filter(of_family) {
        if !service.load_balancer_ips.contains(ip) {
            all.push((*ip, port.port, vec!["ExternalIP"]));
        }
    }
    // Rules 62 to 65, with the default `primary` and nobody to say which that is.
    for address in own.iter().filter(|_| port.node_port != 0) {
        let is_reachable = family == Family::V4 || !address.is_link_local();
        if Family::of(&address.ip) == family && is_reachable && !address.is_loopback() {
            all.push((address.ip, port.node_port, vec!["NodePort"]));
        }
    }
    if port.node_port != 0 && !own.is_empty() {
        let loopback: IpAddr = match family {
            Family::V4 => [127, 0, 0, 1].into(),
            Family::V6 => [0, 0, 0, 0, 0, 0, 0, 1].into(),
        };
        all.push((loopback, port.node_port, vec!["NodePort", "host-only"]));
    }
    all
}

/// Rules 40, 42 to 45.
fn of_outside(
    service: &Service,
    port: &ServicePort,
    family: Family,
    slices: &[&EndpointSlice],
    mut words: Vec<&'static str>,
) -> Ways {
    let lists = lists(service, port, family, slices, NODE, None);
    match service.external_policy {
        TrafficPolicy::Cluster => Ways {
            words,
            endpoints: lists.cluster,
            inside: None,
        },
        TrafficPolicy::Local => {
            if lists.has_any && lists.local.is_empty() {
                words.push("drop");
            }
            Ways {
                words,
                endpoints: lists.local,
                inside: Some(lists.cluster),
            }
        }
    }
}

/// Rules 23 and 25: the networks that clients of load balancer addresses must be in; none: no restriction.
pub(crate) fn sources(service: &Service, family: Family) -> BTreeSet<IpNet> {
    let mut addresses = service.load_balancer_ips.iter();
    let ranges = service.source_ranges.iter();
    let ranges: BTreeSet<IpNet> = ranges
        .filter(|net| Family::of(&net.addr()) == family)
        .map(IpNet::trunc)
        .collect();
    let is_open = ranges.iter().any(|net| net.prefix_len() == 0);
    match addresses.any(|ip| Family::of(ip) == family) && !is_open {
        true => ranges,
        false => BTreeSet::new(),
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
    /// Those on the node (rule 16).
    pub(crate) here: BTreeSet<SocketAddr>,
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
        here: pick(&|e| is_local(e)),
        has_any: !ready.is_empty() || !pick(&is_leaving).is_empty(),
        cluster: only_if(!internal_is_local || is_external, cluster),
        local: only_if(internal_is_local || external_is_local && is_external, local),
        is_external,
    }
}
