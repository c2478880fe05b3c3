//! What is known of the cluster: takes events, says which Services they concern.
//!
//! It keeps only what is needed to serve and answers in time proportional to the change: an event names
//! the Services whose desired state may differ now (*dirty*) and nothing else is ever recomputed. Slices
//! of a Service that does not exist (yet) are kept. What is said of other nodes than its own is not
//! heard. It stands between the sources and `desired`.

mod own;
mod shared;
mod slices;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ipnet::IpNet;
use lb_common::address::{Family, V4, V6};

use self::{own::OwnAddresses, shared::PortLists};
pub(super) use self::{
    shared::Zones,
    slices::{Hint, KnownEndpoint, SliceSet},
};
use crate::{
    model::{EndpointSlice, Node, ObjectKey, Service, ServiceCidr},
    source::{Event, Kind},
};

/// Everything the source has said, compactly.
#[derive(Debug)]
pub struct Index {
    /// The node the agent runs on; empty: none.
    node_name: Box<str>,
    /// It, and the listing that last said so.
    node: Option<(Node, u32)>,
    entries: HashMap<Arc<ObjectKey>, Entry>,
    /// Which Service a slice is filed under, by namespace and name.
    slices: HashMap<Box<str>, HashMap<Arc<str>, Filed>>,
    service_cidrs: BTreeMap<String, (ServiceCidr, u32)>,
    own: OwnAddresses,
    zones: Zones,
    ports: PortLists,
    listings: [Listing; Kind::ALL.len()],
    /// Number of changes to what Services claim, see [`Entry::since`].
    changes: u64,
}

/// A Service, its slices, or both.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Boxed, since a map keeps room for entries to come.
    pub(super) service: Option<Box<Service>>,
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
    listing: u32,
    family: Family,
}

/// The listings of one kind of object.
#[derive(Clone, Copy, Debug, Default)]
struct Listing {
    /// Number of the one that is open or was the last; what an earlier one said is stale at its end.
    number: u32,
    /// Whether one has been completed.
    is_done: bool,
}

