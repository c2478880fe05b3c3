//! Where the lists of a service port stand in the slots array.
//!
//! The two lists share their members as far as they can: the range is laid out as cluster only, both,
//! local only, so that each list is contiguous and an endpoint of both takes one slot. Only lists that a
//! frontend in force leads to have slots, because only those can be found again after a restart.

use lb_common::tables::{Endpoint, Frontend};

use super::{SlotPool, SlotRange, entry::list_of};
use crate::control::desired::{DesiredEndpoint, List};

/// Some of the two lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Uses {
    pub(in super::super) cluster: bool,
    pub(in super::super) local: bool,
}

/// Where the lists of a service port stand; `None` where one has no slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Lists {
    pub(in super::super) cluster: Option<SlotRange>,
    pub(in super::super) local: Option<SlotRange>,
}

impl Uses {
    /// The cluster list alone.
    pub(in super::super) const CLUSTER: Self = Self {
        cluster: true,
        local: false,
    };
    /// The local list alone.
    pub(in super::super) const LOCAL: Self = Self {
        cluster: false,
        local: true,
    };

    /// Adds a list.
    pub(in super::super) fn add(&mut self, list: List) {
        match list {
            List::Cluster => self.cluster = true,
            List::Local => self.local = true,
            List::Split => (self.cluster, self.local) = (true, true),
            List::None => {}
        }
    }

