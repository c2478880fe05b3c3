//! The planner of one family: frontends with their claims, and what stands behind them. One body for IPv4
//! and IPv6.
//!
//! A plan first takes in all claims and only then settles what is concerned (`settle`), so that a
//! frontend that changes hands within one plan is replaced and not removed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use lb_common::{
    address::Address,
    tables::{Endpoint, Frontend, FrontendKey},
};

use super::{
    FamilyOp, Op, Plan, Step,
    backing::{Backing, Pools},
    entry::{Claim, Entry},
    last_known::keep_last_known,
    sources::adopt,
    vip_ranges::{RangePlanner, Surroundings},
};
use crate::{
    control::{
        desired::{DesiredFamily, DesiredFrontend},
        maps::{SourceRange, Table},
        problem::{Cause, Problem},
        record::frontend_name,
    },
    model::ObjectKey,
};

/// Mirror of the maps of one family, with all claims on it.
#[derive(Clone, Debug, Default)]
pub struct FamilyPlanner<A> {
    pub(in super::super) entries: HashMap<FrontendKey<A>, Entry>,
    /// By id of the service port.
    pub(in super::super) backings: HashMap<u32, Backing<A>>,
    pub(in super::super) pools: Pools,
    pub(in super::super) ranges: RangePlanner<A>,
    /// Endpoints in the map that are nobody's, as they should stand there.
    pub(in super::super) orphans: Vec<Endpoint<A>>,
    /// Source ranges in the map that are nobody's.
    pub(in super::super) stray_sources: Vec<SourceRange<A>>,
    /// Service ports whose backing is to be settled in this plan.
    pub(in super::super) touched_ids: BTreeSet<u32>,
    /// Frontends to settle in this plan.
    pub(super) touched: BTreeSet<FrontendKey<A>>,
    /// Frontends that several Services claim.
    pub(super) contested: BTreeSet<FrontendKey<A>>,
    /// Service ports whose endpoints are not as they should be for want of room in that map.
    pub(super) starved: BTreeMap<u32, Table>,
    /// Service ports whose source ranges are not as they should be for want of room.
    pub(super) unrestricted: BTreeSet<u32>,
    /// Frontends for which their map has no room.
    pub(super) unplaced: BTreeSet<FrontendKey<A>>,
    /// Number of frontends removed by the last plan: so many may find room now.
    pub(super) removed: usize,
}

