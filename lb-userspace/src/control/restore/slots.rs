//! Which slots are whose: telling sound ranges from damaged ones.
//!
//! The planner never lets two service ports share a slot, never goes beyond the array, and lets all
//! frontends that lead to one list lead to the same range. Where a dump says otherwise, or where slots
//! lead to another service port's endpoints, there is no telling who is right, and nobody is believed.
//! Slots that lack an endpoint or have one too many are what an agent leaves that was killed between two
//! steps: they stay in force till they are written anew.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{address::Address, tables::Frontend, tables::FrontendKey};

use crate::control::plan::{Backing, Lists, SlotPool, SlotRange};

/// Gives each backing the slots that are its own. Returns the others to be given out, and the service ports
/// whose frontends do not lead to all that they should.
pub(super) fn restore_slots<A: Address>(
    frontends: &[(FrontendKey<A>, Frontend)],
    slots: &[u32],
    capacity: u32,
    backings: &mut BTreeMap<u32, Backing<A>>,
) -> (SlotPool, BTreeSet<u32>) {
    let limit = capacity.min(u32::try_from(slots.len()).unwrap_or(u32::MAX));
    let mut found: BTreeMap<u32, Lists> = BTreeMap::new();
    let (mut strays, mut unsound) = (Vec::new(), BTreeSet::new());
    for (_, value) in frontends {
        let lists = found.entry(value.service).or_default();
        let is_known = backings.contains_key(&value.service);
        let leads_to = Lists::of(value);
        for (place, range) in [
            (&mut lists.cluster, leads_to.cluster),
            (&mut lists.local, leads_to.local),
        ] {
            let Some(range) = range else { continue };
            let end = range.base.checked_add(range.len);
            let exists = range.len == 0 || end.is_some_and(|end| end <= limit);
            if !(is_known && exists) || *place.get_or_insert(range) != range {
                strays.push((range.base, range.len));
                unsound.insert(value.service);
            }
        }
    }
    found.retain(|id, _| backings.contains_key(id));
    let spans = found.values().map(|lists| lists.span());
    let spans = spans.map(|span| (span.base, span.len));
    let sorted = sort_ranges(spans.chain(strays.iter().copied()), limit);
    let mut adopted = BTreeSet::new();
    for (id, lists) in found {
        let Some(backing) = backings.get_mut(&id) else {
            continue;
        };
        let span = lists.span();
        let is_alone = span.len == 0 || sorted.sound.contains(&span);
        match Content::of(&lists, slots, backing) {
            content if is_alone && content != Content::Foreign => {
                backing.lists = lists;
                backing.is_stale = content == Content::Stale;
                adopted.insert(span);
            }
            _ => {
                unsound.insert(id);
            }
        }
        if backing.is_stale {
            unsound.insert(id);
        }
    }
    let used = sorted.sound.iter().chain(&sorted.damaged).copied();
    let mut used: Vec<_> = used.filter(|range| range.len > 0).collect();
    used.sort_unstable();
    let mut pool = SlotPool::new(capacity, used);
    // Nobody owns these, but packets go there till the frontends are written anew.
    for range in sorted.damaged {
        pool.release(range);
    }
    for range in sorted.sound.difference(&adopted) {
        pool.release(*range);
    }
    (pool, unsound)
}

/// What the slots of a service port hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// What they should.
    Exact,
    /// Endpoints of the service port, but not those that they should.
    Stale,
    /// Something else.
    Foreign,
}

impl Content {
    fn of<A: Address>(lists: &Lists, slots: &[u32], backing: &Backing<A>) -> Self {
        let mut content = Self::Exact;
        for (list, range) in lists.iter() {
            let range = range.base as usize..range.end() as usize;
            let mut actual = slots.get(range).unwrap_or_default().to_vec();
            actual.sort_unstable();
            let mut own = backing.ids.to_vec();
            own.sort_unstable();
            if !actual.iter().all(|id| own.binary_search(id).is_ok()) {
                return Self::Foreign;
            }
            let mut wanted: Vec<_> = backing.members(list).collect();
            wanted.sort_unstable();
            if actual != wanted {
                content = Self::Stale;
            }
        }
        content
    }
}

/// The ranges that frontends refer to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SortedRanges {
    /// Those of one frontend alone.
    pub(super) sound: BTreeSet<SlotRange>,
    /// Slots that several refer to, sorted, each once.
    pub(super) damaged: Vec<SlotRange>,
}

/// Sorts ranges given as (base, length), of which those below `limit` exist. Empty ones and those that
/// go beyond own nothing and are left out.
pub(super) fn sort_ranges(ranges: impl Iterator<Item = (u32, u32)>, limit: u32) -> SortedRanges {
    let exists = |&(base, len): &(u32, u32)| {
        len > 0 && base.checked_add(len).is_some_and(|end| end <= limit)
    };
    let mut ranges: Vec<_> = ranges.filter(exists).collect();
    ranges.sort_unstable();
    let mut sorted = SortedRanges::default();
    let mut rest = ranges.into_iter().peekable();
    while let Some((base, len)) = rest.next() {
        let (mut end, mut shared) = (base + len, false);
        while let Some((base, len)) = rest.next_if(|(base, _)| *base < end) {
            end = end.max(base + len);
            shared = true;
        }
        let range = SlotRange {
            base,
            len: end - base,
        };
        if shared {
            sorted.damaged.push(range);
        } else {
            sorted.sound.insert(range);
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range((base, len): (u32, u32)) -> SlotRange {
        SlotRange { base, len }
    }

    #[test]
    fn ranges_side_by_side_are_sound() {
        let sorted = sort_ranges([(5, 2), (0, 5), (7, 0)].into_iter(), 7);
        assert_eq!(sorted.sound, [(0, 5), (5, 2)].map(range).into());
        assert!(sorted.damaged.is_empty());
    }

    #[test]
    fn ranges_that_overlap_are_damaged_together() {
        let ranges = [(0, 4), (3, 1), (2, 4), (8, 2), (8, 2), (10, 1)];
        let sorted = sort_ranges(ranges.into_iter(), 20);
        assert_eq!(sorted.sound, [(10, 1)].map(range).into());
        assert_eq!(sorted.damaged, [(0, 6), (8, 2)].map(range));
    }

    #[test]
    fn ranges_out_of_bounds_own_nothing() {
        let sorted = sort_ranges([(5, 6), (u32::MAX, 2), (0, 1)].into_iter(), 10);
        assert_eq!(sorted.sound, [(0, 1)].map(range).into());
        assert!(sorted.damaged.is_empty());
    }
}
