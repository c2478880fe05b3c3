//! Who owns which part of a slots array.
//!
//! A frontend's endpoints stand side by side, so that the datapath finds one by adding a number below
//! `slot_count` to `slot_base`. Ranges are given out best fit, lowest first, and merge with their
//! neighbours when they come free: a cold start fills the array from its beginning without a gap, which
//! lets `apply` write it in few calls, and small services do not cut up the large gaps.

use std::collections::{BTreeMap, BTreeSet};

use super::quarantine::Quarantine;

/// Slots `base .. base + len`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotRange {
    /// First slot.
    pub base: u32,
    /// Number of slots; an empty range stands nowhere.
    pub len: u32,
}

impl SlotRange {
    /// The first slot after it.
    pub const fn end(self) -> u32 {
        self.base + self.len
    }
}

/// The slots below a capacity, each in use, in quarantine or free.
#[derive(Clone, Debug, Default)]
pub struct SlotPool {
    /// Free ranges, base -> length: none empty, no two touching.
    free: BTreeMap<u32, u32>,
    /// The same as (length, base).
    by_len: BTreeSet<(u32, u32)>,
    quarantine: Quarantine<SlotRange>,
}

impl SlotPool {
    /// The slots below `capacity`, those in `used` given out already. These must lie below `capacity`,
    /// be sorted and not overlap.
    pub fn new(capacity: u32, used: impl IntoIterator<Item = SlotRange>) -> Self {
        let mut pool = Self::default();
        let mut at = 0;
        for range in used.into_iter().chain([SlotRange {
            base: capacity,
            len: 0,
        }]) {
            pool.insert(SlotRange {
                base: at,
                len: range.base - at,
            });
            at = range.end();
        }
        pool
    }

    /// Gives out `len` slots side by side.
    pub fn find_room(&mut self, len: u32) -> Option<SlotRange> {
        if len == 0 {
            return Some(SlotRange::default());
        }
        let &(gap, base) = self.by_len.range((len, 0)..).next()?;
        self.remove(SlotRange { base, len: gap });
        self.insert(SlotRange {
            base: base + len,
            len: gap - len,
        });
        Some(SlotRange { base, len })
    }

    /// Takes `range` back, into quarantine.
    pub fn release(&mut self, range: SlotRange) {
        if range.len > 0 {
            self.quarantine.add(range);
        }
    }

    /// Begins the next plan; whether that set any slot free.
    pub fn advance(&mut self) -> bool {
        let freed = self.quarantine.advance();
        for &range in &freed {
            self.merge(range);
        }
        !freed.is_empty()
    }

    /// Whether slots are on their way to being free.
    pub fn is_room_coming(&self) -> bool {
        !self.quarantine.is_empty()
    }

    /// Makes `range` free, together with the free ranges that touch it.
    fn merge(&mut self, mut range: SlotRange) {
        let before = self.free.range(..range.base).next_back();
        if let Some((&base, &len)) = before
            && base + len == range.base
        {
            self.remove(SlotRange { base, len });
            range = SlotRange {
                base,
                len: len + range.len,
            };
        }
        if let Some(&len) = self.free.get(&range.end()) {
            self.remove(SlotRange {
                base: range.end(),
                len,
            });
            range.len += len;
        }
        self.insert(range);
    }

    fn insert(&mut self, range: SlotRange) {
        if range.len > 0 {
            self.free.insert(range.base, range.len);
            self.by_len.insert((range.len, range.base));
        }
    }

    fn remove(&mut self, range: SlotRange) {
        self.free.remove(&range.base);
        self.by_len.remove(&(range.len, range.base));
    }
}

#[cfg(test)]
mod tests;
