//! What the rules say about a new flow, by the Services and endpoints there are and by nothing else.

use std::{collections::BTreeSet, net::SocketAddr};

use ipnet::IpNet;
use lb_common::verdict::Verdict;

use crate::{
    cast::{self, PORT},
    step::Talk,
    world::{Endpoint, Service, World},
};

/// What becomes of a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// To one of these endpoints, of that Service.
    To(u8, BTreeSet<u8>),
    Dropped(Verdict),
    Refused(Verdict),
    /// The address is nobody's.
    Untouched,
}

/// The Service that a talk's destination belongs to, and whether it is its cluster IP.
pub fn find_service(world: &World, talk: &Talk) -> Option<(u8, bool)> {
    let (_, dst, proto) = talk.tuple();
    let mut services = world.services.iter().filter(|(_, it)| it.has(proto));
    services.find_map(|(number, service)| {
        let at = |ip, port| dst == SocketAddr::new(ip, port);
        let is_v6 = talk.is_v6;
        // Rules 22 to 24, 26, 62.
        let is_internal = at(cast::cluster_ip(service.vip, is_v6), PORT);
        let is_external = service.has_external && at(cast::external(service.vip, is_v6), PORT)
            || is_load_balancer(service, talk)
            || service.kind > 0 && at(cast::node(is_v6), cast::node_port(service.vip, proto));
        (is_internal || is_external).then_some((*number, is_internal))
    })
}

fn is_load_balancer(service: &Service, talk: &Talk) -> bool {
    let address = SocketAddr::new(cast::load_balancer(service.vip, talk.is_v6), PORT);
    service.kind > 1 && address == talk.to.socket(talk.proto, talk.is_v6)
}

/// Those of a Service's endpoints that `wanted` names: the ready ones, else those that are about to leave and answer
/// still (rules 31 to 33).
fn usable(world: &World, service: u8, wanted: impl Fn(u8) -> bool) -> BTreeSet<u8> {
    let pick = |is_usable: fn(&Endpoint) -> bool| -> BTreeSet<u8> {
        let all = world.endpoints.range((service, 0)..=(service, u8::MAX));
        let picked = all.filter(|((_, number), (it, _))| wanted(*number) && is_usable(it));
        picked.map(|((_, number), _)| *number).collect()
    };
    let ready = pick(|it| it.ready);
    if ready.is_empty() {
        return pick(|it| it.serving && it.terminating);
    }
    ready
}

/// What becomes of a talk that begins.
pub fn judge(world: &World, talk: &Talk) -> Fate {
    let (client, dst, _) = talk.tuple();
    let Some((number, is_internal)) = find_service(world, talk) else {
        let net: IpNet = cast::cidr(talk.is_v6).parse().expect("a network");
        let mut vips = world.services.values();
        return if vips.any(|it| dst.ip() == cast::cluster_ip(it.vip, talk.is_v6)) {
            Fate::Refused(Verdict::UnknownPort) // rule 49
        } else if net.contains(&dst.ip()) {
            Fate::Dropped(Verdict::Unallocated) // rule 50
        } else {
            Fate::Untouched // rule 51
        };
    };
    let service = &world.services[&number];
    // Rules 23, 25, 47 and 48.
    let ranges = cast::source_ranges(service.source_ranges).iter();
    let ranges = ranges.map(|net| net.parse::<IpNet>().expect("a network"));
    let ranges: Vec<_> = ranges
        .filter(|net| net.addr().is_ipv6() == talk.is_v6)
        .collect();
    let is_admitted = ranges.is_empty() || ranges.iter().any(|net| net.contains(&client.ip()));
    if is_load_balancer(service, talk) && !is_admitted {
        return Fate::Dropped(Verdict::SourceDenied);
    }
    let anywhere = usable(world, number, |_| true);
    let here = usable(world, number, cast::is_here);
    let is_local = if is_internal {
        service.is_internal_local // rule 43
    } else {
        service.is_external_local && !cast::is_inside(talk.client) // rules 42, 44 and 45
    };
    if anywhere.is_empty() {
        return Fate::Refused(Verdict::NoEndpoint); // rules 34 and 40
    }
    match (is_local, here.is_empty()) {
        (false, _) => Fate::To(number, anywhere),
        (true, false) => Fate::To(number, here),
        (true, true) => Fate::Dropped(Verdict::NoLocalEndpoint), // rules 41 and 42
    }
}
