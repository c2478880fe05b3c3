//! What the control plane could not do, as data: object, field, value and cause.
//!
//! A problem concerns one service and never stops the others (rule 95). It is not logged here: the
//! agent prints, counts and shows what [`SyncReport`](super::reconcile::SyncReport) carries.

use std::{fmt, sync::Arc};

use super::maps::Table;
use crate::model::ObjectKey;

/// One thing that is not served as its object says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The Service concerned; `None` when it concerns the maps as such or something no Service owns.
    pub service: Option<Arc<ObjectKey>>,
    /// The field of the Service, in the API's spelling, or the map.
    pub field: String,
    /// The field's value, or the entry of the map.
    pub value: String,
    /// What is wrong with it.
    pub cause: Cause,
}

/// Why something is not served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Another Service has claimed the same frontend more recently and is served in its place (rule 90).
    ClaimedBy(Arc<ObjectKey>),
    /// A map has no room for it (rule 95). It is tried again when room appears.
    NoRoom(Table),
    /// A name does not fit the record of a service.
    LongerThan(usize),
    /// The value cannot be what the field says.
    Invalid(&'static str),
    /// An operation on the maps failed; it is tried again after a while.
    Failed(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "service {service}: ")?;
        }
        write!(f, "{} {}: {}", self.field, self.value, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimedBy(other) => write!(f, "claimed by service {other}, which is newer"),
            Self::NoRoom(table) => write!(f, "no room in map {table}; {}", table.remedy()),
            Self::LongerThan(max) => write!(f, "longer than {max} bytes"),
            Self::Invalid(why) => f.write_str(why),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_object_field_and_value() {
        let problem = Problem {
            service: Some(ObjectKey::new("default", "web").into()),
            field: "spec.clusterIPs".into(),
            value: "10.96.0.1:80/TCP".into(),
            cause: Cause::ClaimedBy(ObjectKey::new("default", "new").into()),
        };
        assert_eq!(
            problem.to_string(),
            "service default/web: spec.clusterIPs 10.96.0.1:80/TCP: claimed by service default/new, \
             which is newer"
        );
    }
}