impl<A: Address> FamilyPlanner<A>
where
    Op: From<FamilyOp<A>>,
{
    /// Begins the next plan: takes up what waits for room if there may be some now, or if told to.
    pub(super) fn advance(&mut self, retry: bool) {
        let slots = self.pools.slots.advance();
        let endpoints = self.pools.endpoints.advance();
        let starved = self.starved.iter().filter(|(_, table)| match table {
            Table::Slots(_) => slots || retry,
            _ => endpoints || retry,
        });
        self.touched_ids.extend(starved.map(|(id, _)| *id));
        if self.pools.sources.advance() || retry {
            self.touched_ids.extend(&self.unrestricted);
        }
        let removed = std::mem::take(&mut self.removed);
        let unplaced = self.unplaced.iter().copied();
        self.touched
            .extend(unplaced.take(if retry { usize::MAX } else { removed }));
    }

    /// Puts the claims of `id` where `desired` says and withdraws those it has had elsewhere.
    pub(super) fn update(
        &mut self,
        service: &Arc<ObjectKey>,
        id: u32,
        since: u64,
        desired: Option<&DesiredFamily<A>>,
    ) {
        if desired.is_none() && !self.backings.contains_key(&id) {
            return;
        }
        let backing = self.backings.entry(id).or_insert_with(|| Backing {
            sources: adopt(&mut self.stray_sources, id),
            ..Backing::new(service.clone())
        });
        backing.wanted = Some(match desired {
            Some(desired) => keep_last_known(service, &backing.endpoints, &desired.endpoints),
            None => Arc::new([]),
        });
        backing.wanted_sources = Some(desired.map_or_else(Box::default, |it| it.sources.clone()));
        let frontends = desired.map_or(&[][..], |desired| &desired.frontends);
        let keys = frontends.iter().map(|frontend| frontend.key).collect();
        let before = std::mem::replace(&mut backing.frontends, keys);
        self.touched_ids.insert(id);
        for key in before {
            if !backing.frontends.contains(&key)
                && let Some(entry) = self.entries.get_mut(&key)
            {
                entry.release(id);
                self.touched.insert(key);
            }
        }
        for DesiredFrontend {
            key,
            list,
            drop,
            flags,
            affinity,
        } in frontends.iter().copied()
        {
            let claim = Claim {
                service: service.clone(),
                id,
                since,
                list,
                drop,
                flags,
                affinity,
            };
            self.entries.entry(key).or_default().claim(claim);
            self.touched.insert(key);
        }
    }

    /// Marks what nobody claims, so that it is removed (rule 92), and brings all VIPs into ranges.
    pub(super) fn complete(&mut self, plan: &mut Plan) {
        let unclaimed = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.claims.is_empty());
        self.touched.extend(unclaimed.map(|(key, _)| *key));
        let orphans = std::mem::take(&mut self.orphans);
        if !orphans.is_empty() {
            let op = FamilyOp::LowerEndpoints(orphans);
            plan.push(Step::NO_PORT, None, op.into());
        }
        let strays = std::mem::take(&mut self.stray_sources);
        if !strays.is_empty() {
            self.pools.sources.release(strays.len());
            let op = FamilyOp::RemoveSources(strays);
            plan.push(Step::NO_PORT, None, op.into());
        }
        self.cover_all();
    }

    /// Takes in what is known of addresses.
    pub(super) fn tell(&mut self, surroundings: &Surroundings) {
        if self.ranges.tell(surroundings) {
            self.cover_all();
        }
    }

    /// Takes note that a new frontend found no room in its map.
    pub(super) fn reject(&mut self, key: &FrontendKey<A>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let served = entry.served.take();
        self.unplaced.insert(*key);
        if let Some(served) = served {
            self.trim(served.value.service);
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.starved.is_empty() || !self.unplaced.is_empty() || !self.unrestricted.is_empty()
    }

    /// Whether the next plans will have room for something that waits.
    pub(super) fn is_room_coming(&self) -> bool {
        let starved = self.starved.values().any(|table| match table {
            Table::Slots(_) => self.pools.slots.is_room_coming(),
            _ => self.pools.endpoints.is_room_coming(),
        });
        let sources = !self.unrestricted.is_empty() && self.pools.sources.is_room_coming();
        starved || sources || !self.unplaced.is_empty() && self.removed > 0
    }

    /// What is not served as its Service says.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let find = |key: &FrontendKey<A>| self.entries.get(key);
        // Who loses a VIP's mark loses frontends, too, or nothing.
        let frontends = self.contested.iter().filter(|key| !key.is_mark());
        let contested = frontends.flat_map(move |key| {
            let losers = find(key).into_iter().flat_map(Entry::losers);
            losers.map(|(loser, winner)| {
                let cause = Cause::ClaimedBy(winner.service.clone());
                problem(&loser.service, key, cause)
            })
        });
        let unplaced = self.unplaced.iter().filter_map(move |key| {
            let cause = Cause::NoRoom(Table::Frontends(A::FAMILY));
            Some(problem(&find(key)?.claims.last()?.service, key, cause))
        });
        let starved = self.starved.iter().filter_map(|(id, table)| {
            let backing = self.backings.get(id)?;
            let key = backing.frontends.first()?;
            Some(problem(&backing.service, key, Cause::NoRoom(*table)))
        });
        let unrestricted = self.unrestricted.iter().filter_map(move |id| {
            let backing = self.backings.get(id)?;
            let is_concerned = |key: &&FrontendKey<A>| {
                let claim = find(key).and_then(|entry| entry.find_claim(*id));
                claim.is_some_and(|claim| claim.flags & Frontend::SOURCE_RANGES != 0)
            };
            let mut frontends = backing.frontends.iter();
            let key = frontends.find(is_concerned)?;
            let cause = Cause::NoRoom(Table::Sources(A::FAMILY));
            Some(problem(&backing.service, key, cause))
        });
        contested
            .chain(unplaced)
            .chain(starved)
            .chain(unrestricted)
            .chain(self.ranges.problems())
    }

    /// Whether the frontend's address is to be in a range: then its connections are recognised when it is gone
    /// (rule 53), and without a mark its other ports are nobody's business (rule 51). Not so the node's own
    /// addresses, which have much other traffic.
    pub(super) fn is_covered(&self, key: &FrontendKey<A>, value: &Frontend) -> bool {
        let external = Frontend::LOAD_BALANCER | Frontend::EXTERNAL_IP;
        value.flags & Frontend::VIP != 0
            || value.flags & external != 0 && !self.ranges.is_own(key.addr)
    }

    fn cover_all(&mut self) {
        // In order: which hull an address widens depends on those before it.
        let entries = self.entries.iter();
        let served = entries.filter_map(|(key, entry)| Some((key, entry.served.as_ref()?.value)));
        let mut addresses: Vec<A> = served
            .filter(|(key, value)| self.is_covered(key, value))
            .map(|(key, _)| key.addr)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            self.ranges.cover(address);
        }
    }
}

fn problem<A: Address>(service: &Arc<ObjectKey>, key: &FrontendKey<A>, cause: Cause) -> Problem {
    Problem {
        service: Some(service.clone()),
        field: "frontend".into(),
        value: frontend_name(key),
        cause,
    }
}
