//! Operations on the maps as plain data, and the order in which they are safe.

use std::sync::Arc;

use lb_common::{
    address::{Address, V4, V6},
    tables::{Endpoint, Frontend, FrontendKey, ServiceRecord, VipRange},
};

use crate::{
    control::{
        maps::{SourceRange, Table},
        record::frontend_name,
    },
    model::ObjectKey,
};

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

/// One operation on the maps of one family, in the order in which they are safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyOp<A> {
    /// Write endpoints that are new, or with which more may be done than before.
    RaiseEndpoints(Vec<Endpoint<A>>),
    /// Write slots that no frontend in force refers to.
    WriteSlots {
        /// The first one.
        base: u32,
        /// Ids of endpoints to write there, in order.
        ids: Vec<u32>,
    },
    /// Write source ranges of a service port.
    PutSources(Vec<SourceRange<A>>),
    /// Write or replace a frontend.
    PutFrontend {
        /// What clients address.
        key: FrontendKey<A>,
        /// What happens to them.
        value: Frontend,
        /// Id of the service port that the frontend leads to so far, if it is in the map. Should this
        /// fail, it still does.
        before: Option<u32>,
    },
    /// Make these the ranges in use.
    WriteRanges(Vec<VipRange<A>>),
    /// Remove a frontend.
    RemoveFrontend {
        /// What clients address.
        key: FrontendKey<A>,
    },
    /// Remove source ranges that no frontend in force needs.
    RemoveSources(Vec<SourceRange<A>>),
    /// Write endpoints that are gone, or with which less may be done than before.
    LowerEndpoints(Vec<Endpoint<A>>),
}

/// An operation and on whose behalf it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Id of the service port; [`Step::NO_PORT`] for what belongs to none.
    pub id: u32,
    /// The Service it belongs to; `None` for what was found in the maps and belongs to none.
    pub service: Option<Arc<ObjectKey>>,
    /// What to do.
    pub op: Op,
}

impl Step {
    /// The [`Step::id`] of what belongs to no service port.
    pub const NO_PORT: u32 = u32::MAX;

    /// What it is about, as a field and its value.
    pub fn subject(&self) -> (&'static str, String) {
        fn of<A: Address>(op: &FamilyOp<A>) -> Option<(&'static str, String)> {
            match op {
                FamilyOp::PutFrontend { key, .. } | FamilyOp::RemoveFrontend { key } => {
                    Some(("frontend", frontend_name(key)))
                }
                FamilyOp::WriteRanges(_) => Some(("map", Table::Ranges(A::FAMILY).to_string())),
                FamilyOp::PutSources(_) | FamilyOp::RemoveSources(_) => {
                    Some(("map", Table::Sources(A::FAMILY).to_string()))
                }
                FamilyOp::RaiseEndpoints(_)
                | FamilyOp::WriteSlots { .. }
                | FamilyOp::LowerEndpoints(_) => None,
            }
        }
        let subject = match &self.op {
            Op::V4(op) => of(op),
            Op::V6(op) => of(op),
            Op::ResetTraffic | Op::PutService(_) | Op::RemoveService => None,
        };
        subject.unwrap_or_else(|| ("service id", self.id.to_string()))
    }
}

/// What to do, in order.
///
/// Counters, then records, then endpoints that are new or gain something, then slots, then source ranges put, then
/// frontends put, then ranges, then frontends removed, then source ranges removed, then endpoints that lose
/// something or are gone, then records removed (rule 91). At any moment, and so wherever it is cut off, each frontend leads to written slots
/// that lead to endpoints which may be used for it, and to a record; a frontend that changes hands is
/// replaced and never missing; a frontend that admits some clients only admits them; and no range is there before the marks of the VIPs in it.
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
        // Where room is short, frontends go before the marks of VIPs.
        self.steps
            .sort_by_key(|step| (step.op.phase(), step.op.is_about_mark()));
        self
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Op {
    /// The service port that goes on being used if this is not done.
    pub(in super::super) fn relies_on(&self) -> Option<u32> {
        match self {
            Self::V4(FamilyOp::PutFrontend { before, .. })
            | Self::V6(FamilyOp::PutFrontend { before, .. }) => *before,
            _ => None,
        }
    }

    /// Whether an endpoint ceases to serve by it, or a frontend to lead to its service port.
    pub(in super::super) fn leaves_somebody(&self) -> bool {
        fn of<A: Address>(op: &FamilyOp<A>) -> bool {
            match op {
                FamilyOp::LowerEndpoints(endpoints) => endpoints
                    .iter()
                    .any(|endpoint| endpoint.state & Endpoint::<A>::SERVING == 0),
                FamilyOp::PutFrontend { value, before, .. } => {
                    before.is_some_and(|before| before != value.service)
                }
                FamilyOp::RemoveFrontend { .. } => true,
                FamilyOp::RaiseEndpoints(_)
                | FamilyOp::WriteSlots { .. }
                | FamilyOp::WriteRanges(_)
                | FamilyOp::PutSources(_)
                | FamilyOp::RemoveSources(_) => false,
            }
        }
        match self {
            Self::V4(op) => of(op),
            Self::V6(op) => of(op),
            Self::ResetTraffic | Self::PutService(_) | Self::RemoveService => false,
        }
    }

    fn is_about_mark(&self) -> bool {
        fn of<A: Address>(op: &FamilyOp<A>) -> bool {
            matches!(op, FamilyOp::PutFrontend { key, .. } if key.is_mark())
        }
        match self {
            Self::V4(op) => of(op),
            Self::V6(op) => of(op),
            _ => false,
        }
    }

    /// Place in the order; equal for operations of one kind on one map. Sorting by it is stable, which
    /// keeps the slots of each family in ascending order on a cold start.
    pub(in super::super) fn phase(&self) -> (u8, u8) {
        fn of<A>(op: &FamilyOp<A>) -> u8 {
            match op {
                FamilyOp::RaiseEndpoints(_) => 2,
                FamilyOp::WriteSlots { .. } => 3,
                FamilyOp::PutSources(_) => 4,
                FamilyOp::PutFrontend { .. } => 5,
                FamilyOp::WriteRanges(_) => 6,
                FamilyOp::RemoveFrontend { .. } => 7,
                FamilyOp::RemoveSources(_) => 8,
                FamilyOp::LowerEndpoints(_) => 9,
            }
        }
        match self {
            Self::ResetTraffic => (0, 0),
            Self::PutService(_) => (1, 0),
            Self::V4(op) => (of(op), 4),
            Self::V6(op) => (of(op), 6),
            Self::RemoveService => (10, 0),
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
