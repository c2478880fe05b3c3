//! What stands behind the frontends of one service port in one family: endpoints with ids, and slots.
//!
//! Endpoints belong to the service port and not to a frontend: a frontend that comes, goes or changes
//! hands leaves their ids alone. A change of the list of endpoints writes the new ones, then a *new*
//! range of slots, and takes the old ones away only after the frontends have moved on; a change of state
//! rewrites that one entry. The list of what is in the map is the only one that is kept, shared with
//! nobody's bookkeeping but the ids beside it: four bytes an endpoint.

use std::{mem, sync::Arc};

use lb_common::{
    address::Address,
    tables::{Endpoint, FrontendKey},
};

use super::{
    EndpointPool, FamilyOp, Op, Plan, SlotPool,
    lists::{Lists, Uses, lay_out, length, uses_of},
    merge::{Fate, merge},
    sources::SourcePool,
};
use crate::{
    control::{
        desired::{DesiredEndpoint, Network},
        maps::Table,
    },
    model::ObjectKey,
};

/// Endpoints and slots of one service port in one family.
#[derive(Clone, Debug)]
pub(in super::super) struct Backing<A> {
    pub(in super::super) service: Arc<ObjectKey>,
    /// The endpoints in the map, sorted by address and port.
    pub(in super::super) endpoints: Arc<[DesiredEndpoint<A>]>,
    /// Their ids, one by one.
    pub(in super::super) ids: Box<[u32]>,
    pub(in super::super) lists: Lists,
    /// Whether the slots say something else than the lists should.
    pub(in super::super) is_stale: bool,
    /// The endpoints to have instead of those in the map.
    pub(in super::super) wanted: Option<Arc<[DesiredEndpoint<A>]>>,
    /// The source ranges in the map, sorted.
    pub(in super::super) sources: Box<[Network<A>]>,
    /// Those that there should be, if others.
    pub(in super::super) wanted_sources: Option<Box<[Network<A>]>>,
    /// The frontends that it claims.
    pub(in super::super) frontends: Vec<FrontendKey<A>>,
}

/// Where endpoints and slots are given out.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Pools {
    pub(in super::super) slots: SlotPool,
    pub(in super::super) endpoints: EndpointPool,
    pub(in super::super) sources: SourcePool,
}

/// What a change of endpoints comes to.
#[derive(Default)]
struct Extent {
    /// Endpoints that need an id.
    new: usize,
    /// Lists that change.
    lists: Uses,
}

impl<A: Address> Backing<A> {
    /// Nothing yet.
    pub(in super::super) fn new(service: Arc<ObjectKey>) -> Self {
        Self {
            service,
            endpoints: Arc::new([]),
            ids: Box::default(),
            lists: Lists::default(),
            is_stale: false,
            wanted: None,
            sources: Box::default(),
            wanted_sources: None,
            frontends: Vec::new(),
        }
    }

