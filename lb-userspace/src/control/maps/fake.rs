//! Maps in memory, with limits and a count of calls: for tests and benches.
//!
//! It behaves as the kernel's maps do as far as the control plane can tell, down to what is full when.

use std::collections::BTreeMap;

use lb_common::{
    address::{Address, V4, V6},
    tables::{Endpoint, Frontend, FrontendKey, ServiceRecord},
};

use super::{FamilyDump, FamilyMaps, Maps, MapsError, Table};

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
    pub slots: Vec<Endpoint<A>>,
    /// Number of slots.
    pub slot_capacity: u32,
}

/// How often the maps were called to write. A batch is one call, as it is one syscall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Writes of slots.
    pub write_slots: usize,
    /// Slots written by them.
    pub slots: usize,
    /// Frontends put.
    pub put_frontend: usize,
    /// Frontends removed.
    pub remove_frontend: usize,
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
            + self.put_frontend
            + self.remove_frontend
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

    fn write_slots(&mut self, base: u32, endpoints: &[Endpoint<A>]) -> Result<(), MapsError> {
        let (family, calls) = self.part_mut();
        calls.write_slots += 1;
        calls.slots += endpoints.len();
        let base = base as usize;
        let end = base + endpoints.len();
        if end > family.slot_capacity as usize {
            return Err(MapsError::Full {
                table: Table::Slots(A::FAMILY),
            });
        }
        if end > family.slots.len() {
            family.slots.resize(end, Endpoint::default());
        }
        family.slots[base..end].copy_from_slice(endpoints);
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

    fn dump(&self) -> Result<FamilyDump<A>, MapsError> {
        let FakeFamily {
            frontends,
            slots,
            slot_capacity,
            ..
        } = self.part();
        let ends = frontends
            .values()
            .map(|value| value.slot_base.saturating_add(value.slot_count));
        let end = ends.max().unwrap_or(0).min(*slot_capacity) as usize;
        let mut slots = slots.clone();
        slots.resize(end, Endpoint::default());
        let frontends = frontends
            .iter()
            .map(|(key, value)| (*key, *value))
            .collect();
        Ok(FamilyDump { frontends, slots })
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
