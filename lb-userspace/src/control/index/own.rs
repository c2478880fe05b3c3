//! The node's own addresses, and what Services need to know of them: kept worked out, since they change
//! seldom and every Service with a node port asks.

use std::net::IpAddr;

use lb_common::address::Family;

use crate::{
    control::node_ports::{NodePortSettings, NodePorts, find_named, find_node_ports, find_primary},
    model::{Node, NodeAddress},
};

/// The node's addresses, by family where it matters.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses {
    pub(super) settings: NodePortSettings,
    /// As the kernel says; none as long as it has not been asked.
    pub(super) all: Vec<NodeAddress>,
    /// Where node ports are served.
    pub(super) ports: [NodePorts; 2],
    /// The addresses that clients on the node have: the primary one, or where none is known, all that are not
    /// loopback.
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
        let all = self.all.iter().filter(|address| !address.is_loopback());
        let mut all: Vec<_> = all
            .map(|address| address.ip)
            .filter(|ip| Family::of(ip) == family)
            .collect();
        all.sort_unstable();
        all
    }
}

/// Where a family's part of an array of both is.
pub(super) fn place(family: Family) -> usize {
    usize::from(family == Family::V6)
}
