//! From what is in the maps to the planner's mirror of them.
//!
//! Done at every start and whenever an operation failed, so that a restart is nothing but a plan against
//! what is already there: for an unchanged world it has no step (rule 93). Nothing is removed here; what
//! belongs to no service is kept as such until the first complete plan (rule 92). The maps may hold
//! anything: what cannot be right owns nothing and is written anew by that plan.

mod endpoints;
mod slots;
mod sources;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use lb_common::{
    address::{Address, V4, V6},
    tables::ServiceRecord,
};

use self::{endpoints::restore_endpoints, slots::restore_slots, sources::restore_sources};
use super::{
    maps::{FamilyDump, FamilyMaps, Maps, MapsError},
    plan::{
        Claim, Entry, FamilyOp, FamilyPlanner, IdPool, Op, Planner, Pools, Port, RangePlanner,
        Served, SourcePool,
    },
    record::parse_record,
};
use crate::model::ObjectKey;

/// The service ports that the records name, by id.
type Ports = BTreeMap<u32, (Arc<ObjectKey>, ServiceRecord)>;

/// A mirror of what is in `maps`.
///
/// # Errors
/// [`MapsError::Io`] if they cannot be read.
pub fn restore_planner(maps: &impl Maps) -> Result<Planner, MapsError> {
    let records = maps.services()?;
    let capacity = maps.service_capacity();
    let ids = IdPool::new(capacity, records.iter().map(|(id, _)| *id));
    let (ports, orphans) = sort_records(records, capacity);
    let v4 = restore_family::<V4>(maps, &ports)?;
    let v6 = restore_family::<V6>(maps, &ports)?;
    let mut services: HashMap<_, Vec<Port>> = HashMap::new();
    for (id, (service, record)) in ports {
        services.entry(service).or_default().push(Port {
            id,
            record: record.into(),
        });
    }
    Ok(Planner::new(services, orphans, ids, v4, v6))
}

/// Tells the records that can be used from those that cannot: unreadable ones, ids out of bounds, and
/// all but the first of those for the same port.
fn sort_records(mut records: Vec<(u32, ServiceRecord)>, capacity: u32) -> (Ports, Vec<u32>) {
    records.sort_unstable_by_key(|(id, _)| *id);
    let mut services: HashMap<ObjectKey, Arc<ObjectKey>> = HashMap::new();
    let mut seen = HashMap::new();
    let (mut ports, mut orphans) = (Ports::new(), Vec::new());
    for (id, record) in records {
        let Ok(parsed) = parse_record(&record) else {
            orphans.push(id);
            continue;
        };
        let key = parsed.service.key;
        let key = services
            .entry(key.clone())
            .or_insert_with(|| Arc::new(key))
            .clone();
        let identity = (key.clone(), record.port_name, record.protocol);
        if id >= capacity || seen.insert(identity, id).is_some() {
            orphans.push(id);
        } else {
            ports.insert(id, (key, record));
        }
    }
    (ports, orphans)
}

fn restore_family<A: Address>(
    maps: &impl FamilyMaps<A>,
    ports: &Ports,
) -> Result<FamilyPlanner<A>, MapsError>
where
    Op: From<FamilyOp<A>>,
{
    let FamilyDump {
        frontends,
        slots,
        endpoints,
        ranges,
        sources,
    } = maps.dump()?;
    let (mut backings, endpoint_pool, orphans) =
        restore_endpoints(endpoints, maps.endpoint_capacity(), ports);
    let mut entries = HashMap::with_capacity(frontends.len());
    for (key, value) in &frontends {
        let service = ports.get(&value.service).map(|(service, _)| service);
        let mut entry = Entry::default();
        // It belongs to the service port that it says it belongs to.
        if let (Some(service), Some(backing)) = (service, backings.get_mut(&value.service)) {
            backing.frontends.push(*key);
            entry.claims.push(Claim::of(service, value));
        }
        entry.served = Some(Served {
            service: service.cloned(),
            value: *value,
        });
        entries.insert(*key, entry);
    }
    let (slot_pool, touched_ids) =
        restore_slots(&frontends, &slots, maps.slot_capacity(), &mut backings);
    let source_pool = SourcePool::new(maps.source_capacity(), sources.len());
    let stray_sources = restore_sources(sources, &mut backings);
    backings.retain(|_, backing| !backing.is_empty());
    let mut planner = FamilyPlanner::default();
    planner.entries = entries;
    planner.backings = backings.into_iter().collect();
    planner.pools = Pools {
        slots: slot_pool,
        endpoints: endpoint_pool,
        sources: source_pool,
    };
    planner.ranges = RangePlanner::restored(ranges);
    planner.orphans = orphans;
    planner.stray_sources = stray_sources;
    planner.touched_ids = touched_ids;
    Ok(planner)
}

#[cfg(test)]
mod tests;
