//! Which endpoints are near enough (rules 35 to 39).
//!
//! The controller that writes slices knows what users want (`trafficDistribution`) and says it in hints; here
//! they are followed only if all ready endpoints have them, since one without is one that the controller has
//! not taken into account yet.

use lb_common::address::Address;

use super::super::index::{Hint, KnownEndpoint};

/// How endpoints are chosen by where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology {
    /// Any will do.
    Anywhere,
    /// Those meant for our node.
    SameNode,
    /// Those meant for our zone.
    SameZone,
}

impl Topology {
    /// What the hints of the `ready` endpoints of a service port come to. Others have no say (rule 35), nor
    /// have those of other ports (rule 37).
    pub(super) fn of<'a, A: Address>(
        ready: impl Iterator<Item = &'a KnownEndpoint<A>> + Clone,
    ) -> Self {
        let applies = |hint: fn(&KnownEndpoint<A>) -> Hint| {
            ready.clone().all(|endpoint| hint(endpoint) != Hint::None)
                && ready.clone().any(|endpoint| hint(endpoint) == Hint::Here)
        };
        if applies(|endpoint| endpoint.for_nodes) {
            Self::SameNode
        } else if applies(|endpoint| endpoint.for_zones) {
            Self::SameZone
        } else {
            Self::Anywhere
        }
    }

    /// Whether `endpoint` is near enough.
    pub(super) fn admits<A: Address>(self, endpoint: &KnownEndpoint<A>) -> bool {
        match self {
            Self::Anywhere => true,
            Self::SameNode => endpoint.for_nodes == Hint::Here,
            Self::SameZone => endpoint.for_zones == Hint::Here,
        }
    }
}
