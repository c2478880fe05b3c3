//! Maps in memory, with limits and a count of calls: for tests and benches.
//!
//! It behaves as the kernel's maps do as far as the control plane can tell, down to what is full when.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{
    address::{Address, V4, V6},
    tables::{
        Endpoint, Frontend, FrontendKey, MAX_ENDPOINTS, ServiceRecord, VIP_RANGES, VipRange,
        endpoint_index,
    },
};

use super::{FamilyDump, FamilyMaps, Maps, MapsError, SourceRange, Table, slots_end};

/// All maps of the control plane, in memory.
#[derive(Clone, Debug)]
pub struct FakeMaps {
    /// `SERVICES`.
    pub services: BTreeMap<u32, ServiceRecord>,
    /// Number of service ids.
    pub service_capacity: u32,
    /// The ids whose counters were reset, in order.
    pub resets: Vec<u32>,
    /// The IPv4 maps.
    pub v4: FakeFamily<V4>,
    /// The IPv6 maps.
    pub v6: FakeFamily<V6>,
    /// Calls so far.
    pub calls: Calls,
}

/// The maps of one family, in memory.
#[derive(Clone, Debug)]
pub struct FakeFamily<A> {
    /// The frontends.
    pub frontends: BTreeMap<FrontendKey<A>, Frontend>,
    /// Most frontends there is room for.
    pub frontend_capacity: usize,
    /// The slots; grows on demand up to `slot_capacity`.
    pub slots: Vec<u32>,
    /// Number of slots.
    pub slot_capacity: u32,
    /// The endpoints; grows on demand up to `endpoint_capacity`.
    pub endpoints: Vec<Endpoint<A>>,
    /// Number of endpoints. To begin with there are more than slots.
    pub endpoint_capacity: u32,
    /// The ranges in use.
    pub ranges: Vec<VipRange<A>>,
    /// The source ranges.
    pub sources: BTreeSet<SourceRange<A>>,
    /// Most source ranges there is room for.
    pub source_capacity: u32,
}

/// How often the maps were called to write. A batch is one call, as it is one syscall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Writes of slots.
    pub write_slots: usize,
    /// Slots written by them.
    pub slots: usize,
    /// Writes of endpoints.
    pub put_endpoints: usize,
    /// Endpoints written by them.
    pub endpoints: usize,
    /// Frontends put.
    pub put_frontend: usize,
    /// Frontends removed.
    pub remove_frontend: usize,
    /// Writes of ranges.
    pub write_ranges: usize,
    /// Writes of source ranges.
    pub put_sources: usize,
    /// Removals of source ranges.
    pub remove_sources: usize,
    /// Records put.
    pub put_service: usize,
    /// Records removed.
    pub remove_service: usize,
    /// Counters reset.
    pub reset_traffic: usize,
}

impl Calls {
    /// All of them.
    pub fn total(&self) -> usize {
        self.write_slots
            + self.put_endpoints
            + self.put_frontend
            + self.remove_frontend
            + self.write_ranges
            + self.put_sources
            + self.remove_sources
            + self.put_service
            + self.remove_service
            + self.reset_traffic
    }
}

impl FakeMaps {
    /// Empty maps with room for so many services, frontends and slots (both per family).
    pub fn new(services: u32, frontends: usize, slots: u32) -> Self {
        Self {
            services: BTreeMap::new(),
            service_capacity: services,
            resets: Vec::new(),
            v4: FakeFamily::new(frontends, slots),
            v6: FakeFamily::new(frontends, slots),
            calls: Calls::default(),
        }
    }

    /// The calls since this was last asked.
    pub fn take_calls(&mut self) -> Calls {
        std::mem::take(&mut self.calls)
    }
}

impl<A> FakeFamily<A> {
    fn new(frontend_capacity: usize, slot_capacity: u32) -> Self {
        Self {
            frontends: BTreeMap::new(),
            frontend_capacity,
            slots: Vec::new(),
            slot_capacity,
            endpoints: Vec::new(),
            endpoint_capacity: slot_capacity.saturating_mul(4).min(MAX_ENDPOINTS),
            ranges: Vec::new(),
            sources: BTreeSet::new(),
            source_capacity: slot_capacity,
        }
    }
}

/// The part of the maps that belongs to one family.
trait Part<A> {
    fn part(&self) -> &FakeFamily<A>;
    fn part_mut(&mut self) -> (&mut FakeFamily<A>, &mut Calls);
}

impl Part<V4> for FakeMaps {
    fn part(&self) -> &FakeFamily<V4> {
        &self.v4
    }

    fn part_mut(&mut self) -> (&mut FakeFamily<V4>, &mut Calls) {
        (&mut self.v4, &mut self.calls)
    }
}

impl Part<V6> for FakeMaps {
    fn part(&self) -> &FakeFamily<V6> {
        &self.v6
    }

    fn part_mut(&mut self) -> (&mut FakeFamily<V6>, &mut Calls) {
        (&mut self.v6, &mut self.calls)
    }
}

