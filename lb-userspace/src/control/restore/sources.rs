//! Which source ranges are whose: those of service ports with a record are theirs.
//!
//! All others, and what no agent would write, are nobody's and go with the first complete plan.

use std::collections::BTreeMap;

use lb_common::address::Address;

use crate::control::{
    desired::Network,
    maps::SourceRange,
    plan::{Backing, network_of},
};

/// Gives each backing its ranges; returns those that are nobody's.
pub(super) fn restore_sources<A: Address>(
    sources: Vec<SourceRange<A>>,
    backings: &mut BTreeMap<u32, Backing<A>>,
) -> Vec<SourceRange<A>> {
    let mut found: BTreeMap<u32, Vec<Network<A>>> = BTreeMap::new();
    let mut strays = Vec::new();
    for range in sources {
        let id = range.source.service;
        match network_of(&range) {
            Some(network) if backings.contains_key(&id) => {
                found.entry(id).or_default().push(network);
            }
            _ => strays.push(range),
        }
    }
    for (id, mut networks) in found {
        networks.sort_unstable();
        if let Some(backing) = backings.get_mut(&id) {
            backing.sources = networks.into();
        }
    }
    strays
}
