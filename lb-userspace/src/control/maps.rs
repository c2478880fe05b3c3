//! The door to the kernel's maps: the only way the control plane reads or writes them.
//!
//! The real maps live in `datapath`; [`fake`] keeps them in memory and [`faulty`] makes any of them fail,
//! for tests and benches. Whoever implements this knows how to write, never what to write.

pub mod fake;
pub mod faulty;

use std::fmt;

use lb_common::{
    address::{Address, Family},
    tables::{Endpoint, Frontend, FrontendKey, ServiceRecord, Source, VipRange},
};

/// Which map an operation was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `FRONTENDS_V4` or `FRONTENDS_V6`.
    Frontends(Family),
    /// `SLOTS_V4` or `SLOTS_V6`.
    Slots(Family),
    /// `ENDPOINTS_V4` or `ENDPOINTS_V6`.
    Endpoints(Family),
    /// `RANGES_V4` or `RANGES_V6`.
    Ranges(Family),
    /// `SOURCES_V4` or `SOURCES_V6`.
    Sources(Family),
    /// `SERVICES`.
    Services,
    /// `TRAFFIC`.
    Traffic,
}

/// The name of the map, as it is pinned.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Frontends(Family::V4) => "FRONTENDS_V4",
            Self::Frontends(Family::V6) => "FRONTENDS_V6",
            Self::Slots(Family::V4) => "SLOTS_V4",
            Self::Slots(Family::V6) => "SLOTS_V6",
            Self::Endpoints(Family::V4) => "ENDPOINTS_V4",
            Self::Endpoints(Family::V6) => "ENDPOINTS_V6",
            Self::Ranges(Family::V4) => "RANGES_V4",
            Self::Ranges(Family::V6) => "RANGES_V6",
            Self::Sources(Family::V4) => "SOURCES_V4",
            Self::Sources(Family::V6) => "SOURCES_V6",
            Self::Services => "SERVICES",
            Self::Traffic => "TRAFFIC",
        })
    }
}

impl Table {
    /// What the user can do when it is full.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Frontends(_) | Self::Services | Self::Traffic => "raise --max-services",
            Self::Slots(_) | Self::Endpoints(_) => "raise --max-slots",
            Self::Sources(_) => "raise --max-source-ranges",
            Self::Ranges(_) => "fewer and larger ServiceCIDRs fit",
        }
    }
}

/// Why an operation on a map failed.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// The map has no room; the objects concerned are not served, the others are (rule 95).
    #[error("map {table} is full")]
    Full {
        /// The map.
        table: Table,
    },
    /// The kernel refused.
    #[error("map {table}: {source}")]
    Io {
        /// The map.
        table: Table,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// A network whose clients a service port admits: a key of `SOURCES_V4` or `SOURCES_V6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceRange<A> {
    /// The service port and the network's first address.
    pub source: Source<A>,
    /// Number of bits that count, as the map has it: 32 more than the network's own prefix is long.
    pub prefix: u32,
}

impl<A> SourceRange<A> {
    /// The bits of [`Source::service`], which always count.
    pub const SERVICE_BITS: u32 = 32;
}

/// The end of the last range of slots that one of these refers to.
pub fn slots_end(frontends: impl Iterator<Item = Frontend>) -> u32 {
    let ends = frontends.flat_map(|value| {
        [
            value.slot_base.saturating_add(value.slot_count),
            value.inner_base.saturating_add(value.inner_count),
        ]
    });
    ends.max().unwrap_or(0)
}

/// Everything of one family that is in the maps now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyDump<A> {
    /// All frontends, in no particular order.
    pub frontends: Vec<(FrontendKey<A>, Frontend)>,
    /// The slots array, that is ids of endpoints, from 0 up to the end of the last range that a frontend
    /// refers to.
    pub slots: Vec<u32>,
    /// The endpoints array from 0 up to the last one that was ever used.
    pub endpoints: Vec<Endpoint<A>>,
    /// The ranges that are in use, in order.
    pub ranges: Vec<VipRange<A>>,
    /// All source ranges, in no particular order.
    pub sources: Vec<SourceRange<A>>,
}