impl<A: Address> FamilyMaps<A> for FakeMaps
where
    Self: Part<A>,
{
    fn slot_capacity(&self) -> u32 {
        self.part().slot_capacity
    }

    fn endpoint_capacity(&self) -> u32 {
        self.part().endpoint_capacity
    }

    fn write_slots(&mut self, base: u32, ids: &[u32]) -> Result<(), MapsError> {
        self.write_slot_runs(&[(base, ids)])
    }

    fn write_slot_runs(&mut self, runs: &[(u32, &[u32])]) -> Result<(), MapsError> {
        let (family, calls) = self.part_mut();
        calls.write_slots += 1;
        for (base, ids) in runs {
            calls.slots += ids.len();
            let base = *base as usize;
            let end = base + ids.len();
            if end > family.slot_capacity as usize {
                return Err(MapsError::Full {
                    table: Table::Slots(A::FAMILY),
                });
            }
            if end > family.slots.len() {
                family.slots.resize(end, 0);
            }
            family.slots[base..end].copy_from_slice(ids);
        }
        Ok(())
    }

    fn put_endpoints(&mut self, endpoints: &[Endpoint<A>]) -> Result<(), MapsError> {
        let (family, calls) = self.part_mut();
        calls.put_endpoints += 1;
        calls.endpoints += endpoints.len();
        for endpoint in endpoints {
            let index = endpoint_index(endpoint.id);
            if index >= family.endpoint_capacity {
                return Err(MapsError::Full {
                    table: Table::Endpoints(A::FAMILY),
                });
            }
            let index = index as usize;
            if index >= family.endpoints.len() {
                family.endpoints.resize(index + 1, Endpoint::default());
            }
            family.endpoints[index] = *endpoint;
        }
        Ok(())
    }

    fn put_frontend(&mut self, key: &FrontendKey<A>, value: &Frontend) -> Result<(), MapsError> {
        let (family, calls) = self.part_mut();
        calls.put_frontend += 1;
        put_frontend(family, key, value)
    }

    fn put_frontends(&mut self, entries: &[(FrontendKey<A>, Frontend)]) -> Result<(), MapsError> {
        let (family, calls) = self.part_mut();
        calls.put_frontend += 1;
        entries
            .iter()
            .try_for_each(|(key, value)| put_frontend(family, key, value))
    }

    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), MapsError> {
        let (family, calls) = self.part_mut();
        calls.remove_frontend += 1;
        family.frontends.remove(key);
        Ok(())
    }

    fn write_ranges(&mut self, ranges: &[VipRange<A>]) -> Result<(), MapsError> {
        let (family, calls) = self.part_mut();
        calls.write_ranges += 1;
        if ranges.len() > VIP_RANGES as usize {
            return Err(MapsError::Full {
                table: Table::Ranges(A::FAMILY),
            });
        }
        family.ranges = ranges.to_vec();
        Ok(())
    }

    fn source_capacity(&self) -> u32 {
        self.part().source_capacity
    }

    fn put_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        let (family, calls) = self.part_mut();
        calls.put_sources += 1;
        for source in sources {
            let is_full = family.sources.len() >= family.source_capacity as usize;
            if is_full && !family.sources.contains(source) {
                return Err(MapsError::Full {
                    table: Table::Sources(A::FAMILY),
                });
            }
            family.sources.insert(*source);
        }
        Ok(())
    }

    fn remove_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        let (family, calls) = self.part_mut();
        calls.remove_sources += 1;
        for source in sources {
            family.sources.remove(source);
        }
        Ok(())
    }

    fn dump(&self) -> Result<FamilyDump<A>, MapsError> {
        let family = self.part();
        let end = slots_end(family.frontends.values().copied()).min(family.slot_capacity) as usize;
        let mut slots = family.slots.clone();
        slots.resize(end, 0);
        let frontends = family.frontends.iter();
        Ok(FamilyDump {
            frontends: frontends.map(|(key, value)| (*key, *value)).collect(),
            slots,
            endpoints: family.endpoints.clone(),
            ranges: family.ranges.clone(),
            sources: family.sources.iter().copied().collect(),
        })
    }
}

fn put_frontend<A: Address>(
    family: &mut FakeFamily<A>,
    key: &FrontendKey<A>,
    value: &Frontend,
) -> Result<(), MapsError> {
    if !family.frontends.contains_key(key) && family.frontends.len() >= family.frontend_capacity {
        return Err(MapsError::Full {
            table: Table::Frontends(A::FAMILY),
        });
    }
    family.frontends.insert(*key, *value);
    Ok(())
}

impl Maps for FakeMaps {
    fn service_capacity(&self) -> u32 {
        self.service_capacity
    }

    fn put_service(&mut self, id: u32, record: &ServiceRecord) -> Result<(), MapsError> {
        self.put_services(&[(id, *record)])
    }

    fn put_services(&mut self, records: &[(u32, ServiceRecord)]) -> Result<(), MapsError> {
        self.calls.put_service += 1;
        for (id, record) in records {
            if *id >= self.service_capacity {
                return Err(MapsError::Full {
                    table: Table::Services,
                });
            }
            self.services.insert(*id, *record);
        }
        Ok(())
    }

    fn remove_service(&mut self, id: u32) -> Result<(), MapsError> {
        self.calls.remove_service += 1;
        self.services.remove(&id);
        Ok(())
    }

    fn reset_traffic(&mut self, id: u32) -> Result<(), MapsError> {
        self.calls.reset_traffic += 1;
        self.resets.push(id);
        Ok(())
    }

    fn services(&self) -> Result<Vec<(u32, ServiceRecord)>, MapsError> {
        Ok(self
            .services
            .iter()
            .map(|(id, record)| (*id, *record))
            .collect())
    }
}
