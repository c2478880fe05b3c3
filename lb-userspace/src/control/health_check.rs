//! What the health check of a Service says: whether this node has an endpoint for it (rule 83).
//!
//! Load balancers ask it to learn which nodes to send clients to. Pure: the agent listens, this counts.
//! Ready endpoints only: one that terminates is still sent traffic, but no new clients (KEP-3836).

use std::collections::BTreeSet;

use lb_common::address::{Address, Family, V4, V6};

use super::index::{Index, SliceSet};
use crate::model::ObjectKey;

/// The health check of one Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// `healthCheckNodePort`, host byte order.
    pub port: u16,
    /// Ready endpoints on this node for IPv4 and for IPv6, each address once; `None` where the Service has no
    /// address of that family (rule 22).
    pub local: [Option<usize>; 2],
}

/// The health check of the Service `key`, if it needs one (rule 27).
pub fn find_health_check(index: &Index, key: &ObjectKey) -> Option<HealthCheck> {
    let entry = index.find(key)?;
    let service = entry.service.as_ref()?;
    let port = service.health_check_node_port?;
    let has = |family| {
        service
            .cluster_ips
            .iter()
            .any(|ip| Family::of(ip) == family)
    };
    let v4 = has(Family::V4).then(|| local_ready::<V4>(index, &entry.v4));
    let v6 = has(Family::V6).then(|| local_ready::<V6>(index, &entry.v6));
    Some(HealthCheck {
        port,
        local: [v4, v6],
    })
}

/// Addresses of ready endpoints on this node, whatever their ports.
fn local_ready<A: Address>(index: &Index, slices: &SliceSet<A>) -> usize {
    let endpoints = slices
        .iter()
        .filter(|slice| !slice.ports().is_empty())
        .flat_map(|slice| slice.endpoints(index.zones()));
    let ready = endpoints.filter(|endpoint| endpoint.is_local && endpoint.conditions.ready);
    ready
        .map(|endpoint| endpoint.address)
        .collect::<BTreeSet<_>>()
        .len()
}
