//! The planner of one family: frontends, their claims and their slots. One body for IPv4 and IPv6.
//!
//! A plan first settles all claims and only then compares each frontend concerned with what is in the
//! map, so that a frontend that changes hands within one plan is replaced and not removed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use lb_common::{
    address::Address,
    tables::{Frontend, FrontendKey, ServiceRecord},
};

use super::{
    FamilyOp, Op, Plan, SlotPool,
    entry::{Claim, Entry, Served},
};
use crate::{
    control::{
        desired::DesiredFrontend,
        maps::Table,
        problem::{Cause, Problem},
        record::{find_frontend, frontend_name},
    },
    model::ObjectKey,
};

/// Mirror of the maps of one family, with all claims on it.
#[derive(Clone, Debug, Default)]
pub struct FamilyPlanner<A> {
    entries: HashMap<FrontendKey<A>, Entry<A>>,
    slots: SlotPool,
    /// Frontends to compare in this plan.
    touched: BTreeSet<FrontendKey<A>>,
    /// Frontends with more than one claim.
    contested: BTreeSet<FrontendKey<A>>,
    /// Frontends that are not as they should be for want of room in that map.
    waiting: BTreeMap<FrontendKey<A>, Table>,
    /// Number of frontends removed by the last plan: so many may find room now.
    removed: usize,
}

impl<A: Address> FamilyPlanner<A>
where
    Op: From<FamilyOp<A>>,
{
    pub(in super::super) fn new(
        entries: HashMap<FrontendKey<A>, Entry<A>>,
        slots: SlotPool,
    ) -> Self {
        Self {
            entries,
            slots,
            ..Self::default()
        }
    }

    /// Begins the next plan: takes up what waits for room if there may be some now, or if told to.
    pub(super) fn advance(&mut self, retry: bool) {
        let freed = self.slots.advance();
        let removed = std::mem::take(&mut self.removed);
        let waits_for = |wanted: Table| {
            self.waiting
                .iter()
                .filter(move |(_, table)| **table == wanted)
                .map(|(key, _)| *key)
        };
        let slots = waits_for(Table::Slots(A::FAMILY));
        self.touched
            .extend(slots.take(if freed || retry { usize::MAX } else { 0 }));
        let frontends = waits_for(Table::Frontends(A::FAMILY));
        self.touched
            .extend(frontends.take(if retry { usize::MAX } else { removed }));
    }

    /// Puts the claim of `id` where `desired` says and withdraws it from where `before`, the record it
    /// has had so far, says.
    pub(super) fn update(
        &mut self,
        service: &Arc<ObjectKey>,
        id: u32,
        since: u64,
        before: Option<&ServiceRecord>,
        desired: Option<&DesiredFrontend<A>>,
    ) {
        let before = before.and_then(find_frontend);
        if let Some(key) = before.filter(|key| desired.is_none_or(|desired| desired.key != *key))
            && let Some(entry) = self.entries.get_mut(&key)
        {
            entry.release(id);
            self.touched.insert(key);
        }
        if let Some(DesiredFrontend { key, endpoints }) = desired {
            let claim = Claim {
                service: service.clone(),
                id,
                since,
                endpoints: endpoints.clone(),
            };
            self.entries.entry(*key).or_default().claim(claim);
            self.touched.insert(*key);
        }
    }

    /// Marks every frontend that nobody claims, so that it is removed (rule 92).
    pub(super) fn touch_unclaimed(&mut self) {
        let unclaimed = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.claims.is_empty());
        self.touched.extend(unclaimed.map(|(key, _)| *key));
    }

    /// Adds what brings the touched frontends to what their claims say.
    pub(super) fn settle(&mut self, plan: &mut Plan) {
        for key in std::mem::take(&mut self.touched) {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            let was_served = entry.served.is_some();
            let missing = settle(&key, entry, &mut self.slots, plan);
            self.removed += usize::from(was_served && entry.served.is_none());
            match missing {
                Some(table) => self.waiting.insert(key, table),
                None => self.waiting.remove(&key),
            };
            match entry.claims.len() {
                0 => {
                    self.entries.remove(&key);
                    self.contested.remove(&key);
                }
                1 => drop(self.contested.remove(&key)),
                _ => drop(self.contested.insert(key)),
            }
        }
    }

    /// Takes note that a new frontend found no room in its map.
    pub(super) fn reject(&mut self, key: &FrontendKey<A>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if let Some(served) = entry.served.take() {
            self.slots.release(served.range);
        }
        self.waiting.insert(*key, Table::Frontends(A::FAMILY));
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the next plans will have room for something that waits.
    pub(super) fn is_room_coming(&self) -> bool {
        self.waiting.values().any(|table| match table {
            Table::Slots(_) => self.slots.is_room_coming(),
            _ => self.removed > 0,
        })
    }

    /// What is not served as its Service says.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let conflicts = self.contested.iter().flat_map(|key| {
            let claims = self.entries.get(key).map_or(&[][..], |entry| &entry.claims);
            let (winner, losers) = claims
                .split_last()
                .map_or((None, claims), |(w, l)| (Some(w), l));
            losers.iter().filter_map(move |loser| {
                Some(problem(
                    loser,
                    key,
                    Cause::ClaimedBy(ObjectKey::clone(&winner?.service)),
                ))
            })
        });
        let starved = self.waiting.iter().filter_map(|(key, table)| {
            Some(problem(
                self.entries.get(key)?.claims.last()?,
                key,
                Cause::NoRoom(*table),
            ))
        });
        conflicts.chain(starved)
    }
}

