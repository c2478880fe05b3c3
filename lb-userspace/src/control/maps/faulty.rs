//! Maps that fail now and then: whatever is behind this must converge all the same.
//!
//! A call fails with a set probability, before or after it took effect, because that is what a caller
//! cannot know. The failures follow from a seed, so that a test that fails can be repeated. Or all calls
//! fail from some moment on, as if the agent had been killed there; batches are taken apart, so that this
//! can be in the middle of one.

use std::{cell::Cell, io};

use lb_common::{
    address::Address,
    tables::{Endpoint, Frontend, FrontendKey, ServiceRecord, VipRange},
};

use super::{FamilyDump, FamilyMaps, Maps, MapsError, SourceRange, Table};

/// Other maps, unreliably.
#[derive(Clone, Debug)]
pub struct FaultyMaps<M> {
    /// The maps themselves.
    pub inner: M,
    /// In how many of 256 calls one fails.
    pub rate: u8,
    /// So many writes are let through; all later ones fail and have no effect.
    pub writes_left: usize,
    random: Cell<u64>,
}

impl<M> FaultyMaps<M> {
    /// `inner`, of which `rate` in 256 calls fail; which ones follows from `seed`.
    pub fn new(inner: M, rate: u8, seed: u64) -> Self {
        Self {
            inner,
            rate,
            writes_left: usize::MAX,
            random: Cell::new(seed),
        }
    }

    /// The next number of the sequence "splitmix64" (Steele, Lea, Flood: Fast splittable pseudorandom
    /// number generators, 2014).
    fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn fails(&self) -> bool {
        self.random() & 0xff < u64::from(self.rate)
    }

    fn write(
        &mut self,
        table: Table,
        write: impl FnOnce(&mut M) -> Result<(), MapsError>,
    ) -> Result<(), MapsError> {
        let Some(left) = self.writes_left.checked_sub(1) else {
            return Err(failure(table));
        };
        self.writes_left = left;
        if !self.fails() {
            return write(&mut self.inner);
        }
        if self.random() & 1 == 0 {
            write(&mut self.inner)?;
        }
        Err(failure(table))
    }

    fn read<T>(
        &self,
        table: Table,
        read: impl FnOnce(&M) -> Result<T, MapsError>,
    ) -> Result<T, MapsError> {
        if self.fails() {
            Err(failure(table))
        } else {
            read(&self.inner)
        }
    }
}

fn failure(table: Table) -> MapsError {
    MapsError::Io {
        table,
        source: io::Error::other("fails on purpose"),
    }
}

impl<A: Address, M: FamilyMaps<A>> FamilyMaps<A> for FaultyMaps<M> {
    fn slot_capacity(&self) -> u32 {
        self.inner.slot_capacity()
    }

    fn endpoint_capacity(&self) -> u32 {
        self.inner.endpoint_capacity()
    }

    fn write_slots(&mut self, base: u32, ids: &[u32]) -> Result<(), MapsError> {
        self.write(Table::Slots(A::FAMILY), |inner| {
            inner.write_slots(base, ids)
        })
    }

    fn put_endpoints(&mut self, endpoints: &[Endpoint<A>]) -> Result<(), MapsError> {
        endpoints.iter().try_for_each(|endpoint| {
            self.write(Table::Endpoints(A::FAMILY), |inner| {
                inner.put_endpoints(&[*endpoint])
            })
        })
    }

    fn put_frontend(&mut self, key: &FrontendKey<A>, value: &Frontend) -> Result<(), MapsError> {
        self.write(Table::Frontends(A::FAMILY), |inner| {
            inner.put_frontend(key, value)
        })
    }

    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), MapsError> {
        self.write(Table::Frontends(A::FAMILY), |inner| {
            inner.remove_frontend(key)
        })
    }

    fn write_ranges(&mut self, ranges: &[VipRange<A>]) -> Result<(), MapsError> {
        self.write(Table::Ranges(A::FAMILY), |inner| inner.write_ranges(ranges))
    }

    fn source_capacity(&self) -> u32 {
        self.inner.source_capacity()
    }

    fn put_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        sources.iter().try_for_each(|source| {
            self.write(Table::Sources(A::FAMILY), |inner| {
                inner.put_sources(&[*source])
            })
        })
    }

    fn remove_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        sources.iter().try_for_each(|source| {
            self.write(Table::Sources(A::FAMILY), |inner| {
                inner.remove_sources(&[*source])
            })
        })
    }

    fn dump(&self) -> Result<FamilyDump<A>, MapsError> {
        self.read(Table::Frontends(A::FAMILY), FamilyMaps::dump)
    }
}

impl<M: Maps> Maps for FaultyMaps<M> {
    fn service_capacity(&self) -> u32 {
        self.inner.service_capacity()
    }

    fn put_service(&mut self, id: u32, record: &ServiceRecord) -> Result<(), MapsError> {
        self.write(Table::Services, |inner| inner.put_service(id, record))
    }

    fn remove_service(&mut self, id: u32) -> Result<(), MapsError> {
        self.write(Table::Services, |inner| inner.remove_service(id))
    }

    fn reset_traffic(&mut self, id: u32) -> Result<(), MapsError> {
        self.write(Table::Traffic, |inner| inner.reset_traffic(id))
    }

    fn services(&self) -> Result<Vec<(u32, ServiceRecord)>, MapsError> {
        self.read(Table::Services, Maps::services)
    }
}
