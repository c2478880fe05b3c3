//! Maps that watch how they are written: each of these would send a packet astray.
//!
//! After every write, each frontend leads to slots that lead to endpoints of its own service port which
//! may be used for its list. Slots that a frontend in force leads to are not written, nor those that one
//! has led to until this or the last plan (a packet may still be on its way there); the same goes for
//! endpoints, of which an id never changes what it stands for. A frontend that is put leads to slots of
//! its own service port and to a record. Source ranges are there before a frontend that asks for them, and go
//! after it.

use duolb::control::maps::{FamilyDump, FamilyMaps, Maps, MapsError, SourceRange, fake::FakeMaps};
use lb_common::{
    address::{Address, Family, V4, V6},
    tables::{
        Endpoint, Frontend, FrontendKey, ServiceRecord, VipRange, endpoint_generation,
        endpoint_index,
    },
};

#[derive(Clone, Debug)]
pub(crate) struct AuditedMaps {
    pub(crate) inner: FakeMaps,
    /// Whether what a frontend has led to lately is watched too. Not when operations fail: the planner
    /// then starts afresh, after a pause.
    watches_past: bool,
    /// Ranges that frontends led to until this and the last plan.
    past: [Vec<(Family, u32, u32)>; 2],
    /// Indices of endpoints that went in this and the last plan.
    gone: [Vec<(Family, u32)>; 2],
}

impl AuditedMaps {
    pub(crate) fn new(inner: FakeMaps, watches_past: bool) -> Self {
        Self {
            inner,
            watches_past,
            past: Default::default(),
            gone: Default::default(),
        }
    }

    /// Another plan begins.
    pub(crate) fn begin_plan(&mut self) {
        self.past.rotate_left(1);
        self.past[1].clear();
        self.gone.rotate_left(1);
        self.gone[1].clear();
    }

    fn leave<A: Address>(&mut self, key: &FrontendKey<A>)
    where
        FakeMaps: FamilyMaps<A>,
    {
        let before = dump::<A>(&self.inner)
            .frontends
            .into_iter()
            .find(|(other, _)| other == key);
        if let Some((_, value)) = before {
            for (base, count) in ranges(&value) {
                self.past[1].push((A::FAMILY, base, count));
            }
        }
    }
}

impl AuditedMaps {
    /// Panics if a frontend asks who may use it, and nobody may.
    fn check_admitted<A: Address>(&self, value: &Frontend)
    where
        FakeMaps: FamilyMaps<A>,
    {
        let sources = dump::<A>(&self.inner).sources;
        let mut own = sources.iter();
        // Where there is no room for its ranges nobody is admitted, rather than everybody.
        let capacity = FamilyMaps::<A>::source_capacity(&self.inner) as usize;
        let is_admitted = value.flags & Frontend::SOURCE_RANGES == 0
            || own.any(|range| range.source.service == value.service)
            || sources.len() + MOST_SOURCES > capacity;
        assert!(is_admitted, "{value:?} admits nobody");
    }
}

fn dump<A: Address>(maps: &FakeMaps) -> FamilyDump<A>
where
    FakeMaps: FamilyMaps<A>,
{
    maps.dump().expect("maps in memory")
}

/// Panics unless every frontend leads to where it should.
fn check_ways<A: Address>(dump: &FamilyDump<A>) {
    for (key, value) in &dump.frontends {
        let is_local = value.flags & (Frontend::LOCAL | Frontend::SPLIT) != 0;
        let needed = if is_local {
            [Endpoint::<A>::LOCAL, Endpoint::<A>::CLUSTER]
        } else {
            [Endpoint::<A>::CLUSTER; 2]
        };
        let ways = ranges(value).into_iter().zip(needed);
        let ids = ways.flat_map(|((base, count), needed)| {
            let range = base as usize..(base + count) as usize;
            dump.slots[range].iter().map(move |id| (id, needed))
        });
        for (id, needed) in ids {
            let endpoint = dump.endpoints[endpoint_index(*id) as usize];
            let is_right = endpoint.id == *id
                && endpoint.service == value.service
                && endpoint.state & needed != 0;
            assert!(
                is_right,
                "{key:?} {value:?} leads to {endpoint:?} by {id:#x}"
            );
        }
    }
}

/// The slots that a frontend leads to, and those for clients inside.
fn ranges(value: &Frontend) -> [(u32, u32); 2] {
    assert!(value.inner_count == 0 || value.flags & Frontend::SPLIT != 0);
    [
        (value.slot_base, value.slot_count),
        (value.inner_base, value.inner_count),
    ]
}

/// The most source ranges of one service port and family in these tests.
const MOST_SOURCES: usize = 3;

fn overlap((a, a_len): (u32, u32), (b, b_len): (u32, u32)) -> bool {
    a_len > 0 && b_len > 0 && a < b + b_len && b < a + a_len
}

