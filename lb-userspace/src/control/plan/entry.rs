//! One frontend as the planner sees it: who claims it and what is in the map.
//!
//! Two Services may want the same address, port and protocol, because the address of a deleted one is
//! given to a new one and the events can arrive in either order. Claims are therefore kept apart from
//! what is served: the newest claim is served, the others wait, and what one Service gives up never
//! touches what belongs to another (rule 90).

use std::sync::Arc;

use lb_common::tables::Frontend;

use super::{SlotRange, lists::Lists};
use crate::{control::desired::List, model::ObjectKey};

/// A service port's wish to have a frontend.
#[derive(Clone, Debug)]
pub(in super::super) struct Claim {
    pub(in super::super) service: Arc<ObjectKey>,
    pub(in super::super) id: u32,
    /// The higher, the newer.
    pub(in super::super) since: u64,
    pub(in super::super) list: List,
    pub(in super::super) drop: bool,
    /// Bits of [`Frontend`] that are not about the list.
    pub(in super::super) flags: u32,
    /// Seconds; 0: none.
    pub(in super::super) affinity: u32,
}

/// A frontend that is in the map.
#[derive(Clone, Debug)]
pub(in super::super) struct Served {
    /// On whose behalf it was written, as far as known.
    pub(in super::super) service: Option<Arc<ObjectKey>>,
    pub(in super::super) value: Frontend,
}

/// All about one frontend.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Entry {
    /// Oldest first, so that the last one is served; one per id.
    pub(in super::super) claims: Vec<Claim>,
    pub(in super::super) served: Option<Served>,
}

/// The list that a frontend in the map leads to.
pub(in super::super) const fn list_of(value: &Frontend) -> List {
    if value.flags & Frontend::VIP != 0 {
        List::None
    } else if value.flags & Frontend::SPLIT != 0 {
        List::Split
    } else if value.flags & Frontend::LOCAL != 0 {
        List::Local
    } else {
        List::Cluster
    }
}

/// The bits of a frontend that say which list it leads to, and what an empty one means.
pub(in super::super) const LIST_FLAGS: u32 =
    Frontend::DROP | Frontend::LOCAL | Frontend::VIP | Frontend::SPLIT;

impl Claim {
    /// What a frontend in the map says of the service port it leads to.
    pub(in super::super) fn of(service: &Arc<ObjectKey>, value: &Frontend) -> Self {
        Self {
            service: service.clone(),
            id: value.service,
            since: 0,
            list: list_of(value),
            drop: value.flags & Frontend::DROP != 0,
            flags: value.flags & !LIST_FLAGS,
            affinity: value.affinity,
        }
    }

    /// What to write for it, with its lists where `lists` says; `None` if one of them has no slots.
    pub(super) fn value(&self, lists: &Lists) -> Option<Frontend> {
        let (slots, inner, kind) = match self.list {
            List::Cluster => (lists.cluster?, SlotRange::default(), 0),
            List::Local => (lists.local?, SlotRange::default(), Frontend::LOCAL),
            List::Split => (lists.local?, lists.cluster?, Frontend::SPLIT),
            List::None => (SlotRange::default(), SlotRange::default(), Frontend::VIP),
        };
        Some(Frontend {
            slot_base: slots.base,
            slot_count: slots.len,
            service: self.id,
            flags: kind | self.flags | if self.drop { Frontend::DROP } else { 0 },
            affinity: self.affinity,
            inner_base: inner.base,
            inner_count: inner.len,
            #[cfg(feature = "next-schema")]
            grown: 1,
        })
    }
}

impl Entry {
    /// Id of the service port that is served, if any is.
    pub(super) fn served_id(&self) -> Option<u32> {
        self.served.as_ref().map(|served| served.value.service)
    }

    /// The claim of `id`.
    pub(super) fn find_claim(&self, id: u32) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.id == id)
    }

    /// The claims that have to stand back behind another Service's, and that one. Ports of one Service
    /// may share a frontend: the mark of their VIP.
    pub(super) fn losers(&self) -> impl Iterator<Item = (&Claim, &Claim)> {
        let winner = self.claims.last();
        let others = self.claims.iter().rev().skip(1);
        others.filter_map(move |claim| {
            let winner = winner.filter(|winner| winner.service != claim.service)?;
            Some((claim, winner))
        })
    }

    /// Adds a claim or updates the one of the same id.
    ///
    /// Of claims of the same age the one that was there first stays the newest: after a restart, when
    /// all are of the same age, the frontend stays with whom the maps say it belongs to.
    pub(super) fn claim(&mut self, claim: Claim) {
        if let Some(at) = self.claims.iter().position(|known| known.id == claim.id) {
            let known = &mut self.claims[at];
            if known.since == claim.since {
                *known = claim;
                return;
            }
            self.claims.remove(at);
        }
        let at = self
            .claims
            .partition_point(|known| known.since < claim.since);
        self.claims.reserve_exact(1);
        self.claims.insert(at, claim);
    }

    /// Withdraws the claim of `id`, if there is one.
    pub(super) fn release(&mut self, id: u32) {
        self.claims.retain(|claim| claim.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: u32, since: u64) -> Claim {
        let service = Arc::new(ObjectKey::new("default", format!("s{id}")));
        Claim {
            service,
            id,
            since,
            list: List::Cluster,
            drop: false,
            flags: 0,
            affinity: 0,
        }
    }

    fn order(claims: impl IntoIterator<Item = (u32, u64)>) -> Vec<u32> {
        let mut entry = Entry::default();
        for (id, since) in claims {
            entry.claim(claim(id, since));
        }
        entry.claims.iter().map(|claim| claim.id).collect()
    }

    #[test]
    fn the_newest_claim_is_last_whatever_order_they_come_in() {
        assert_eq!(order([(1, 5), (2, 7)]), [1, 2]);
        assert_eq!(order([(2, 7), (1, 5)]), [1, 2]);
    }

    #[test]
    fn of_equally_old_claims_the_first_one_stays_in_front() {
        assert_eq!(order([(1, 0), (2, 0), (3, 0)]), [3, 2, 1]);
        assert_eq!(order([(1, 0), (2, 0), (1, 0), (2, 0)]), [2, 1]);
    }

    #[test]
    fn a_claim_that_is_renewed_moves_to_its_new_age() {
        assert_eq!(order([(1, 1), (2, 2), (1, 3)]), [2, 1]);
    }
}
