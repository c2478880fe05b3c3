//! EndpointSlices as the index keeps them: 8 bytes for an IPv4 endpoint, 20 for an IPv6 one.
//!
//! A cluster has many more endpoints than anything else, so this is what the agent's memory goes into. Of the
//! node's name one bit is kept, whether it is ours (rule 16), of hints for nodes two (rule 35); hints for
//! zones are the number of a set of zones, since our own zone may change. A slice of 100 endpoints costs
//! some 100 bytes besides them, 30 to 60 of which are its name.

use std::sync::Arc;

use lb_common::address::Address;

use super::shared::Zones;
use crate::model::{Conditions, SliceEndpoint, SlicePort};

/// The slices of one Service in one family, in the order of their names.
#[derive(Debug)]
pub(in super::super) struct SliceSet<A>(Vec<StoredSlice<A>>);

/// A slice of family `A`.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct StoredSlice<A> {
    name: Arc<str>,
    ports: Arc<[SlicePort]>,
    endpoints: Box<[StoredEndpoint<A>]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoredEndpoint<A> {
    address: A,
    /// Number of the set of zones it is meant for.
    zones: u16,
    /// Bits below.
    flags: u8,
}

const _: () = assert!(size_of::<StoredEndpoint<lb_common::address::V4>>() == 8);
const _: () = assert!(size_of::<StoredEndpoint<lb_common::address::V6>>() == 20);

const READY: u8 = 1;
const SERVING: u8 = 2;
const TERMINATING: u8 = 4;
const LOCAL: u8 = 8;
/// It is meant for some nodes.
const FOR_NODES: u8 = 16;
/// It is meant for ours.
const FOR_OUR_NODE: u8 = 32;

/// What a hint of one kind, for nodes or for zones, says to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Hint {
    /// Nothing: there is none.
    None,
    /// It is meant for others.
    Elsewhere,
    /// It is meant for us, maybe among others.
    Here,
}

/// An endpoint as the rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct KnownEndpoint<A> {
    pub(in super::super) address: A,
    pub(in super::super) conditions: Conditions,
    /// Whether it is on our node (rule 16).
    pub(in super::super) is_local: bool,
    pub(in super::super) for_nodes: Hint,
    pub(in super::super) for_zones: Hint,
}

impl<A> Default for SliceSet<A> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<A: Address> SliceSet<A> {
    pub(in super::super) fn iter(&self) -> impl Iterator<Item = &StoredSlice<A>> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds or replaces the slice `name`; whether that changed anything. `node` is ours.
    ///
    /// Addresses of another family than `A` are left out: they have no place in a slice of this family
    /// (rule 14).
    pub(super) fn put(
        &mut self,
        name: Arc<str>,
        ports: Arc<[SlicePort]>,
        endpoints: Vec<SliceEndpoint>,
        node: &str,
        zones: &mut Zones,
    ) -> bool {
        let stored = |endpoint| StoredEndpoint::new(endpoint, node, zones);
        let slice = StoredSlice {
            name,
            ports,
            endpoints: endpoints.into_iter().filter_map(stored).collect(),
        };
        match self.find(&slice.name) {
            Ok(at) if self.0[at] == slice => return false,
            Ok(at) => self.0[at] = slice,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, slice);
            }
        }
        true
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            self.0.remove(at);
            self.0.shrink_to_fit();
        }
    }

    /// The numbers of the sets of zones that are in use.
    pub(super) fn zones(&self) -> impl Iterator<Item = u16> {
        let endpoints = self.0.iter().flat_map(|slice| &slice.endpoints);
        endpoints.map(|endpoint| endpoint.zones)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|slice| slice.name.as_ref().cmp(name))
    }
}

impl<A: Address> StoredSlice<A> {
    pub(in super::super) fn ports(&self) -> &[SlicePort] {
        &self.ports
    }

    /// The endpoints, in the order of the slice.
    pub(in super::super) fn endpoints(
        &self,
        zones: &Zones,
    ) -> impl Iterator<Item = KnownEndpoint<A>> {
        self.endpoints.iter().map(|endpoint| endpoint.known(zones))
    }
}

impl<A: Address> StoredEndpoint<A> {
    fn new(endpoint: SliceEndpoint, node: &str, zones: &mut Zones) -> Option<Self> {
        let SliceEndpoint {
            address,
            conditions,
            node: on,
            hints,
        } = endpoint;
        let address = A::from_ip(address)?;
        let is_ours = |name: &String| !node.is_empty() && name == node;
        let flags = [
            (READY, conditions.ready),
            (SERVING, conditions.serving),
            (TERMINATING, conditions.terminating),
            (LOCAL, on.as_ref().is_some_and(is_ours)),
            (FOR_NODES, !hints.nodes.is_empty()),
            (FOR_OUR_NODE, hints.nodes.iter().any(is_ours)),
        ];
        let set = flags.into_iter().filter(|(_, holds)| *holds);
        Some(Self {
            address,
            zones: zones.number(hints.zones),
            flags: set.fold(0, |flags, (bit, _)| flags | bit),
        })
    }

    fn known(&self, zones: &Zones) -> KnownEndpoint<A> {
        let has = |bit| self.flags & bit != 0;
        KnownEndpoint {
            address: self.address,
            conditions: Conditions {
                ready: has(READY),
                serving: has(SERVING),
                terminating: has(TERMINATING),
            },
            is_local: has(LOCAL),
            for_nodes: match (has(FOR_NODES), has(FOR_OUR_NODE)) {
                (false, _) => Hint::None,
                (true, false) => Hint::Elsewhere,
                (true, true) => Hint::Here,
            },
            for_zones: zones.hint(self.zones),
        }
    }
}