/// The maps of one family.
pub trait FamilyMaps<A: Address> {
    /// Number of slots that exist.
    fn slot_capacity(&self) -> u32;
    /// Number of endpoints that exist, at most [`MAX_ENDPOINTS`](lb_common::tables::MAX_ENDPOINTS).
    fn endpoint_capacity(&self) -> u32;
    /// Number of source ranges that there can be.
    fn source_capacity(&self) -> u32;
    /// Writes ids of endpoints to the slots from `base` on.
    ///
    /// # Errors
    /// [`MapsError::Full`] if the range does not fit the array, else [`MapsError::Io`].
    fn write_slots(&mut self, base: u32, ids: &[u32]) -> Result<(), MapsError>;
    /// Writes many runs of slots, each given by its first slot; worth overriding where a batch is cheaper.
    ///
    /// # Errors
    /// Of the first that failed. Some may have been written; the caller repeats them one by one.
    fn write_slot_runs(&mut self, runs: &[(u32, &[u32])]) -> Result<(), MapsError> {
        runs.iter()
            .try_for_each(|(base, ids)| self.write_slots(*base, ids))
    }
    /// Writes endpoints, each to where its id says
    /// ([`endpoint_index`](lb_common::tables::endpoint_index)).
    ///
    /// # Errors
    /// [`MapsError::Full`] if one does not fit the array, else [`MapsError::Io`]. Some may have been
    /// written.
    fn put_endpoints(&mut self, endpoints: &[Endpoint<A>]) -> Result<(), MapsError>;
    /// Writes or replaces one frontend atomically.
    ///
    /// # Errors
    /// [`MapsError::Full`] if the key is new and the map has no room, else [`MapsError::Io`].
    /// Replacing never fails for want of room.
    fn put_frontend(&mut self, key: &FrontendKey<A>, value: &Frontend) -> Result<(), MapsError>;
    /// Writes or replaces many frontends, each atomically; worth overriding where a batch is cheaper.
    ///
    /// # Errors
    /// Of the first that failed. Some may have been written; the caller repeats them one by one.
    fn put_frontends(&mut self, entries: &[(FrontendKey<A>, Frontend)]) -> Result<(), MapsError> {
        entries
            .iter()
            .try_for_each(|(key, value)| self.put_frontend(key, value))
    }
    /// Removes one frontend; one that is not there is no error.
    ///
    /// # Errors
    /// [`MapsError::Io`].
    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), MapsError>;
    /// Makes `ranges` the ranges in use, in this order; what follows them is zero afterwards.
    ///
    /// A write to an array is not atomic: a packet could meet one range's address with another's mask. An
    /// entry that changes therefore goes through three writes: its flags become 0, which ends the search
    /// before it; then it gets its address and mask, still without flags; then its flags.
    ///
    /// # Errors
    /// [`MapsError::Full`] if there are more than
    /// [`VIP_RANGES`](lb_common::tables::VIP_RANGES), else [`MapsError::Io`].
    fn write_ranges(&mut self, ranges: &[VipRange<A>]) -> Result<(), MapsError>;
    /// Writes source ranges; one that is there already is no error.
    ///
    /// # Errors
    /// [`MapsError::Full`] if there is no room for all of them, else [`MapsError::Io`]. Some may have been
    /// written.
    fn put_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError>;
    /// Removes source ranges; one that is not there is no error.
    ///
    /// # Errors
    /// [`MapsError::Io`]. Some may have been removed.
    fn remove_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError>;
    /// Reads everything.
    ///
    /// # Errors
    /// [`MapsError::Io`].
    fn dump(&self) -> Result<FamilyDump<A>, MapsError>;
}

/// All maps the control plane owns.
pub trait Maps: FamilyMaps<lb_common::address::V4> + FamilyMaps<lb_common::address::V6> {
    /// Number of service ids that exist.
    fn service_capacity(&self) -> u32;
    /// Writes or replaces a service's record.
    ///
    /// # Errors
    /// [`MapsError::Full`] if the map has no room, else [`MapsError::Io`].
    fn put_service(&mut self, id: u32, record: &ServiceRecord) -> Result<(), MapsError>;
    /// Writes or replaces many records; worth overriding where a batch is cheaper.
    ///
    /// # Errors
    /// Of the first that failed. Some may have been written; the caller repeats them one by one.
    fn put_services(&mut self, records: &[(u32, ServiceRecord)]) -> Result<(), MapsError> {
        records
            .iter()
            .try_for_each(|(id, record)| self.put_service(*id, record))
    }
    /// Removes a service's record; one that is not there is no error.
    ///
    /// # Errors
    /// [`MapsError::Io`].
    fn remove_service(&mut self, id: u32) -> Result<(), MapsError>;
    /// Sets a service's traffic counters of both families to zero, so that a reused id starts afresh.
    ///
    /// # Errors
    /// [`MapsError::Io`].
    fn reset_traffic(&mut self, id: u32) -> Result<(), MapsError>;
    /// All records.
    ///
    /// # Errors
    /// [`MapsError::Io`].
    fn services(&self) -> Result<Vec<(u32, ServiceRecord)>, MapsError>;
}