    /// Whether nothing is left of it.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
            && self.frontends.is_empty()
            && self.wanted.is_none()
            && self.sources.is_empty()
            && self.wanted_sources.is_none()
            && self.lists == Lists::default()
    }

    /// The endpoints as they stand in the map, for the service port `id`.
    pub(super) fn entries(&self, id: u32) -> impl Iterator<Item = Endpoint<A>> {
        let all = self.endpoints.iter().zip(&self.ids);
        all.map(move |(endpoint, of)| entry(id, *of, endpoint, endpoint.state))
    }

    /// Brings endpoints and slots to what is wanted, with slots for the lists `uses`.
    ///
    /// # Errors
    /// The map that has no room for it; then nothing is changed (rule 95).
    pub(super) fn renew(
        &mut self,
        id: u32,
        uses: Uses,
        pools: &mut Pools,
        plan: &mut Plan,
    ) -> Result<(), Table>
    where
        Op: From<FamilyOp<A>>,
    {
        let wanted = self.wanted.as_ref().unwrap_or(&self.endpoints).clone();
        let extent = Extent::of(&self.endpoints, &wanted);
        if extent.new > pools.endpoints.available() {
            return Err(Table::Endpoints(A::FAMILY));
        }
        let is_blank = self.is_stale || !self.lists.have(uses) || uses.overlaps(extent.lists);
        let mut room = None;
        if is_blank && !uses.is_empty() {
            let found = u32::try_from(length(&wanted, uses)).ok();
            let found = found.and_then(|len| pools.slots.find_room(len));
            room = Some(found.ok_or(Table::Slots(A::FAMILY))?);
        }
        self.replace_endpoints(id, wanted, pools, plan);
        if let Some(range) = room {
            let (ids, lists) = lay_out(&self.endpoints, &self.ids, uses, range.base);
            if !ids.is_empty() {
                let base = range.base;
                let op = FamilyOp::WriteSlots { base, ids };
                plan.push(id, Some(&self.service), op.into());
            }
            pools
                .slots
                .release(mem::replace(&mut self.lists, lists).span());
            self.is_stale = false;
        }
        self.wanted = None;
        Ok(())
    }

    /// Gives up the slots of lists that are not in `uses`.
    pub(super) fn trim(&mut self, uses: Uses, slots: &mut SlotPool) {
        self.lists.trim(uses, slots);
        self.is_stale &= self.lists != Lists::default();
    }

    /// Makes `wanted` the endpoints in the map. There are ids for the new ones.
    fn replace_endpoints(
        &mut self,
        id: u32,
        wanted: Arc<[DesiredEndpoint<A>]>,
        pools: &mut Pools,
        plan: &mut Plan,
    ) where
        Op: From<FamilyOp<A>>,
    {
        let mut ids = Vec::with_capacity(wanted.len());
        let (mut raised, mut lowered) = (Vec::new(), Vec::new());
        for fate in merge(&self.endpoints, &wanted) {
            match fate {
                Fate::Goes(i) => {
                    lowered.push(entry(id, self.ids[i], &self.endpoints[i], 0));
                    pools.endpoints.release(self.ids[i]);
                }
                Fate::Comes(j) => {
                    let Some(new) = pools.endpoints.find_id() else {
                        unreachable!("room for the new endpoints was seen");
                    };
                    raised.push(entry(id, new, &wanted[j], wanted[j].state));
                    ids.push(new);
                }
                Fate::Stays(i, j) => {
                    let (of, endpoint) = (self.ids[i], &wanted[j]);
                    let (before, after) = (self.endpoints[i].state, endpoint.state);
                    if after & !before != 0 {
                        raised.push(entry(id, of, endpoint, before | after));
                    }
                    if before & !after != 0 {
                        lowered.push(entry(id, of, endpoint, after));
                    }
                    ids.push(of);
                }
            }
        }
        for (endpoints, op) in [
            (raised, FamilyOp::RaiseEndpoints as fn(_) -> _),
            (lowered, FamilyOp::LowerEndpoints),
        ] {
            if !endpoints.is_empty() {
                plan.push(id, Some(&self.service), op(endpoints).into());
            }
        }
        self.endpoints = wanted;
        self.ids = ids.into();
    }
}

impl Extent {
    fn of<A: Address>(old: &[DesiredEndpoint<A>], new: &[DesiredEndpoint<A>]) -> Self {
        let mut extent = Self::default();
        for fate in merge(old, new) {
            let (before, after) = match fate {
                Fate::Goes(i) => (old[i].state, 0),
                Fate::Comes(j) => (0, new[j].state),
                Fate::Stays(i, j) => (old[i].state, new[j].state),
            };
            extent.new += usize::from(matches!(fate, Fate::Comes(_)));
            // Whoever comes or goes with a bit changes that list, as does a bit that flips.
            let changed = uses_of::<A>(before ^ after);
            extent.lists.cluster |= changed.cluster;
            extent.lists.local |= changed.local;
        }
        extent
    }
}

fn entry<A: Address>(
    service: u32,
    id: u32,
    endpoint: &DesiredEndpoint<A>,
    state: u16,
) -> Endpoint<A> {
    Endpoint {
        id,
        service,
        addr: endpoint.addr,
        port: endpoint.port,
        state,
    }
}
