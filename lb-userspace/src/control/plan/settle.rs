//! Settling: from what is in the maps of one family to what the newest claims say.
//!
//! First every backing concerned is brought to the endpoints it should have, with slots for the lists
//! that its frontends need. Then each frontend is brought to its newest claim, or, if that one's backing
//! found no room, stays with whom it has been. Last, backings give up slots that no frontend leads to any
//! more.

use std::mem;

use lb_common::{
    address::Address,
    tables::{Frontend, FrontendKey},
};

use super::{
    FamilyOp, FamilyPlanner, Op, Plan,
    entry::{Claim, Served, list_of},
    lists::Uses,
};
use crate::control::desired::List;

impl<A: Address> FamilyPlanner<A>
where
    Op: From<FamilyOp<A>>,
{
    /// Adds what brings all that was touched to what its claims say.
    pub(super) fn settle(&mut self, plan: &mut Plan) {
        let mut keys = mem::take(&mut self.touched);
        let mut ids = mem::take(&mut self.touched_ids);
        for entry in keys.iter().filter_map(|key| self.entries.get(key)) {
            ids.extend(entry.claims.last().map(|claim| claim.id));
            ids.extend(entry.served_id());
        }
        for &id in &ids {
            self.settle_backing(id, plan);
            let backing = self.backings.get(&id).into_iter();
            keys.extend(backing.flat_map(|backing| &backing.frontends));
        }
        for key in &keys {
            self.settle_frontend(key, plan);
        }
        for &id in &ids {
            self.trim(id);
        }
        self.ranges.settle(plan);
    }

    /// Gives up the slots of a service port that no frontend in the map leads to.
    pub(super) fn trim(&mut self, id: u32) {
        let uses = self.uses(id, false);
        let Some(backing) = self.backings.get_mut(&id) else {
            return;
        };
        backing.trim(uses, &mut self.pools.slots);
        if backing.is_empty() {
            self.backings.remove(&id);
            self.starved.remove(&id);
            self.unrestricted.remove(&id);
        }
    }

    fn settle_backing(&mut self, id: u32, plan: &mut Plan) {
        let uses = self.uses(id, true);
        let Some(backing) = self.backings.get_mut(&id) else {
            return;
        };
        match backing.renew(id, uses, &mut self.pools, plan) {
            Ok(()) => self.starved.remove(&id),
            Err(table) => self.starved.insert(id, table),
        };
        match backing.renew_sources(id, &mut self.pools.sources, plan) {
            Ok(()) => self.unrestricted.remove(&id),
            Err(_) => self.unrestricted.insert(id),
        };
    }

    /// The lists that frontends in the map lead to on behalf of `id`, and those that may come to.
    fn uses(&self, id: u32, may_come: bool) -> Uses {
        let mut uses = Uses::default();
        let backing = self.backings.get(&id).into_iter();
        let keys = backing.flat_map(|backing| &backing.frontends);
        for entry in keys.filter_map(|key| self.entries.get(key)) {
            let served = entry.served.as_ref();
            let is_served = entry.served_id() == Some(id);
            let wins = entry.claims.last().is_some_and(|claim| claim.id == id);
            if may_come && (is_served || wins) {
                uses.add(entry.find_claim(id).map_or(List::None, |claim| claim.list));
            } else if is_served {
                uses.add(served.map_or(List::None, |served| list_of(&served.value)));
            }
        }
        uses
    }

    /// Brings one frontend to its newest claim, or else to that of whom it serves, whose range may have
    /// moved; if that one does not want it any more, or has no slots either, it is removed.
    fn settle_frontend(&mut self, key: &FrontendKey<A>, plan: &mut Plan) {
        let Some(entry) = self.entries.get(key) else {
            return;
        };
        let served = entry.served_id();
        let found = entry
            .claims
            .last()
            .and_then(|claim| Some((claim, self.value(claim)?)))
            .or_else(|| {
                let claim = entry.find_claim(served?)?;
                Some((claim, self.value(claim)?))
            })
            .map(|(claim, value)| (Some(claim.service.clone()), value));
        if let Some((_, value)) = &found
            && self.is_covered(key, value)
        {
            self.ranges.cover(key.addr);
        }
        let is_contested = entry.losers().next().is_some();
        let is_over = found.is_none() && entry.claims.is_empty();
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if let Some((service, value)) = found {
            if entry
                .served
                .as_ref()
                .is_none_or(|served| served.value != value)
            {
                let op = FamilyOp::PutFrontend {
                    key: *key,
                    value,
                    before: served,
                };
                plan.push(value.service, service.as_ref(), op.into());
            }
            entry.served = Some(Served { service, value });
            self.unplaced.remove(key);
        } else if let Some(Served { service, value }) = entry.served.take() {
            let op = FamilyOp::RemoveFrontend { key: *key };
            plan.push(value.service, service.as_ref(), op.into());
            self.removed += 1;
        }
        if is_contested {
            self.contested.insert(*key);
        } else {
            self.contested.remove(key);
        }
        if is_over {
            self.entries.remove(key);
            self.unplaced.remove(key);
        }
    }

    /// What to write for a claim; `None` if its list has no slots.
    fn value(&self, claim: &Claim) -> Option<Frontend> {
        claim.value(&self.backings.get(&claim.id)?.lists)
    }
}
