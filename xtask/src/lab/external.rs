//! Addresses that no device has: the fabric routes their ranges to a node, as the router in front of a
//! cluster does with what its load balancer or its administrator announces.
//!
//! ```text
//!   load balancers   198.51.100.0/24, 2001:db8:51::/64    -> the first node
//!   externalIPs      203.0.113.0/24,  2001:db8:113::/64   -> the second node, or the only one
//! ```
//!
//! So `outside` reaches them through a node that need not have the endpoint. Clients in the cluster are
//! served by their own node before the fabric sees a packet, so what comes from a node to such an address is lost:
//! sent back, it would be served at the second try, and nobody would see that it was not at the first.
//! [`Lab::route_to`] routes further ranges in the same way.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::{Host, Lab, ip, spawn};

/// Where the lab's load balancers have their addresses, IPv4 first.
pub const LOAD_BALANCERS: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/64"];
/// Where the lab's `externalIPs` are taken from, IPv4 first.
pub const EXTERNAL_IPS: [&str; 2] = ["203.0.113.0/24", "2001:db8:113::/64"];

/// The fabric's route of `range` to `node`.
fn route(range: IpNet, node: &Host) -> String {
    let via = node.addresses.like(&range.addr());
    format!("route replace {range} via {via} dev {} onlink", node.name)
}

/// The fabric's rule that nobody in the cluster needs that route.
fn rule(range: IpNet, node: &Host) -> String {
    let name = &node.name;
    format!("rule add priority 10 iif {name} to {range} blackhole")
}

impl Lab {
    /// Has the fabric route `ranges`, networks or addresses, to a node.
    ///
    /// # Panics
    /// If there is no such node.
    ///
    /// # Errors
    /// If one is no network, or the kernel refuses.
    pub fn route_to(&self, ranges: &[&str], node: &str) -> Result<()> {
        let network = |text: &&str| -> Result<IpNet> {
            let of_one = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse()
                .or_else(|_| of_one())
                .context((*text).to_owned())
        };
        let ranges: Vec<IpNet> = ranges.iter().map(network).collect::<Result<_>>()?;
        let node = self.node(node);
        self.lead(ranges.into_iter().map(|range| (range, node)))
    }

    /// The ranges of addresses that no device has, and the node that the fabric routes each to when the lab
    /// begins.
    pub fn entrances(&self) -> impl Iterator<Item = (IpNet, &Host)> {
        let nodes: Vec<&Host> = self.nodes().take(2).collect();
        let ends = nodes.first().zip(nodes.last());
        let both = ends.map(|(first, last)| [(LOAD_BALANCERS, *first), (EXTERNAL_IPS, *last)]);
        let all = both.into_iter().flatten();
        all.flat_map(|(ranges, node)| {
            let range = |text: &str| text.parse().expect("written here");
            ranges.map(|text| (range(text), node))
        })
    }

    /// The routes that every lab begins with.
    pub(super) fn route_external(&self) -> Result<()> {
        self.lead(self.entrances())
    }

    fn lead<'a>(&self, entrances: impl Iterator<Item = (IpNet, &'a Host)>) -> Result<()> {
        let (mut lines, mut rules_v6) = (Vec::new(), String::new());
        for (range, entrance) in entrances {
            lines.push(route(range, entrance));
            for node in self.nodes() {
                match range {
                    IpNet::V4(_) => lines.push(rule(range, node)),
                    IpNet::V6(_) => rules_v6 += &(rule(range, node) + "\n"),
                }
            }
        }
        ip::batch(Some(&self.fabric), &lines)?;
        // Of rules, unlike routes, `ip` does not see the family by itself.
        spawn::output(&self.fabric, &["ip", "-6", "-batch", "-"], &rules_v6).map(drop)
    }
}