/// Adds what brings one frontend to what its newest claim says; the map that has no room for it, if any.
fn settle<A: Address>(
    key: &FrontendKey<A>,
    entry: &mut Entry<A>,
    slots: &mut SlotPool,
    plan: &mut Plan,
) -> Option<Table>
where
    Op: From<FamilyOp<A>>,
{
    let remove = |served: Served<A>, slots: &mut SlotPool, plan: &mut Plan| {
        slots.release(served.range);
        let op = FamilyOp::RemoveFrontend { key: *key };
        plan.push(served.value.service, served.service.as_ref(), op.into());
    };
    let Some(claim) = entry.claims.last() else {
        if let Some(served) = entry.served.take() {
            remove(served, slots, plan);
        }
        return None;
    };
    let kept = entry
        .served
        .as_ref()
        .filter(|served| served.endpoints.as_ref() == Some(&claim.endpoints));
    let (range, is_new) = if let Some(served) = kept {
        (served.range, false)
    } else if let Some(range) = u32::try_from(claim.endpoints.len())
        .ok()
        .and_then(|len| slots.find_room(len))
    {
        (range, true)
    } else {
        // It stays as it was, unless that is another Service's that does not want it any more.
        let left = |served: &mut Served<A>| {
            entry
                .claims
                .iter()
                .all(|claim| claim.id != served.value.service)
        };
        if let Some(served) = entry.served.take_if(left) {
            remove(served, slots, plan);
        }
        return Some(Table::Slots(A::FAMILY));
    };
    let push =
        |plan: &mut Plan, op: FamilyOp<A>| plan.push(claim.id, Some(&claim.service), op.into());
    if is_new && range.len > 0 {
        push(
            plan,
            FamilyOp::WriteSlots {
                base: range.base,
                endpoints: claim.endpoints.clone(),
            },
        );
    }
    let value = Frontend {
        slot_base: range.base,
        slot_count: range.len,
        service: claim.id,
        flags: 0,
    };
    if entry
        .served
        .as_ref()
        .is_none_or(|served| served.value != value)
    {
        push(plan, FamilyOp::PutFrontend { key: *key, value });
    }
    let now = Served {
        service: Some(claim.service.clone()),
        value,
        range,
        endpoints: Some(claim.endpoints.clone()),
    };
    if let Some(before) = entry.served.replace(now)
        && is_new
    {
        slots.release(before.range);
    }
    None
}

fn problem<A: Address>(claim: &Claim<A>, key: &FrontendKey<A>, cause: Cause) -> Problem {
    Problem {
        service: Some(ObjectKey::clone(&claim.service)),
        field: "frontend".into(),
        value: frontend_name(key),
        cause,
    }
}