impl Index {
    /// Knows nothing yet. `node_name` is the node the agent runs on: what is local (rule 16) and meant for us
    /// (rule 35) goes by it; empty, nothing is.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            node: None,
            entries: HashMap::new(),
            slices: HashMap::new(),
            service_cidrs: BTreeMap::new(),
            own: OwnAddresses::default(),
            zones: Zones::default(),
            ports: PortLists::default(),
            listings: Default::default(),
            changes: 0,
        }
    }

    /// Takes in one event and returns the Services whose desired state may have changed.
    pub fn apply(&mut self, event: Event) -> Vec<Arc<ObjectKey>> {
        match event {
            Event::Init(kind) => {
                self.listings[kind as usize].number += 1;
                Vec::new()
            }
            Event::Keep(kind, key) => {
                self.keep(kind, &key);
                Vec::new()
            }
            Event::ApplyService(service) => Vec::from_iter(self.apply_service(service)),
            Event::DeleteService(key) => Vec::from_iter(self.delete_service(&key)),
            Event::ApplySlice(slice) => self.apply_slice(slice),
            Event::DeleteSlice(key) => Vec::from_iter(self.delete_slice(&key)),
            Event::ApplyNode(node) if *node.name == *self.node_name => self.set_node(Some(node)),
            Event::DeleteNode(name) if *name == *self.node_name => self.set_node(None),
            Event::ApplyNode(_) | Event::DeleteNode(_) => Vec::new(),
            Event::ApplyServiceCidr(cidr) => {
                let listing = self.number(Kind::ServiceCidrs);
                let name = cidr.name.clone();
                self.service_cidrs.insert(name, (cidr, listing));
                Vec::new()
            }
            Event::DeleteServiceCidr(name) => {
                self.service_cidrs.remove(&name);
                Vec::new()
            }
            Event::NodeAddresses(addresses) => {
                self.own.all = addresses;
                self.update_own()
            }
            Event::InitDone(kind) => {
                self.listings[kind as usize].is_done = true;
                self.delete_stale(kind)
            }
        }
    }

    /// Whether each kind of object has been listed once: before that nothing may be written (rule 5).
    pub fn is_complete(&self) -> bool {
        self.listings.iter().all(|listing| listing.is_done)
    }

    /// The Service of that name, if it exists.
    pub fn find_service(&self, key: &ObjectKey) -> Option<&Service> {
        self.entries.get(key)?.service.as_deref()
    }

    /// The names of all Services, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        let existing = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.service.is_some());
        existing.map(|(key, _)| key)
    }

    /// The node the agent runs on, once it is known.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref().map(|(node, _)| node)
    }

    /// The ranges of all ServiceCIDRs (rule 50), without host bits, sorted, each once.
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        let cidrs = self.service_cidrs.values();
        let mut nets: Vec<IpNet> = cidrs
            .flat_map(|(cidr, _)| cidr.cidrs.iter().map(IpNet::trunc))
            .collect();
        nets.sort();
        nets.dedup();
        nets
    }

    pub(super) fn find(&self, key: &ObjectKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// What zone hints mean here and now.
    pub(super) fn zones(&self) -> &Zones {
        &self.zones
    }

    fn number(&self, kind: Kind) -> u32 {
        self.listings[kind as usize].number
    }

    /// Only the zone concerns all Services (rule 4), and the addresses those with node ports.
    fn set_node(&mut self, node: Option<Node>) -> Vec<Arc<ObjectKey>> {
        let listing = self.number(Kind::Nodes);
        self.node = node.map(|node| (node, listing));
        let zone = self
            .node
            .as_ref()
            .and_then(|(node, _)| node.zone.as_deref());
        let is_moved = self.zones.set_own(zone);
        let dirty = self.update_own();
        if is_moved {
            self.services().cloned().collect()
        } else {
            dirty
        }
    }

    fn apply_service(&mut self, service: Service) -> Option<Arc<ObjectKey>> {
        let key = self.ensure_entry(&service.key);
        let (listing, is_complete) = (self.number(Kind::Services), self.is_complete());
        let entry = self.entries.get_mut(&key)?;
        entry.listing = listing;
        match entry.service.as_deref() {
            Some(known) if *known == service => return None,
            Some(known) if claims(known) == claims(&service) => {}
            _ if !is_complete => {}
            _ => {
                self.changes += 1;
                entry.since = self.changes;
            }
        }
        entry.service = Some(Box::new(service));
        Some(key)
    }

    fn delete_service(&mut self, key: &ObjectKey) -> Option<Arc<ObjectKey>> {
        self.entries.get_mut(key)?.service.take()?;
        self.drop_if_empty(key)
    }

    fn apply_slice(&mut self, slice: EndpointSlice) -> Vec<Arc<ObjectKey>> {
        let service = ObjectKey::new(&*slice.key.namespace, &*slice.service);
        let mut dirty = Vec::new();
        // A slice that moved to another Service or family is another slice.
        let moved = |filed: &Filed| *filed.service != service || filed.family != slice.family;
        if self.find_filed(&slice.key).is_some_and(moved) {
            dirty.extend(self.delete_slice(&slice.key));
        }
        let service = self.ensure_entry(&service);
        let name = self.file(&slice.key, &service, slice.family);
        if self.zones.is_full() {
            self.collect_zones();
        }
        let Some(entry) = self.entries.get_mut(&service) else {
            return dirty;
        };
        let (family, ports) = (slice.family, self.ports.share(slice.ports));
        let (endpoints, node, zones) = (slice.endpoints, &*self.node_name, &mut self.zones);
        let changed = match family {
            Family::V4 => entry.v4.put(name, ports, endpoints, node, zones),
            Family::V6 => entry.v6.put(name, ports, endpoints, node, zones),
        };
        if changed && !dirty.contains(&service) {
            dirty.push(service);
        }
        dirty
    }

    fn delete_slice(&mut self, key: &ObjectKey) -> Option<Arc<ObjectKey>> {
        let of_namespace = self.slices.get_mut(&*key.namespace)?;
        let filed = of_namespace.remove(&*key.name)?;
        if of_namespace.is_empty() {
            self.slices.remove(&*key.namespace);
        }
        let entry = self.entries.get_mut(&filed.service)?;
        match filed.family {
            Family::V4 => entry.v4.remove(&key.name),
            Family::V6 => entry.v6.remove(&key.name),
        }
        self.drop_if_empty(&filed.service)
    }

    fn find_filed(&self, key: &ObjectKey) -> Option<&Filed> {
        self.slices.get(&*key.namespace)?.get(&*key.name)
    }

    /// Notes whose the slice `key` is; its name, to be shared.
    fn file(&mut self, key: &ObjectKey, service: &Arc<ObjectKey>, family: Family) -> Arc<str> {
        let filed = Filed {
            service: service.clone(),
            listing: self.number(Kind::Slices),
            family,
        };
        if !self.slices.contains_key(&*key.namespace) {
            self.slices
                .insert(key.namespace.as_str().into(), HashMap::new());
        }
        let of_namespace = self.slices.get_mut(&*key.namespace);
        let of_namespace = of_namespace.expect("it is there or has just been put there");
        let known = of_namespace.get_key_value(&*key.name);
        let name = known.map_or_else(|| key.name.as_str().into(), |(name, _)| name.clone());
        of_namespace.insert(name.clone(), filed);
        name
    }

    /// Forgets zone sets that no endpoint has any more.
    fn collect_zones(&mut self) {
        let entries = self.entries.values();
        let used = entries.flat_map(|entry| entry.v4.zones().chain(entry.v6.zones()));
        self.zones.keep(used);
    }

    /// What is known of that object, if it is known, does not end with the listing.
    fn keep(&mut self, kind: Kind, key: &ObjectKey) {
        let number = self.number(kind);
        let listing = match kind {
            Kind::Services => self.entries.get_mut(key).map(|entry| &mut entry.listing),
            Kind::Slices => {
                let of_namespace = self.slices.get_mut(&*key.namespace);
                let filed = of_namespace.and_then(|slices| slices.get_mut(&*key.name));
                filed.map(|filed| &mut filed.listing)
            }
            Kind::Nodes => self.node.as_mut().map(|(_, listing)| listing),
            Kind::ServiceCidrs => {
                let cidr = self.service_cidrs.get_mut(&key.name);
                cidr.map(|(_, listing)| listing)
            }
        };
        if let Some(listing) = listing {
            *listing = number;
        }
    }

    /// Deletes what of that kind was not said again since its listing began.
    fn delete_stale(&mut self, kind: Kind) -> Vec<Arc<ObjectKey>> {
        let number = self.number(kind);
        match kind {
            Kind::Services => {
                let stale = |(_, entry): &(_, &Entry)| entry.listing != number;
                let stale = self.entries.iter().filter(stale);
                let stale: Vec<_> = stale.map(|(key, _)| key.clone()).collect();
                let gone = stale.iter().filter_map(|key| self.delete_service(key));
                gone.collect()
            }
            Kind::Slices => {
                let mut stale = Vec::new();
                for (namespace, slices) in &self.slices {
                    let old = slices.iter().filter(|(_, filed)| filed.listing != number);
                    stale.extend(old.map(|(name, _)| ObjectKey::new(&**namespace, &**name)));
                }
                let dirty = stale.iter().filter_map(|key| self.delete_slice(key));
                let mut dirty: Vec<_> = dirty.collect();
                dirty.sort();
                dirty.dedup();
                dirty
            }
            Kind::Nodes => match &self.node {
                Some((_, listing)) if *listing != number => self.set_node(None),
                _ => Vec::new(),
            },
            Kind::ServiceCidrs => {
                self.service_cidrs
                    .retain(|_, (_, listing)| *listing == number);
                Vec::new()
            }
        }
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

/// What of a Service another one may want as well (rule 90).
fn claims(service: &Service) -> impl PartialEq + '_ {
    (
        &service.cluster_ips,
        &service.ports,
        &service.external_ips,
        &service.load_balancer_ips,
    )
}

#[cfg(test)]
mod tests;
