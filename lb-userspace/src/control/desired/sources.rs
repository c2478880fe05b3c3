//! Who may use a Service's load balancer addresses (rules 23, 25 and 47).

use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::{
    address::{Address, Family},
    tables::Frontend,
};

use super::Network;
use crate::model::Service;

/// The ranges of family `A`, sorted, each once; none where there is no restriction: no load balancer address, no
/// range of this family (those of the other one are none of its business, rule 23), or one that is everything
/// (rule 25).
pub(super) fn find_sources<A: Address>(service: &Service) -> Box<[Network<A>]> {
    let mut addresses = service.load_balancer_ips.iter();
    if !addresses.any(|ip| Family::of(ip) == A::FAMILY) {
        return Box::default();
    }
    let network = |net: &IpNet| {
        Some(Network {
            addr: A::from_ip(net.network())?,
            prefix: net.prefix_len(),
        })
    };
    let mut sources: Vec<Network<A>> = service.source_ranges.iter().filter_map(network).collect();
    if sources.iter().any(|net| net.prefix == 0) {
        return Box::default();
    }
    sources.sort_unstable();
    sources.dedup();
    sources.into()
}

/// The flags of a load balancer's frontend whose clients must be in `sources`; the node's own have one of `clients`.
pub(super) fn flags<A: Address>(sources: &[Network<A>], clients: &[IpAddr]) -> u32 {
    if sources.is_empty() {
        return 0;
    }
    let is_in = |ip: &IpAddr, source: &Network<A>| {
        IpNet::new(source.addr.to_ip(), source.prefix).is_ok_and(|net| net.contains(ip))
    };
    let is_admitted = clients
        .iter()
        .any(|ip| sources.iter().any(|source| is_in(ip, source)));
    if is_admitted {
        Frontend::SOURCE_RANGES
    } else {
        Frontend::SOURCE_RANGES | Frontend::NODE_DENIED
    }
}
