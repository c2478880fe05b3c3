//! Which endpoints of a service port get new flows (rules 10 to 19 and 31 to 34).

use std::sync::Arc;

use lb_common::{address::Address, tables::Endpoint};

use super::{
    super::index::{KnownEndpoint, SliceSet, Zones},
    DesiredEndpoint,
    frontends::Uses,
    topology::Topology,
};
use crate::model::{Conditions, ServicePort};

/// What the two lists of a service port come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// Some endpoint anywhere could be used (rule 34).
    pub(super) has_any: bool,
    /// The Local list is not empty (rule 32); false if it is not needed.
    pub(super) has_local: bool,
}

/// Every endpoint that a slice names for `port`, sorted by address and port, each once, with the lists it is on.
pub(super) fn find_endpoints<A: Address>(
    port: &ServicePort,
    slices: &SliceSet<A>,
    zones: &Zones,
    uses: Uses,
) -> (Arc<[DesiredEndpoint<A>]>, Lists) {
    let candidates = candidates(port, slices, zones);
    let known = candidates.iter().map(|(known, _)| known);
    let ready = known.clone().filter(|known| known.conditions.ready);
    let topology = Topology::of(ready.clone());
    // Rules 31 and 32: those that leave count only while no other does, anywhere or here. Where they count,
    // topology does not: there is no ready one to have hints.
    let has_ready = ready.clone().next().is_some();
    let has_local_ready = ready.clone().any(|known| known.is_local);
    let is_on_cluster = |known: &KnownEndpoint<A>| {
        if has_ready {
            known.conditions.ready && topology.admits(known)
        } else {
            is_last_resort(known.conditions)
        }
    };
    let is_on_local = |known: &KnownEndpoint<A>| {
        let wanted = if has_local_ready {
            known.conditions.ready
        } else {
            is_last_resort(known.conditions)
        };
        known.is_local && wanted
    };
    let state = |known: &KnownEndpoint<A>| {
        let bits = [
            (Endpoint::<A>::KNOWN, true),
            (Endpoint::<A>::SERVING, is_fit_to_stay(known.conditions)),
            (Endpoint::<A>::CLUSTER, uses.cluster && is_on_cluster(known)),
            (Endpoint::<A>::LOCAL, uses.local && is_on_local(known)),
            (Endpoint::<A>::HERE, known.is_local),
        ];
        let set = bits.into_iter().filter(|(_, holds)| *holds);
        set.fold(0, |state, (bit, _)| state | bit)
    };
    let endpoints = candidates.iter().map(|(known, number)| DesiredEndpoint {
        addr: known.address,
        port: *number,
        state: state(known),
    });
    let lists = Lists {
        has_any: has_ready || known.clone().any(|known| is_last_resort(known.conditions)),
        has_local: uses.local && known.clone().any(is_on_local),
    };
    (endpoints.collect(), lists)
}

/// It leaves and still answers. One that is neither ready nor leaving is never used (rule 33).
fn is_last_resort(conditions: Conditions) -> bool {
    !conditions.ready && conditions.serving && conditions.terminating
}

/// Whether UDP flows stay with it (rule 73). kube-proxy asks for `serving` alone, which a pod with
/// `publishNotReadyAddresses` has not while it is ready by decree; a flow to an endpoint that new flows may
/// go to is not stale, or it would be moved with every packet.
fn is_fit_to_stay(conditions: Conditions) -> bool {
    conditions.serving || conditions.ready
}

/// All endpoints of `port` with their port numbers (network byte order), sorted by address and port, each
/// once.
///
/// Slice ports match by name and protocol and bring their own number (rule 10); one address with two ports is
/// two endpoints (rule 18). Of duplicates kube-proxy keeps one that is not terminating; where that leaves it
/// open, here the readier one is kept, then one on this node, then that of the first slice by name (rule 17).
fn candidates<A: Address>(
    port: &ServicePort,
    slices: &SliceSet<A>,
    zones: &Zones,
) -> Vec<(KnownEndpoint<A>, u16)> {
    let mut all = Vec::new();
    for slice in slices.iter() {
        let ports = slice.ports().iter();
        let matching =
            ports.filter(|other| other.name == port.name && other.protocol == port.protocol);
        for target in matching {
            let number = target.port.to_be();
            all.extend(slice.endpoints(zones).map(|known| (known, number)));
        }
    }
    // Stable, so that slices stay in the order of their names.
    all.sort_by_key(|(known, number)| {
        let Conditions {
            ready,
            serving,
            terminating,
        } = known.conditions;
        let last = (terminating, !ready, !serving, !known.is_local);
        (known.address.to_ip(), u16::from_be(*number), last)
    });
    all.dedup_by_key(|(known, number)| (known.address, *number));
    all
}
