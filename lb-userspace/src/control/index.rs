//! What is known of Services and EndpointSlices: takes events, says which Services they concern.
//!
//! It keeps only what is needed to serve and answers in time proportional to the change: an event names
//! the Services whose desired state may differ now (*dirty*) and nothing else is ever recomputed. Slices
//! of a Service that does not exist (yet) are kept. It stands between the sources and `desired`.

mod slices;

use std::{collections::HashMap, sync::Arc};

use ipnet::IpNet;
use lb_common::address::{Family, V4, V6};

pub(super) use self::slices::{SliceSet, StoredSlice};
use crate::{
    model::{EndpointSlice, ObjectKey, Service},
    source::{Event, Kind},
};

/// Everything the source has said, compactly.
#[derive(Debug, Default)]
pub struct Index {
    entries: HashMap<Arc<ObjectKey>, Entry>,
    /// Which Service a slice is filed under.
    slices: HashMap<ObjectKey, Filed>,
    /// Number of the listing that is open or was the last; what an earlier one said is stale at its end.
    listing: u32,
    complete: bool,
    /// Number of changes to what Services claim, see [`Entry::since`].
    changes: u64,
}

/// A Service, its slices, or both.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) service: Option<Service>,
    /// When the Service last changed what it claims (addresses and ports), as a running number; 0 for
    /// what the first listing said. The newer of two claims wins (rule 90).
    pub(super) since: u64,
    pub(super) v4: SliceSet<V4>,
    pub(super) v6: SliceSet<V6>,
    listing: u32,
}

#[derive(Debug)]
struct Filed {
    service: Arc<ObjectKey>,
    family: Family,
    listing: u32,
}

impl Index {
    /// An index of what concerns the node of that name; nothing is known yet.
    pub fn new(_node_name: &str) -> Self {
        Self::default()
    }

    /// All ranges of all ServiceCIDRs, sorted, each once.
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        Vec::new()
    }

    /// Takes in one event and returns the Services whose desired state may have changed.
    pub fn apply(&mut self, event: Event) -> Vec<Arc<ObjectKey>> {
        match event {
            Event::Init(Kind::Services) => {
                self.listing += 1;
                Vec::new()
            }
            Event::Init(_) => Vec::new(),
            Event::ApplyService(service) => Vec::from_iter(self.apply_service(service)),
            Event::DeleteService(key) => Vec::from_iter(self.delete_service(&key)),
            Event::ApplySlice(slice) => self.apply_slice(slice),
            Event::DeleteSlice(key) => Vec::from_iter(self.delete_slice(&key)),
            Event::InitDone(Kind::ServiceCidrs) => {
                self.complete = true;
                self.delete_stale()
            }
            Event::InitDone(_)
            | Event::ApplyNode(_)
            | Event::DeleteNode(_)
            | Event::ApplyServiceCidr(_)
            | Event::DeleteServiceCidr(_) => Vec::new(),
        }
    }

    /// Whether a listing has been completed: before that nothing may be written (rule 5).
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The Service of that name, if it exists.
    pub fn find_service(&self, key: &ObjectKey) -> Option<&Service> {
        self.entries.get(key)?.service.as_ref()
    }

    /// The names of all Services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        let existing = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.service.is_some());
        existing.map(|(key, _)| key)
    }

    pub(super) fn find(&self, key: &ObjectKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    fn apply_service(&mut self, service: Service) -> Option<Arc<ObjectKey>> {
        let key = self.ensure_entry(&service.key);
        let entry = self.entries.get_mut(&key)?;
        entry.listing = self.listing;
        let claims = |service: &Service| (service.cluster_ips.clone(), service.ports.clone());
        match &entry.service {
            Some(known) if *known == service => return None,
            Some(known) if claims(known) == claims(&service) => {}
            _ if !self.complete => {}
            _ => {
                self.changes += 1;
                entry.since = self.changes;
            }
        }
        entry.service = Some(service);
        Some(key)
    }

    fn delete_service(&mut self, key: &ObjectKey) -> Option<Arc<ObjectKey>> {
        self.entries.get_mut(key)?.service.take()?;
        self.drop_if_empty(key)
    }

    fn apply_slice(&mut self, slice: EndpointSlice) -> Vec<Arc<ObjectKey>> {
        let service = ObjectKey::new(slice.key.namespace.clone(), slice.service.clone());
        let mut dirty = Vec::new();
        // A slice that moved to another Service or family is another slice.
        let moved = |filed: &Filed| *filed.service != service || filed.family != slice.family;
        if self.slices.get(&slice.key).is_some_and(moved) {
            dirty.extend(self.delete_slice(&slice.key));
        }
        let service = self.ensure_entry(&service);
        let (family, listing) = (slice.family, self.listing);
        let filed = Filed {
            service: service.clone(),
            family,
            listing,
        };
        if let Some(known) = self.slices.get_mut(&slice.key) {
            *known = filed;
        } else {
            self.slices.insert(slice.key.clone(), filed);
        }
        let changed = self
            .entries
            .get_mut(&service)
            .is_some_and(|entry| match family {
                Family::V4 => entry.v4.put(StoredSlice::new(slice)),
                Family::V6 => entry.v6.put(StoredSlice::new(slice)),
            });
        if changed && !dirty.contains(&service) {
            dirty.push(service);
        }
        dirty
    }

    fn delete_slice(&mut self, key: &ObjectKey) -> Option<Arc<ObjectKey>> {
        let Filed {
            service, family, ..
        } = self.slices.remove(key)?;
        let entry = self.entries.get_mut(&service)?;
        match family {
            Family::V4 => entry.v4.remove(&key.name),
            Family::V6 => entry.v6.remove(&key.name),
        }
        self.drop_if_empty(&service)
    }

    /// Deletes what was not said again since the last [`Event::Init`].
    fn delete_stale(&mut self) -> Vec<Arc<ObjectKey>> {
        let listing = self.listing;
        let stale = self
            .slices
            .iter()
            .filter(|(_, filed)| filed.listing != listing);
        let slices: Vec<_> = stale.map(|(key, _)| key.clone()).collect();
        let stale = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.listing != listing);
        let services: Vec<_> = stale.map(|(key, _)| key.clone()).collect();
        let mut dirty: Vec<_> = slices
            .iter()
            .filter_map(|key| self.delete_slice(key))
            .collect();
        dirty.extend(services.iter().filter_map(|key| self.delete_service(key)));
        dirty.sort();
        dirty.dedup();
        dirty
    }

    /// The shared key of the entry for `key`, which exists from now on.
    fn ensure_entry(&mut self, key: &ObjectKey) -> Arc<ObjectKey> {
        if let Some((known, _)) = self.entries.get_key_value(key) {
            return known.clone();
        }
        let key = Arc::new(key.clone());
        self.entries.insert(key.clone(), Entry::default());
        key
    }

    /// Forgets the entry if it holds nothing any more; its shared key either way.
    fn drop_if_empty(&mut self, key: &ObjectKey) -> Option<Arc<ObjectKey>> {
        let (shared, entry) = self.entries.get_key_value(key)?;
        let shared = shared.clone();
        if entry.service.is_none() && entry.v4.is_empty() && entry.v6.is_empty() {
            self.entries.remove(key);
        }
        Some(shared)
    }
}

#[cfg(test)]
mod tests;
