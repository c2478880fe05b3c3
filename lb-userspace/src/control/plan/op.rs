//! Operations on the maps as plain data, and the order in which they are safe.

use std::sync::Arc;

use lb_common::{
    address::{Address, V4, V6},
    tables::{Endpoint, Frontend, FrontendKey, ServiceRecord},
};

use crate::{control::record::frontend_name, model::ObjectKey};

/// One operation on the maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Set the traffic counters of the id to zero: its last owner's are none of the next one's.
    ResetTraffic,
    /// Write or replace the record of the id.
    PutService(Arc<ServiceRecord>),
    /// On IPv4 maps.
    V4(FamilyOp<V4>),
    /// On IPv6 maps.
    V6(FamilyOp<V6>),
    /// Remove the record of the id.
    RemoveService,
}

/// One operation on the maps of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyOp<A> {
    /// Write slots that no frontend in force refers to.
    WriteSlots {
        /// The first one.
        base: u32,
        /// What to write there, in order.
        endpoints: Arc<[Endpoint<A>]>,
    },
    /// Write or replace a frontend.
    PutFrontend {
        /// What clients address.
        key: FrontendKey<A>,
        /// What happens to them.
        value: Frontend,
    },
    /// Remove a frontend.
    RemoveFrontend {
        /// What clients address.
        key: FrontendKey<A>,
    },
}

/// An operation and on whose behalf it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Id of the service port.
    pub id: u32,
    /// The Service it belongs to; `None` for what was found in the maps and belongs to none.
    pub service: Option<Arc<ObjectKey>>,
    /// What to do.
    pub op: Op,
}

/// What to do, in order.
///
/// Counters, then records, then slots, then frontends put, then frontends removed, then records removed
/// (rule 91): at any moment each frontend leads to written slots and a record, and a frontend that
/// changes hands is replaced and never missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    steps: Vec<Step>,
}

impl Plan {
    pub(in super::super) fn push(&mut self, id: u32, service: Option<&Arc<ObjectKey>>, op: Op) {
        self.steps.push(Step {
            id,
            service: service.cloned(),
            op,
        });
    }

    /// The plan with its steps in the order in which they are safe.
    pub(in super::super) fn ordered(mut self) -> Self {
        self.steps.sort_by_key(|step| step.op.phase());
        self
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Op {
    /// The frontend it is about, as users write it, if it is about one.
    pub fn find_frontend_name(&self) -> Option<String> {
        fn of<A: Address>(op: &FamilyOp<A>) -> Option<String> {
            match op {
                FamilyOp::WriteSlots { .. } => None,
                FamilyOp::PutFrontend { key, .. } | FamilyOp::RemoveFrontend { key } => {
                    Some(frontend_name(key))
                }
            }
        }
        match self {
            Self::V4(op) => of(op),
            Self::V6(op) => of(op),
            Self::ResetTraffic | Self::PutService(_) | Self::RemoveService => None,
        }
    }

    /// Place in the order; equal for operations of one kind on one map. Sorting by it is stable, which
    /// keeps the slots of each family in ascending order on a cold start.
    pub(in super::super) fn phase(&self) -> (u8, u8) {
        fn of<A>(op: &FamilyOp<A>) -> u8 {
            match op {
                FamilyOp::WriteSlots { .. } => 2,
                FamilyOp::PutFrontend { .. } => 3,
                FamilyOp::RemoveFrontend { .. } => 4,
            }
        }
        match self {
            Self::ResetTraffic => (0, 0),
            Self::PutService(_) => (1, 0),
            Self::V4(op) => (of(op), 4),
            Self::V6(op) => (of(op), 6),
            Self::RemoveService => (5, 0),
        }
    }
}

impl From<FamilyOp<V4>> for Op {
    fn from(op: FamilyOp<V4>) -> Self {
        Self::V4(op)
    }
}

impl From<FamilyOp<V6>> for Op {
    fn from(op: FamilyOp<V6>) -> Self {
        Self::V6(op)
    }
}
