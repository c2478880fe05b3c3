//! Which endpoints of a service port get new flows (rules 10 to 19, 31, 33, 34).
//!
//! Local lists and topology will be further filters over the same candidates (rules 32 and 35 to 39).

use std::sync::Arc;

use lb_common::{address::Address, tables::Endpoint};

use super::super::index::SliceSet;
use crate::model::{Conditions, ServicePort};

/// The endpoints that new flows to `port` go to, sorted by address and port, each once.
///
/// The ready ones; if there is none, those that still serve while they terminate (rule 31). One that is
/// neither ready nor terminating is never used (rule 33).
pub(super) fn usable<A: Address>(port: &ServicePort, slices: &SliceSet<A>) -> Arc<[Endpoint<A>]> {
    let candidates = candidates(port, slices);
    let choose = |wanted: fn(&Conditions) -> bool| -> Arc<[Endpoint<A>]> {
        let chosen = candidates
            .iter()
            .filter(|(_, conditions)| wanted(conditions));
        chosen.map(|(endpoint, _)| *endpoint).collect()
    };
    let ready = choose(|conditions| conditions.ready);
    if ready.is_empty() {
        choose(|conditions| conditions.serving && conditions.terminating)
    } else {
        ready
    }
}

/// All endpoints of `port`, sorted by address and port, each once.
///
/// Slice ports match by name and protocol and bring their own number (rule 10); one address with two
/// ports is two endpoints (rule 18). Of duplicates kube-proxy keeps one that is not terminating; where
/// that leaves it open, the readier one is kept, so that the order of slices never matters (rule 17).
fn candidates<A: Address>(
    port: &ServicePort,
    slices: &SliceSet<A>,
) -> Vec<(Endpoint<A>, Conditions)> {
    let mut all = Vec::new();
    for slice in slices.iter() {
        let ports = slice.ports().iter();
        let matching =
            ports.filter(|other| other.name == port.name && other.protocol == port.protocol);
        for target in matching {
            let number = target.port.to_be();
            all.extend(
                slice
                    .endpoints()
                    .map(|(addr, conditions)| (Endpoint::new(addr, number), conditions)),
            );
        }
    }
    all.sort_unstable_by_key(|(endpoint, conditions)| {
        let last = (
            conditions.terminating,
            !conditions.ready,
            !conditions.serving,
        );
        (endpoint.addr.to_ip(), u16::from_be(endpoint.port), last)
    });
    all.dedup_by_key(|(endpoint, _)| *endpoint);
    all
}
