//! Telling sound slot ranges from damaged ones.
//!
//! The planner never lets two frontends share a slot and never goes beyond the array. Where a dump says
//! otherwise, there is no telling which of the frontends is right, so none of them is believed.

use std::collections::BTreeSet;

use crate::control::plan::SlotRange;

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
