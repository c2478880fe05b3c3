//! One frontend as the planner sees it: who claims it and what is in the map.
//!
//! Two Services may want the same address, port and protocol, because the address of a deleted one is
//! given to a new one and the events can arrive in either order. Claims are therefore kept apart from
//! what is served: the newest claim is served, the others wait, and what one Service gives up never
//! touches what belongs to another (rule 90).

use std::sync::Arc;

use lb_common::tables::{Endpoint, Frontend};

use super::SlotRange;
use crate::model::ObjectKey;

/// A service port's wish to have a frontend.
#[derive(Clone, Debug)]
pub(in super::super) struct Claim<A> {
    pub(in super::super) service: Arc<ObjectKey>,
    pub(in super::super) id: u32,
    /// The higher, the newer.
    pub(in super::super) since: u64,
    pub(in super::super) endpoints: Arc<[Endpoint<A>]>,
}

/// A frontend that is in the map.
#[derive(Clone, Debug)]
pub(in super::super) struct Served<A> {
    /// On whose behalf it was written, as far as known.
    pub(in super::super) service: Option<Arc<ObjectKey>>,
    pub(in super::super) value: Frontend,
    /// The slots it owns: those of `value`, unless the map was damaged.
    pub(in super::super) range: SlotRange,
    /// What is in them; `None` if that cannot be relied on.
    pub(in super::super) endpoints: Option<Arc<[Endpoint<A>]>>,
}

/// All about one frontend.
#[derive(Clone, Debug)]
pub(in super::super) struct Entry<A> {
    /// Oldest first, so that the last one is served; one per id.
    pub(in super::super) claims: Vec<Claim<A>>,
    pub(in super::super) served: Option<Served<A>>,
}

impl<A> Default for Entry<A> {
    fn default() -> Self {
        Self {
            claims: Vec::new(),
            served: None,
        }
    }
}

impl<A: PartialEq> Entry<A> {
    /// Adds a claim or updates the one of the same id.
    ///
    /// Of claims of the same age the one that was there first stays the newest: after a restart, when
    /// all are of the same age, the frontend stays with whom the maps say it belongs to.
    pub(super) fn claim(&mut self, mut claim: Claim<A>) {
        if let Some(at) = self.claims.iter().position(|known| known.id == claim.id) {
            let known = &mut self.claims[at];
            if known.endpoints == claim.endpoints {
                // One list in memory, shared with what is served.
                claim.endpoints = known.endpoints.clone();
            }
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
    use lb_common::address::V4;

    use super::*;

    fn claim(id: u32, since: u64) -> Claim<V4> {
        let service = Arc::new(ObjectKey::new("default", format!("s{id}")));
        Claim {
            service,
            id,
            since,
            endpoints: Arc::new([]),
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
