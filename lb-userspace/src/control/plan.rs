//! The planner: compares what services should look like with what is in the maps, and says what to do.
//!
//! It mirrors the maps, so that one changed service costs one comparison and never a dump, and it alone
//! gives out ids, of service ports and of endpoints, and slots. Pure: the same changes give the same [`Plan`]. After [`Planner::plan`] the
//! mirror stands as if every step had been carried out; if one was not, the mirror is worth nothing any
//! more and is made anew from the maps (`restore`). The one exception is a full frontends map, which is
//! to be expected and can be told to the planner ([`Planner::reject`]).

mod backing;
mod compare;
mod endpoint_ids;
mod entry;
mod family;
mod ids;
mod last_known;
mod lists;
mod merge;
mod op;
mod quarantine;
mod settle;
mod slots;
mod sources;
mod vip_ranges;

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
};

use lb_common::{
    address::{V4, V6},
    tables::ServiceRecord,
};

pub(super) use self::{
    backing::{Backing, Pools},
    entry::{Claim, Entry, Served},
    lists::Lists,
    merge::place,
    sources::network_of,
    vip_ranges::RangePlanner,
};
pub use self::{
    endpoint_ids::EndpointPool,
    family::FamilyPlanner,
    ids::IdPool,
    op::{FamilyOp, Op, Plan, Step},
    slots::{SlotPool, SlotRange},
    sources::SourcePool,
    vip_ranges::Surroundings,
};
use super::{
    desired::{DesiredPort, DesiredService},
    maps::Table,
    problem::{Cause, Problem},
};
use crate::model::ObjectKey;

/// What became of one Service.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub service: Arc<ObjectKey>,
    /// What it should look like; `None` if it does not exist any more.
    pub desired: Option<DesiredService>,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// Some services changed.
    Change,
    /// What found no room is to be tried again, whether or not there is any.
    Retry,
    /// The changes name every service there is, so that what none of them claims is removed (rule 92).
    Complete,
}

/// Mirror of all maps the control plane owns.
#[derive(Clone, Debug)]
pub struct Planner {
    services: HashMap<Arc<ObjectKey>, Vec<Port>>,
    /// Ids with a record that belongs to no port.
    orphans: Vec<u32>,
    ids: IdPool,
    /// Services with a port that found no id.
    numberless: BTreeMap<Arc<ObjectKey>, DesiredService>,
    v4: FamilyPlanner<V4>,
    v6: FamilyPlanner<V6>,
}

/// A service port that has an id. What it has in a family is with that family's planner.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) id: u32,
    pub(super) record: Arc<ServiceRecord>,
}

impl Planner {
    /// A mirror of maps with this in them.
    pub(super) fn new(
        services: HashMap<Arc<ObjectKey>, Vec<Port>>,
        orphans: Vec<u32>,
        ids: IdPool,
        v4: FamilyPlanner<V4>,
        v6: FamilyPlanner<V6>,
    ) -> Self {
        Self {
            services,
            orphans,
            ids,
            numberless: BTreeMap::new(),
            v4,
            v6,
        }
    }

    /// Says what brings the maps to what `changes` want, in such `surroundings`, and takes it for done.
    pub fn plan(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        occasion: Occasion,
        surroundings: &Surroundings,
    ) -> Plan {
        let mut plan = Plan::default();
        let retry = occasion == Occasion::Retry;
        self.v4.advance(retry);
        self.v6.advance(retry);
        self.v4.tell(surroundings);
        self.v6.tell(surroundings);
        let mut again = BTreeMap::new();
        if self.ids.advance() || retry {
            again = mem::take(&mut self.numberless);
        }
        for Change { service, desired } in changes {
            again.remove(&service);
            self.numberless.remove(&service);
            self.plan_service(&service, desired, &mut plan);
        }
        for (service, desired) in again {
            self.plan_service(&service, Some(desired), &mut plan);
        }
        if occasion == Occasion::Complete {
            for id in mem::take(&mut self.orphans) {
                plan.push(id, None, Op::RemoveService);
                self.ids.release(id);
            }
            self.v4.complete(&mut plan);
            self.v6.complete(&mut plan);
        }
        self.v4.settle(&mut plan);
        self.v6.settle(&mut plan);
        plan.ordered()
    }