impl<A: Address> FamilyMaps<A> for AuditedMaps
where
    FakeMaps: FamilyMaps<A>,
{
    fn slot_capacity(&self) -> u32 {
        self.inner.slot_capacity()
    }

    fn endpoint_capacity(&self) -> u32 {
        self.inner.endpoint_capacity()
    }

    fn write_slots(&mut self, base: u32, ids: &[u32]) -> Result<(), MapsError> {
        let written = (base, u32::try_from(ids.len()).unwrap());
        for (key, value) in dump::<A>(&self.inner).frontends {
            for range in ranges(&value) {
                assert!(
                    !overlap(written, range),
                    "slots of {key:?} are overwritten: {written:?}"
                );
            }
        }
        let past = self.past.iter().flatten().filter(|_| self.watches_past);
        for (family, base, len) in past.filter(|(family, ..)| *family == A::FAMILY) {
            let range = (*base, *len);
            assert!(
                !overlap(written, range),
                "{family} slots {range:?} are reused too early"
            );
        }
        self.inner.write_slots(base, ids)
    }

    fn write_slot_runs(&mut self, runs: &[(u32, &[u32])]) -> Result<(), MapsError> {
        // One call, as far as calls are counted; each run is looked at.
        let calls = self.inner.calls;
        let result = runs
            .iter()
            .try_for_each(|(base, ids)| self.write_slots(*base, ids));
        self.inner.calls.write_slots = calls.write_slots + 1;
        result
    }

    fn put_endpoints(&mut self, endpoints: &[Endpoint<A>]) -> Result<(), MapsError> {
        let before = dump::<A>(&self.inner).endpoints;
        for after in endpoints {
            let index = endpoint_index(after.id);
            let before = before.get(index as usize).copied().unwrap_or_default();
            if before.id == after.id {
                let kept = Endpoint {
                    state: after.state,
                    ..before
                };
                assert_eq!(*after, kept, "an id changes its meaning");
                let rises = before.state == 0 && after.state != 0;
                assert!(!rises, "{after:?} comes back from the dead");
            } else {
                assert_eq!(before.state, 0, "{before:?} is overwritten");
                let (old, new) = (
                    endpoint_generation(before.id),
                    endpoint_generation(after.id),
                );
                assert_eq!(new, old.checked_add(1).unwrap_or(1), "{before:?} {after:?}");
                let is_early = self
                    .gone
                    .iter()
                    .flatten()
                    .any(|it| *it == (A::FAMILY, index));
                assert!(
                    !(is_early && self.watches_past),
                    "{after:?} is reused too early"
                );
            }
            if after.state == 0 {
                self.gone[1].push((A::FAMILY, index));
            }
        }
        self.inner.put_endpoints(endpoints)?;
        check_ways(&dump::<A>(&self.inner));
        Ok(())
    }

    fn put_frontends(&mut self, entries: &[(FrontendKey<A>, Frontend)]) -> Result<(), MapsError> {
        // One call, as far as calls are counted; each frontend is looked at.
        let calls = self.inner.calls;
        let result = entries
            .iter()
            .try_for_each(|(key, value)| self.put_frontend(key, value));
        self.inner.calls.put_frontend = calls.put_frontend + 1;
        result
    }

    fn put_frontend(&mut self, key: &FrontendKey<A>, value: &Frontend) -> Result<(), MapsError> {
        let owned = ranges(value);
        for (other, before) in dump::<A>(&self.inner).frontends {
            // Frontends of one service port share its slots.
            let is_own = before.service == value.service;
            let mut pairs = ranges(&before)
                .into_iter()
                .flat_map(|range| owned.map(|owned| (owned, range)));
            let sound = other == *key || is_own || !pairs.any(|(a, b)| overlap(a, b));
            assert!(sound, "{key:?} and {other:?} share slots");
        }
        assert!(
            self.inner.services.contains_key(&value.service),
            "{key:?} has no record"
        );
        let range_is_kept = dump::<A>(&self.inner)
            .frontends
            .iter()
            .any(|(other, before)| other == key && ranges(before) == owned);
        self.check_admitted::<A>(value);
        if !range_is_kept {
            self.leave(key);
        }
        self.inner.put_frontend(key, value)?;
        check_ways(&dump::<A>(&self.inner));
        Ok(())
    }

    fn write_ranges(&mut self, ranges: &[VipRange<A>]) -> Result<(), MapsError> {
        self.inner.write_ranges(ranges)
    }

    fn source_capacity(&self) -> u32 {
        self.inner.source_capacity()
    }

    fn put_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        self.inner.put_sources(sources)
    }

    fn remove_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        self.inner.remove_sources(sources)?;
        for (_, value) in dump::<A>(&self.inner).frontends {
            self.check_admitted::<A>(&value);
        }
        Ok(())
    }

    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), MapsError> {
        self.leave(key);
        self.inner.remove_frontend(key)
    }

    fn dump(&self) -> Result<FamilyDump<A>, MapsError> {
        self.inner.dump()
    }
}

impl Maps for AuditedMaps {
    fn service_capacity(&self) -> u32 {
        self.inner.service_capacity()
    }

    fn put_service(&mut self, id: u32, record: &ServiceRecord) -> Result<(), MapsError> {
        self.inner.put_service(id, record)
    }

    fn remove_service(&mut self, id: u32) -> Result<(), MapsError> {
        let frontends = dump::<V4>(&self.inner)
            .frontends
            .into_iter()
            .map(|(_, value)| value);
        let v6 = dump::<V6>(&self.inner)
            .frontends
            .into_iter()
            .map(|(_, value)| value);
        let is_used = frontends.chain(v6).any(|value| value.service == id);
        assert!(!is_used, "record {id} is removed while a frontend needs it");
        self.inner.remove_service(id)
    }

    fn reset_traffic(&mut self, id: u32) -> Result<(), MapsError> {
        self.inner.reset_traffic(id)
    }

    fn services(&self) -> Result<Vec<(u32, ServiceRecord)>, MapsError> {
        self.inner.services()
    }
}
