//! The planner of one family: frontends, their claims and their slots. One body for IPv4 and IPv6.
//!
//! A plan first takes in all claims and only then settles each frontend concerned, so that one that
//! changes hands within one plan is replaced and not removed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use lb_common::{
    address::Address,
    tables::{Endpoint, FrontendKey, ServiceRecord},
};

use super::{
    FamilyOp, Op, Plan, SlotPool,
    entry::{Claim, Entry},
    settle::Settlement,
};
use crate::{
    control::{
        desired::{DesiredFamily, List},
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
    /// Frontends to settle in this plan.
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
        desired: Option<&DesiredFamily<A>>,
    ) {
        let before = before.and_then(find_frontend);
        if let Some(key) =
            before.filter(|key| desired.is_none_or(|desired| desired.frontends[0].key != *key))
            && let Some(entry) = self.entries.get_mut(&key)
        {
            entry.release(id);
            self.touched.insert(key);
        }
        if let Some(DesiredFamily {
            endpoints,
            frontends,
        }) = desired
        {
            let key = &frontends[0].key;
            let wanted = match frontends[0].list {
                List::Cluster => Endpoint::<A>::CLUSTER,
                List::Local => Endpoint::<A>::LOCAL,
                List::None => 0,
            };
            let usable = endpoints.iter().filter(|e| e.state & wanted != 0);
            let endpoints: Arc<[_]> = usable
                .map(|endpoint| Endpoint::new(endpoint.addr, endpoint.port))
                .collect();
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
        let mut settlement = Settlement::new(&mut self.slots, plan);
        let touched = std::mem::take(&mut self.touched).into_iter();
        let is_unclaimed = |key: &FrontendKey<A>| {
            self.entries
                .get(key)
                .is_some_and(|entry| entry.claims.is_empty())
        };
        let (unclaimed, claimed): (Vec<_>, Vec<_>) = touched.partition(is_unclaimed);
        for key in unclaimed {
            self.contested.remove(&key);
            self.waiting.remove(&key);
            let entry = self.entries.remove(&key);
            if let Some(served) = entry.and_then(|entry| entry.served) {
                settlement.remove(&key, served);
            }
        }
        for key in claimed {
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            match settlement.settle(&key, entry) {
                Some(table) => self.waiting.insert(key, table),
                None => self.waiting.remove(&key),
            };
            if entry.claims.len() > 1 {
                self.contested.insert(key);
            } else {
                self.contested.remove(&key);
            }
        }
        self.removed += settlement.finish();
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
            let winner = claims.last().map(|claim| &claim.service);
            let losers = claims.iter().rev().skip(1);
            losers.filter_map(move |loser| {
                Some(problem(loser, key, Cause::ClaimedBy(winner?.clone())))
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

fn problem<A: Address>(claim: &Claim<A>, key: &FrontendKey<A>, cause: Cause) -> Problem {
    Problem {
        service: Some(claim.service.clone()),
        field: "frontend".into(),
        value: frontend_name(key),
        cause,
    }
}
