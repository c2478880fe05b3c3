//! The one service that keeps its endpoints when they are taken away: `default/kubernetes` (rule 94).
//!
//! An agent that reaches the API server through its own datapath would saw off the branch it sits on:
//! with the last endpoint gone, nobody could tell it of the next one.

use std::sync::Arc;

use lb_common::tables::Endpoint;

use crate::{control::desired::DesiredEndpoint, model::ObjectKey};

/// The endpoints that `service` is to have: those that are `wanted`, or those `in_force` where the wanted
/// ones are no use to anybody, the ones in force are, and it is the API server's own Service.
pub(super) fn keep_last_known<A>(
    service: &ObjectKey,
    in_force: &Arc<[DesiredEndpoint<A>]>,
    wanted: &Arc<[DesiredEndpoint<A>]>,
) -> Arc<[DesiredEndpoint<A>]> {
    let is_usable = |endpoints: &[DesiredEndpoint<A>]| {
        let usable = Endpoint::<A>::CLUSTER | Endpoint::<A>::LOCAL;
        endpoints
            .iter()
            .any(|endpoint| endpoint.state & usable != 0)
    };
    let is_api_server = service.namespace == "default" && service.name == "kubernetes";
    let keeps = is_api_server && is_usable(in_force) && !is_usable(wanted);
    if keeps { in_force } else { wanted }.clone()
}

#[cfg(test)]
mod tests {
    use lb_common::address::V4;

    use super::*;

    fn list(endpoints: &[(u32, u16)]) -> Arc<[DesiredEndpoint<V4>]> {
        let endpoint = |(addr, state): &(u32, u16)| DesiredEndpoint {
            addr: V4(*addr),
            port: 80,
            state: *state,
        };
        endpoints.iter().map(endpoint).collect()
    }

    #[test]
    fn the_api_server_keeps_its_last_usable_endpoints_and_nobody_else_does() {
        let usable = list(&[(1, Endpoint::<V4>::KNOWN | Endpoint::<V4>::CLUSTER)]);
        let useless = list(&[(2, Endpoint::<V4>::KNOWN)]);
        let other = list(&[(3, Endpoint::<V4>::KNOWN | Endpoint::<V4>::LOCAL)]);
        let api = ObjectKey::new("default", "kubernetes");
        for (wanted, expected) in [(&list(&[]), &usable), (&useless, &usable), (&other, &other)] {
            assert_eq!(keep_last_known(&api, &usable, wanted), *expected);
        }
        assert_eq!(keep_last_known(&api, &useless, &list(&[])), list(&[]));
        for other in [
            ObjectKey::new("default", "web"),
            ObjectKey::new("prod", "kubernetes"),
        ] {
            assert_eq!(keep_last_known(&other, &usable, &list(&[])), list(&[]));
        }
    }
}
