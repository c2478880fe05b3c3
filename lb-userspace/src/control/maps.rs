//! The door to the kernel's maps: the only way the control plane reads or writes them.

use lb_common::{
    address::{Address, Family},
    tables::{Endpoint, Frontend, FrontendKey, ServiceRecord},
};

/// Which map an operation was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `FRONTENDS_V4` or `FRONTENDS_V6`.
    Frontends(Family),
    /// `SLOTS_V4` or `SLOTS_V6`.
    Slots(Family),
    /// `SERVICES`.
    Services,
    /// `TRAFFIC`.
    Traffic,
}

/// Why an operation on a map failed.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// The map has no room; the objects concerned are not served, the others are (rule 95).
    #[error("map {table:?} is full")]
    Full {
        /// The map.
        table: Table,
    },
    /// The kernel refused.
    #[error("map {table:?}: {source}")]
    Io {
        /// The map.
        table: Table,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Everything of one family that is in the maps now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FamilyDump<A> {
    /// All frontends, in no particular order.
    pub frontends: Vec<(FrontendKey<A>, Frontend)>,
    /// The slots array from 0 up to the end of the last range that a frontend refers to.
    pub slots: Vec<Endpoint<A>>,
}

/// The maps of one family.
pub trait FamilyMaps<A: Address> {
    /// Number of slots that exist.
    fn slot_capacity(&self) -> u32;
    /// Writes `endpoints` to the slots from `base` on.
    ///
    /// # Errors
    /// [`MapsError::Full`] if the range does not fit the array, else [`MapsError::Io`].
    fn write_slots(&mut self, base: u32, endpoints: &[Endpoint<A>]) -> Result<(), MapsError>;
    /// Writes or replaces one frontend atomically.
    ///
    /// # Errors
    /// [`MapsError::Full`] if the map has no room, else [`MapsError::Io`].
    fn put_frontend(&mut self, key: &FrontendKey<A>, value: &Frontend) -> Result<(), MapsError>;
    /// Removes one frontend; one that is not there is no error.
    ///
    /// # Errors
    /// [`MapsError::Io`].
    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), MapsError>;
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
