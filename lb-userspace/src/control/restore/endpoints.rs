//! Which endpoints are whose: those that are in use and whose service port has a record are that one's.
//!
//! All others are free, with the generation they last had. What looks in use all the same (nobody's, the
//! second of its kind, or an id in a place that is not its own) can only be damage; it is put right by
//! the first complete plan and rests till then.

use std::{collections::BTreeMap, sync::Arc};

use lb_common::{
    address::Address,
    tables::{Endpoint, endpoint_generation, endpoint_id, endpoint_index},
};

use super::Ports;
use crate::control::{
    desired::DesiredEndpoint,
    plan::{Backing, EndpointPool, place},
};

type Restored<A> = (BTreeMap<u32, Backing<A>>, EndpointPool, Vec<Endpoint<A>>);

/// A backing for each service port, the endpoints that can be given out, and what to write over those that
/// are damaged.
pub(super) fn restore_endpoints<A: Address>(
    mut dump: Vec<Endpoint<A>>,
    capacity: u32,
    ports: &Ports,
) -> Restored<A> {
    dump.truncate(capacity as usize);
    let mut generations = Vec::with_capacity(dump.len());
    let mut found: BTreeMap<u32, Vec<(DesiredEndpoint<A>, u32)>> = BTreeMap::new();
    let mut orphans = Vec::new();
    for (index, endpoint) in (0..).zip(&dump) {
        let generation = endpoint_generation(endpoint.id);
        let is_placed = generation != 0 && endpoint_index(endpoint.id) == index;
        if is_placed && endpoint.state != 0 && ports.contains_key(&endpoint.service) {
            let desired = DesiredEndpoint {
                addr: endpoint.addr,
                port: endpoint.port,
                state: endpoint.state,
            };
            let all = found.entry(endpoint.service).or_default();
            all.push((desired, endpoint.id));
        } else if endpoint.state != 0 || !is_placed && *endpoint != Endpoint::default() {
            orphans.push(Endpoint {
                id: endpoint_id(index, generation.max(1)),
                state: 0,
                ..*endpoint
            });
        }
        generations.push(generation);
    }
    let mut backings = BTreeMap::new();
    for (&id, (service, _)) in ports {
        let mut all = found.remove(&id).unwrap_or_default();
        all.sort_by_key(|(endpoint, id)| (place(endpoint), endpoint_index(*id)));
        all.dedup_by(|(second, of), (first, _)| {
            let is_second = place(second) == place(first);
            if is_second {
                orphans.push(Endpoint {
                    id: *of,
                    service: id,
                    addr: second.addr,
                    port: second.port,
                    state: 0,
                });
            }
            is_second
        });
        let mut backing = Backing::new(service.clone());
        backing.endpoints = all
            .iter()
            .map(|(endpoint, _)| *endpoint)
            .collect::<Arc<_>>();
        backing.ids = all.iter().map(|(_, id)| *id).collect();
        backings.insert(id, backing);
    }
    for orphan in &orphans {
        if let Some(generation) = generations.get_mut(endpoint_index(orphan.id) as usize) {
            *generation = endpoint_generation(orphan.id);
        }
    }
    let mut used = vec![false; generations.len()];
    let owned = backings.values().flat_map(|backing| &backing.ids).copied();
    for id in owned.chain(orphans.iter().map(|orphan| orphan.id)) {
        used[endpoint_index(id) as usize] = true;
    }
    let mut pool = EndpointPool::new(capacity, generations, |index| used[index as usize]);
    for orphan in &orphans {
        pool.release(orphan.id);
    }
    (backings, pool, orphans)
}
