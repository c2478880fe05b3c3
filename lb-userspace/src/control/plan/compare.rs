//! Comparing the mirror with the maps: what somebody else has changed in them since.
//!
//! An agent that finds its maps changed plans anew from what is in them; this only counts. Nothing is
//! copied, since there may be a million endpoints.

use std::{collections::HashMap, hash::Hash};

use lb_common::{
    address::{Address, V4, V6},
    tables::{Endpoint, ServiceRecord, endpoint_index},
};

use super::{
    FamilyPlanner, Planner, SlotRange,
    backing::Backing,
    lists::{Uses, uses_of},
    sources::source_ranges,
};
use crate::control::maps::FamilyDump;

impl Planner {
    /// The number of entries that are missing in the maps, should not be there, or say something else
    /// than they were written with. A list of slots counts as one.
    pub fn count_mismatches(
        &self,
        services: &[(u32, ServiceRecord)],
        v4: &FamilyDump<V4>,
        v6: &FamilyDump<V6>,
    ) -> usize {
        let ports = self.services.values().flatten();
        let ours = ports.map(|port| (port.id, *port.record)).collect();
        differences(ours, services) + self.v4.count_mismatches(v4) + self.v6.count_mismatches(v6)
    }
}

impl<A: Address> FamilyPlanner<A> {
    fn count_mismatches(&self, dump: &FamilyDump<A>) -> usize {
        let served = self.entries.iter();
        let ours = served.filter_map(|(key, entry)| Some((*key, entry.served.as_ref()?.value)));
        let lists = self.backings.values();
        let wrong_lists: usize = lists
            .map(|backing| count_wrong_lists(backing, &dump.slots))
            .sum();
        differences(ours.collect(), &dump.frontends)
            + wrong_lists
            + self.count_wrong_endpoints(&dump.endpoints)
            + usize::from(self.ranges.in_force() != dump.ranges)
            + self.count_wrong_sources(dump)
    }

    fn count_wrong_sources(&self, dump: &FamilyDump<A>) -> usize {
        let ours = self
            .backings
            .iter()
            .flat_map(|(id, backing)| source_ranges(*id, &backing.sources));
        let actual: Vec<_> = dump.sources.iter().map(|source| (*source, ())).collect();
        differences(ours.map(|source| (source, ())).collect(), &actual)
    }

    fn count_wrong_endpoints(&self, dump: &[Endpoint<A>]) -> usize {
        let (mut found, mut wrong) = (0, 0);
        for endpoint in self
            .backings
            .iter()
            .flat_map(|(id, backing)| backing.entries(*id))
        {
            let actual = dump.get(endpoint_index(endpoint.id) as usize);
            wrong += usize::from(actual != Some(&endpoint));
            found += usize::from(actual.is_some_and(|actual| actual.state != 0));
        }
        let live = dump.iter().filter(|endpoint| endpoint.state != 0).count();
        wrong + live.saturating_sub(found)
    }
}

fn count_wrong_lists<A: Address>(backing: &Backing<A>, slots: &[u32]) -> usize {
    let is_wrong = |(list, range): (Uses, SlotRange)| {
        let mut wanted: Vec<u32> = backing.members(list).collect();
        let range = range.base as usize..range.end() as usize;
        let mut actual = slots.get(range).unwrap_or_default().to_vec();
        wanted.sort_unstable();
        actual.sort_unstable();
        wanted != actual
    };
    // Of slots that are known to be stale nothing can be said.
    let lists = backing.lists.iter();
    lists
        .filter(|list| !backing.is_stale && is_wrong(*list))
        .count()
}

/// The number of keys that are in one of the two only, or with another value.
fn differences<K: Eq + Hash, V: PartialEq>(ours: HashMap<K, V>, theirs: &[(K, V)]) -> usize {
    let known = theirs.iter().filter_map(|(key, value)| {
        let ours = ours.get(key)?;
        Some(ours == value)
    });
    let (mut shared, mut same) = (0, 0);
    for is_same in known {
        shared += 1;
        same += usize::from(is_same);
    }
    (ours.len() - shared) + (theirs.len() - shared) + (shared - same)
}

impl<A: Address> Backing<A> {
    /// Ids of the endpoints that are in a list.
    pub(in super::super) fn members(&self, list: Uses) -> impl Iterator<Item = u32> {
        let all = self.endpoints.iter().zip(&self.ids);
        all.filter(move |(endpoint, _)| list.overlaps(uses_of::<A>(endpoint.state)))
            .map(|(_, id)| *id)
    }
}
