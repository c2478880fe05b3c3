//! Addresses that no device has: the fabric routes their ranges to a node, as the router in front of a
//! cluster does with what its load balancer or its administrator announces.
//!
//! ```text
//!   load balancers   198.51.100.0/24, 2001:db8:51::/64    -> the first node
//!   externalIPs      203.0.113.0/24,  2001:db8:113::/64   -> the second node, or the only one
//! ```
//!
//! So `outside` reaches them through a node that need not have the endpoint. Clients in the cluster are
//! served by their own node before the fabric sees a packet. [`Lab::route_to`] routes further ranges, or
//! these to another node.

use anyhow::Result;

use super::{Host, Lab, address::Addresses, ip};

/// Where the lab's load balancers have their addresses, IPv4 first.
pub const LOAD_BALANCERS: [&str; 2] = ["198.51.100.0/24", "2001:db8:51::/64"];
/// Where the lab's `externalIPs` are taken from, IPv4 first.
pub const EXTERNAL_IPS: [&str; 2] = ["203.0.113.0/24", "2001:db8:113::/64"];

/// The fabric's routes of both families' `ranges` to `node`.
fn routes(ranges: [&str; 2], node: &Host) -> [String; 2] {
    let (name, Addresses { v4, v6 }) = (&node.name, node.addresses);
    [
        format!("route replace {} via {v4} dev {name} onlink", ranges[0]),
        format!("route replace {} via {v6} dev {name} onlink", ranges[1]),
    ]
}

impl Lab {
    /// Has the fabric route `ranges`, IPv4 first, to a node.
    ///
    /// # Panics
    /// If there is no such node.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn route_to(&self, ranges: [&str; 2], node: &str) -> Result<()> {
        ip::batch(Some(&self.fabric), &routes(ranges, self.node(node)))
    }

    /// The routes that every lab begins with.
    pub(super) fn route_external(&self) -> Result<()> {
        let nodes: Vec<&Host> = self.nodes().take(2).collect();
        let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else {
            return Ok(());
        };
        let both = [routes(LOAD_BALANCERS, first), routes(EXTERNAL_IPS, last)];
        ip::batch(Some(&self.fabric), both.as_flattened())
    }
}
