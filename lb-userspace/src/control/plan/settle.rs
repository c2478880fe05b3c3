//! Settling frontends: from what is in the map to what the newest claim says, one after the other.
//!
//! A change of endpoints gets a new range and then the frontend is replaced, so that packets see the old
//! list or the new one and nothing between. A range moves with its service port to another frontend when
//! the endpoints stay the same.

use std::{collections::BTreeMap, sync::Arc};

use lb_common::{
    address::Address,
    tables::{Endpoint, Frontend, FrontendKey},
};

use super::{
    FamilyOp, Op, Plan, SlotPool, SlotRange,
    entry::{Claim, Entry, Served},
};
use crate::control::maps::Table;

/// The settling of all frontends of one family that a plan concerns. Those to be removed come first.
pub(super) struct Settlement<'a, A> {
    slots: &'a mut SlotPool,
    plan: &'a mut Plan,
    /// Ranges of removed frontends with what is in them, by id.
    left: BTreeMap<u32, Served<A>>,
    removed: usize,
}

/// Slots for a claim.
struct Room {
    range: SlotRange,
    /// Whether the endpoints have yet to be written there.
    is_blank: bool,
    /// Whether the frontend has had it so far.
    is_kept: bool,
}

impl<'a, A: Address> Settlement<'a, A>
where
    Op: From<FamilyOp<A>>,
{
    pub(super) fn new(slots: &'a mut SlotPool, plan: &'a mut Plan) -> Self {
        Self {
            slots,
            plan,
            left: BTreeMap::new(),
            removed: 0,
        }
    }

    /// Removes a frontend.
    pub(super) fn remove(&mut self, key: &FrontendKey<A>, served: Served<A>) {
        let (id, op) = (served.value.service, FamilyOp::RemoveFrontend { key: *key });
        self.plan.push(id, served.service.as_ref(), op.into());
        self.removed += 1;
        if let Some(other) = self.left.insert(id, served) {
            self.slots.release(other.range);
        }
    }

    /// Brings one frontend to what its newest claim says; the map that has no room for that, if any.
    pub(super) fn settle(&mut self, key: &FrontendKey<A>, entry: &mut Entry<A>) -> Option<Table> {
        let claim = entry.claims.last()?;
        let Some(room) = self.find_room(claim, entry.served.as_ref()) else {
            // It stays as it was, unless whose it was does not want it any more.
            let is_left = |served: &mut Served<A>| {
                entry
                    .claims
                    .iter()
                    .all(|claim| claim.id != served.value.service)
            };
            if let Some(served) = entry.served.take_if(is_left) {
                self.remove(key, served);
            }
            return Some(Table::Slots(A::FAMILY));
        };
        let (service, endpoints) = (Some(claim.service.clone()), claim.endpoints.clone());
        let range = room.range;
        if room.is_blank && range.len > 0 {
            let op = FamilyOp::WriteSlots {
                base: range.base,
                endpoints: endpoints.clone(),
            };
            self.plan.push(claim.id, service.as_ref(), op.into());
        }
        let value = Frontend {
            slot_base: range.base,
            slot_count: range.len,
            service: claim.id,
            flags: 0,
            affinity: 0,
        };
        if entry
            .served
            .as_ref()
            .is_none_or(|served| served.value != value)
        {
            let op = FamilyOp::PutFrontend { key: *key, value };
            self.plan.push(claim.id, service.as_ref(), op.into());
        }
        let now = Served {
            service,
            value,
            range,
            endpoints: Some(endpoints),
        };
        if let Some(before) = entry.served.replace(now)
            && !room.is_kept
        {
            self.slots.release(before.range);
        }
        None
    }

    /// Gives back what nobody took over; the number of frontends removed.
    pub(super) fn finish(self) -> usize {
        for served in self.left.into_values() {
            self.slots.release(served.range);
        }
        self.removed
    }

    fn find_room(&mut self, claim: &Claim<A>, served: Option<&Served<A>>) -> Option<Room> {
        let has = |served: &Served<A>, endpoints: &Arc<[Endpoint<A>]>| {
            served.endpoints.as_ref() == Some(endpoints)
        };
        if let Some(served) = served.filter(|served| has(served, &claim.endpoints)) {
            return Some(Room {
                range: served.range,
                is_blank: false,
                is_kept: true,
            });
        }
        if self
            .left
            .get(&claim.id)
            .is_some_and(|served| has(served, &claim.endpoints))
        {
            let range = self.left.remove(&claim.id)?.range;
            return Some(Room {
                range,
                is_blank: false,
                is_kept: false,
            });
        }
        let len = u32::try_from(claim.endpoints.len()).ok()?;
        let range = self.slots.find_room(len)?;
        Some(Room {
            range,
            is_blank: true,
            is_kept: false,
        })
    }
}
