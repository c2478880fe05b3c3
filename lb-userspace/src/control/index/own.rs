//! The node's own addresses, and what Services need to know of them: kept worked out, since they change
//! seldom and every Service with a node port asks.

use std::{net::IpAddr, sync::Arc};

use lb_common::address::Family;

use super::{Entry, Index};
use crate::{
    control::node_ports::{NodePortSettings, NodePorts, find_named, find_node_ports, find_primary},
    model::{Node, NodeAddress, ObjectKey, Service},
};

/// The node's addresses, by family where it matters.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses {
    pub(super) settings: NodePortSettings,
    /// As the kernel says; none as long as it has not been asked.
    pub(super) all: Vec<NodeAddress>,
    /// Where node ports are served.
    pub(super) ports: [NodePorts; 2],
    /// The addresses that clients on the node have: the primary one, or where none is known, all that are neither
    /// loopback nor link-local.
    pub(super) clients: [Vec<IpAddr>; 2],
}

/// What is another than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) ports: bool,
    pub(super) clients: bool,
}

impl OwnAddresses {
    /// Works it out anew, with `node` as the node is described.
    pub(super) fn update(&mut self, node: Option<&Node>) -> Changed {
        let mut changed = Changed::default();
        for family in Family::BOTH {
            let ports = if self.all.is_empty() {
                // Nobody has told. What a node without any address would have is of no use to anybody either.
                NodePorts::default()
            } else {
                let named = find_named(&self.settings, node, family);
                find_node_ports(&named, &self.all, family)
            };
            let clients = match find_primary(&self.settings, node, family) {
                Some(ip) => vec![ip],
                None => self.clients_of(family),
            };
            let at = place(family);
            changed.ports |= self.ports[at] != ports;
            changed.clients |= self.clients[at] != clients;
            self.ports[at] = ports;
            self.clients[at] = clients;
        }
        changed
    }

    fn clients_of(&self, family: Family) -> Vec<IpAddr> {
        let all = self.all.iter();
        let all = all.filter(|address| !address.is_loopback() && !address.is_link_local());
        let mut all: Vec<_> = all
            .map(|address| address.ip)
            .filter(|ip| Family::of(ip) == family)
            .collect();
        all.sort_unstable();
        all
    }
}

impl Index {
    /// Node ports are served on the addresses that `settings` name.
    pub fn set_node_ports(&mut self, settings: NodePortSettings) {
        self.own.settings = settings;
        self.own.update(self.node.as_ref().map(|(node, _)| node));
    }

    /// The node's own addresses, sorted, each once.
    pub fn node_addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<_> = self.own.all.iter().map(|address| address.ip).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// On which of the node's addresses node ports are served.
    pub fn node_ports(&self, family: Family) -> &NodePorts {
        &self.own.ports[place(family)]
    }

    /// The addresses that clients on the node itself have, as far as source ranges go (rule 47).
    pub(in super::super) fn client_addresses(&self, family: Family) -> &[IpAddr] {
        &self.own.clients[place(family)]
    }

    /// Works out anew what follows from the node's addresses; the Services that this concerns.
    pub(super) fn update_own(&mut self) -> Vec<Arc<ObjectKey>> {
        let changed = self.own.update(self.node.as_ref().map(|(node, _)| node));
        let concerned = |service: &Service| {
            changed.ports && service.ports.iter().any(|port| port.node_port != 0)
                || changed.clients && !service.source_ranges.is_empty()
        };
        let of = |entry: &Entry| entry.service.as_deref().is_some_and(concerned);
        let dirty = self.entries.iter().filter(|(_, entry)| of(entry));
        dirty.map(|(key, _)| key.clone()).collect()
    }
}

/// Where a family's part of an array of both is.
fn place(family: Family) -> usize {
    usize::from(family == Family::V6)
}
