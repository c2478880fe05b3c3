//! Where objects come from. Every source speaks one contract, [`Event`], over a channel.
//!
//! `Init` opens a complete listing, `InitDone` closes it: what was known before and is not applied in
//! between is gone. Nothing is written to the maps before the first `InitDone` (rule 5).

pub mod manifests;
pub mod objects;

use crate::model::{EndpointSlice, ObjectKey, Service};

/// What a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A complete listing begins.
    Init,
    /// The object exists and looks like this.
    ApplyService(Service),
    /// The Service is gone.
    DeleteService(ObjectKey),
    /// The slice exists and looks like this.
    ApplySlice(EndpointSlice),
    /// The slice is gone.
    DeleteSlice(ObjectKey),
    /// The listing that `Init` opened is complete.
    InitDone,
}