    /// Whether a change of these lists matters to one of them.
    pub(super) fn overlaps(self, other: Self) -> bool {
        self.cluster && other.cluster || self.local && other.local
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl Lists {
    /// Each list that has slots.
    pub(in super::super) fn iter(&self) -> impl Iterator<Item = (Uses, SlotRange)> {
        let all = [(Uses::CLUSTER, self.cluster), (Uses::LOCAL, self.local)];
        all.into_iter()
            .filter_map(|(list, range)| Some((list, range?)))
    }

    /// What a frontend in the map leads to.
    pub(in super::super) fn of(value: &Frontend) -> Self {
        let slots = SlotRange {
            base: value.slot_base,
            len: value.slot_count,
        };
        let inner = SlotRange {
            base: value.inner_base,
            len: value.inner_count,
        };
        let (cluster, local) = match list_of(value) {
            List::Cluster => (Some(slots), None),
            List::Local => (None, Some(slots)),
            List::Split => (Some(inner), Some(slots)),
            List::None => (None, None),
        };
        Self { cluster, local }
    }

    /// Whether all of `uses` have slots.
    pub(super) fn have(&self, uses: Uses) -> bool {
        (self.cluster.is_some() || !uses.cluster) && (self.local.is_some() || !uses.local)
    }

    /// All slots from the first to the last.
    pub(in super::super) fn span(&self) -> SlotRange {
        let ranges = [self.cluster, self.local].into_iter().flatten();
        ranges
            .filter(|range| range.len > 0)
            .reduce(|a, b| {
                let base = a.base.min(b.base);
                let len = a.end().max(b.end()) - base;
                SlotRange { base, len }
            })
            .unwrap_or_default()
    }

    /// Gives up the lists that are not in `uses`, and what slots only they had.
    pub(super) fn trim(&mut self, uses: Uses, slots: &mut SlotPool) {
        let before = self.span();
        self.cluster = self.cluster.filter(|_| uses.cluster);
        self.local = self.local.filter(|_| uses.local);
        let mut after = self.span();
        if after.len == 0 {
            after.base = before.end();
        }
        slots.release(SlotRange {
            base: before.base,
            len: after.base - before.base,
        });
        slots.release(SlotRange {
            base: after.end(),
            len: before.end() - after.end(),
        });
    }
}

/// The number of slots that `uses` take.
pub(super) fn length<A>(endpoints: &[DesiredEndpoint<A>], uses: Uses) -> usize {
    let endpoints = endpoints.iter();
    endpoints
        .filter(|endpoint| uses.overlaps(uses_of::<A>(endpoint.state)))
        .count()
}

/// The lists that an endpoint in this state is in.
pub(super) fn uses_of<A>(state: u16) -> Uses {
    Uses {
        cluster: state & Endpoint::<A>::CLUSTER != 0,
        local: state & Endpoint::<A>::LOCAL != 0,
    }
}

/// What to write to the slots from `base` on for the lists `uses`, and where these then stand. `ids` are
/// those of `endpoints`, one by one.
pub(super) fn lay_out<A>(
    endpoints: &[DesiredEndpoint<A>],
    ids: &[u32],
    uses: Uses,
    base: u32,
) -> (Vec<u32>, Lists) {
    let mut slots = Vec::new();
    let mut section = |cluster, local| {
        let start = slots.len();
        let members = endpoints.iter().zip(ids).filter(|(endpoint, _)| {
            let member = uses_of::<A>(endpoint.state);
            (member.cluster && uses.cluster, member.local && uses.local) == (cluster, local)
        });
        slots.extend(members.map(|(_, id)| *id));
        slots.len() - start
    };
    let (cluster, both, local) = (
        section(true, false),
        section(true, true),
        section(false, true),
    );
    let range = |start: usize, len: usize| {
        // Both are at most the length of a range that was found.
        let (start, len) = (u32::try_from(start).ok()?, u32::try_from(len).ok()?);
        Some(if len == 0 {
            SlotRange::default()
        } else {
            SlotRange {
                base: base + start,
                len,
            }
        })
    };
    let lists = Lists {
        cluster: range(0, cluster + both).filter(|_| uses.cluster),
        local: range(cluster, both + local).filter(|_| uses.local),
    };
    (slots, lists)
}

#[cfg(test)]
mod tests {
    use lb_common::address::V4;

    use super::*;

    const BOTH: Uses = Uses {
        cluster: true,
        local: true,
    };

    fn endpoints(states: &[u16]) -> Vec<DesiredEndpoint<V4>> {
        let endpoint = |state: &u16| DesiredEndpoint {
            state: *state,
            ..Default::default()
        };
        states.iter().map(endpoint).collect()
    }

    fn range(base: u32, len: u32) -> SlotRange {
        SlotRange { base, len }
    }

    #[test]
    fn both_lists_are_contiguous_and_share_what_is_in_both() {
        const C: u16 = Endpoint::<V4>::CLUSTER;
        const L: u16 = Endpoint::<V4>::LOCAL;
        let endpoints = endpoints(&[C | L, L, C, 1, C | L]);
        let (slots, lists) = lay_out(&endpoints, &[10, 11, 12, 13, 14], BOTH, 100);
        assert_eq!(slots, [12, 10, 14, 11]);
        assert_eq!(lists.cluster, Some(range(100, 3)));
        assert_eq!(lists.local, Some(range(101, 3)));
        assert_eq!((lists.span(), length(&endpoints, BOTH)), (range(100, 4), 4));
    }

    #[test]
    fn a_list_that_is_not_used_takes_no_slots() {
        const C: u16 = Endpoint::<V4>::CLUSTER;
        const L: u16 = Endpoint::<V4>::LOCAL;
        let uses = Uses {
            cluster: false,
            local: true,
        };
        let (slots, lists) = lay_out(&endpoints(&[C, C | L, L]), &[1, 2, 3], uses, 0);
        assert_eq!((slots, lists.cluster), (vec![2, 3], None));
        assert_eq!(lists.local, Some(range(0, 2)));
    }

    #[test]
    fn giving_up_a_list_frees_what_was_its_alone() {
        let mut slots = SlotPool::new(4, [range(0, 4)]);
        let mut lists = Lists {
            cluster: Some(range(0, 3)),
            local: Some(range(2, 2)),
        };
        let cluster = Uses {
            local: false,
            ..BOTH
        };
        lists.trim(cluster, &mut slots);
        slots.advance();
        slots.advance();
        assert_eq!(slots.find_room(1), Some(range(3, 1)));
        assert_eq!(slots.find_room(1), None);
        lists.trim(Uses::default(), &mut slots);
        slots.advance();
        slots.advance();
        assert_eq!(
            (slots.find_room(3), lists),
            (Some(range(0, 3)), Lists::default())
        );
    }
}
