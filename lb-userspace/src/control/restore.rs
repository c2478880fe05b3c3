//! From what is in the maps to the planner's mirror of them.
//!
//! Done at every start and whenever an operation failed, so that a restart is nothing but a plan against
//! what is already there: for an unchanged world it has no step (rule 93). Nothing is removed here; what
//! belongs to no service is kept as such until the first complete plan (rule 92). The maps may hold
//! anything: what cannot be right owns nothing and is written anew by that plan.

mod ranges;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use lb_common::{
    address::{Address, V4, V6},
    tables::{Endpoint, ServiceRecord},
};

use self::ranges::sort_ranges;
use super::{
    maps::{FamilyDump, FamilyMaps, Maps, MapsError},
    plan::{
        Claim, Entry, FamilyOp, FamilyPlanner, IdPool, Op, Planner, Port, Served, SlotPool,
        SlotRange,
    },
    record::{find_frontend, parse_record},
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
    let FamilyDump { frontends, slots } = maps.dump()?;
    let capacity = maps.slot_capacity();
    let ranges = frontends
        .iter()
        .map(|(_, value)| (value.slot_base, value.slot_count));
    let limit = capacity.min(u32::try_from(slots.len()).unwrap_or(u32::MAX));
    let sorted = sort_ranges(ranges, limit);
    let used = sorted.sound.iter().chain(&sorted.damaged).copied();
    let mut used: Vec<_> = used.filter(|range| range.len > 0).collect();
    used.sort_unstable();
    let mut pool = SlotPool::new(capacity, used);
    // Nobody owns these, but packets go there till they are written anew elsewhere.
    for range in sorted.damaged {
        pool.release(range);
    }

    let mut entries = HashMap::with_capacity(frontends.len());
    for (key, value) in frontends {
        let port = ports.get(&value.service);
        let range = SlotRange {
            base: value.slot_base,
            len: value.slot_count,
        };
        let is_sound = range.len == 0 || sorted.sound.contains(&range);
        let endpoints = is_sound.then(|| endpoints_at(&slots, range));
        let mut entry = Entry::default();
        // What its record does not say is not the port's, though the frontend says so.
        let owner = port.filter(|(_, record)| find_frontend(record) == Some(key));
        entry.claims.extend(owner.map(|(service, _)| Claim {
            service: service.clone(),
            id: value.service,
            since: 0,
            endpoints: endpoints.clone().unwrap_or_default(),
        }));
        entry.served = Some(Served {
            service: port.map(|(service, _)| service.clone()),
            value,
            range: if is_sound {
                range
            } else {
                SlotRange::default()
            },
            endpoints,
        });
        entries.insert(key, entry);
    }
    Ok(FamilyPlanner::new(entries, pool))
}

fn endpoints_at<A: Address>(slots: &[Endpoint<A>], range: SlotRange) -> Arc<[Endpoint<A>]> {
    let slots = slots.iter().skip(range.base as usize);
    slots.take(range.len as usize).copied().collect()
}