    /// Takes note that a new frontend found no room in its map; it is tried again when one is removed.
    pub fn reject(&mut self, op: &Op) {
        match op {
            Op::V4(FamilyOp::PutFrontend { key, .. }) => self.v4.reject(key),
            Op::V6(FamilyOp::PutFrontend { key, .. }) => self.v6.reject(key),
            _ => {}
        }
    }

    /// The services that have ids.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.services.keys()
    }

    /// Whether anything waits for room.
    pub fn is_waiting(&self) -> bool {
        !self.numberless.is_empty() || self.v4.is_waiting() || self.v6.is_waiting()
    }

    /// Whether the next plans will have room for something that waits, without anything else changing.
    pub fn is_room_coming(&self) -> bool {
        let ids = !self.numberless.is_empty() && self.ids.is_room_coming();
        ids || self.v4.is_room_coming() || self.v6.is_room_coming()
    }

    /// What is not served as its Service says.
    pub fn problems(&self) -> impl Iterator<Item = Problem> {
        let numberless = self.numberless.iter().flat_map(|(service, desired)| {
            let numbered = self.services.get(service).map_or(&[][..], Vec::as_slice);
            let missing = desired
                .ports
                .iter()
                .filter(|want| !numbered.iter().any(|port| port.is(want)));
            missing.map(|want| Problem {
                service: Some(service.clone()),
                field: "port".into(),
                value: want.record.port.to_string(),
                cause: Cause::NoRoom(Table::Services),
            })
        });
        numberless
            .chain(self.v4.problems())
            .chain(self.v6.problems())
    }

    fn plan_service(
        &mut self,
        service: &Arc<ObjectKey>,
        desired: Option<DesiredService>,
        plan: &mut Plan,
    ) {
        let mut before = self.services.remove(service).unwrap_or_default();
        let mut after = Vec::new();
        let mut numberless = false;
        for want in desired.iter().flat_map(|desired| &desired.ports) {
            let known = before.iter().position(|port| port.is(want));
            let known = known.map(|at| before.swap_remove(at));
            let known_id = known.as_ref();
            let Some(id) = known_id
                .map(|port| port.id)
                .or_else(|| self.find_id(service, plan))
            else {
                numberless = true;
                continue;
            };
            if known.is_none_or(|port| port.record != want.record) {
                plan.push(id, Some(service), Op::PutService(want.record.clone()));
            }
            let since = desired.as_ref().map_or(0, |desired| desired.since);
            self.v4.update(service, id, since, want.v4.as_ref());
            self.v6.update(service, id, since, want.v6.as_ref());
            after.push(Port {
                id,
                record: want.record.clone(),
            });
        }
        for Port { id, .. } in before {
            self.v4.update(service, id, 0, None);
            self.v6.update(service, id, 0, None);
            plan.push(id, Some(service), Op::RemoveService);
            self.ids.release(id);
        }
        if !after.is_empty() {
            self.services.insert(service.clone(), after);
        }
        if let (true, Some(desired)) = (numberless, desired) {
            self.numberless.insert(service.clone(), desired);
        }
    }

    /// A free id, with its counters set to zero if another port may have left some there.
    fn find_id(&mut self, service: &Arc<ObjectKey>, plan: &mut Plan) -> Option<u32> {
        let (id, used_before) = self.ids.find_id()?;
        if used_before {
            plan.push(id, Some(service), Op::ResetTraffic);
        }
        Some(id)
    }
}

impl Port {
    /// Whether this is the port that `desired` describes: ports go by name and protocol (rule 9).
    fn is(&self, desired: &DesiredPort) -> bool {
        let (a, b) = (&self.record, &desired.record);
        (a.protocol, a.port_name) == (b.protocol, b.port_name)
    }
}

#[cfg(test)]
mod tests;
