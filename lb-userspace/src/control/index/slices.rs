//! EndpointSlices as the index keeps them: 8 bytes for an IPv4 endpoint, 20 for an IPv6 one.
//!
//! A cluster has many more endpoints than anything else, so this is what the agent's memory goes into.
//! The node's name is not kept: nothing asks for it yet, and when Local policies do it becomes one bit
//! ("on this node", rule 16) beside the conditions.

use lb_common::address::Address;

use crate::model::{Conditions, EndpointSlice, SliceEndpoint, SlicePort};

/// The slices of one Service in one family, in the order of their names.
#[derive(Debug)]
pub(in super::super) struct SliceSet<A>(Vec<StoredSlice<A>>);

/// A slice of family `A`.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct StoredSlice<A> {
    name: Box<str>,
    ports: Box<[SlicePort]>,
    endpoints: Box<[StoredEndpoint<A>]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoredEndpoint<A> {
    address: A,
    conditions: Conditions,
}

const _: () = assert!(size_of::<StoredEndpoint<lb_common::address::V4>>() == 8);
const _: () = assert!(size_of::<StoredEndpoint<lb_common::address::V6>>() == 20);

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

    /// Adds or replaces a slice; whether that changed anything.
    pub(super) fn put(&mut self, slice: StoredSlice<A>) -> bool {
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

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|slice| slice.name.as_ref().cmp(name))
    }
}

impl<A: Address> StoredSlice<A> {
    /// What is needed of `slice`. Addresses of another family than `A` are left out: they have no place
    /// in a slice of this family (rule 14).
    pub(super) fn new(slice: EndpointSlice) -> Self {
        let stored = |endpoint: SliceEndpoint| {
            let address = A::from_ip(endpoint.address)?;
            Some(StoredEndpoint {
                address,
                conditions: endpoint.conditions,
            })
        };
        Self {
            name: slice.key.name.into_boxed_str(),
            ports: slice.ports.into_boxed_slice(),
            endpoints: slice.endpoints.into_iter().filter_map(stored).collect(),
        }
    }

    pub(in super::super) fn ports(&self) -> &[SlicePort] {
        &self.ports
    }

    pub(in super::super) fn endpoints(&self) -> impl Iterator<Item = (A, Conditions)> {
        self.endpoints
            .iter()
            .map(|endpoint| (endpoint.address, endpoint.conditions))
    }
}
