//! An overlay between the nodes, as flannel makes it: pods' traffic to other nodes goes through a vxlan.
//!
//! ```text
//!   node N: vxlan0  10.245.0.N/24  fd00:10:245::N/64  MTU 1450
//!           10.244.M.0/24, fd00:10:244:M::/64 via node M's addresses on it, for each other node M
//! ```
//!
//! Who has which MAC and which MAC is behind which node is written down, nothing is learnt. The fabric knows
//! no pods any more: a packet that leaves by the uplink with a pod's address is lost, as it would be in a
//! network that is not the cluster's.

use anyhow::Result;

use super::{Addresses, Host, Lab, ip, spawn};

/// The device on every node.
pub const OVERLAY: &str = "vxlan0";
/// What 50 bytes of headers leave of 1500.
const MTU: u32 = 1450;

impl Addresses {
    /// 10.245.0.N and fd00:10:245::N: a node's own addresses in the overlay.
    pub fn of_overlay(node: u8) -> Self {
        Self {
            v4: [10, 245, 0, node].into(),
            v6: super::address::parse(format_args!("fd00:10:245::{node}")),
        }
    }
}

impl Lab {
    /// Lays the overlay; before agents start, after the last pod has come.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn lay_overlay(&self) -> Result<()> {
        let numbered = || {
            self.nodes()
                .filter_map(|host| Some((host.node?.0, host)))
                .collect::<Vec<_>>()
        };
        for (number, host) in numbered() {
            let others = numbered().into_iter().filter(|(other, _)| *other != number);
            let others: Vec<(u8, &Host)> = others.collect();
            ip::batch(Some(&host.netns), &node_lines(number, host, &others))?;
            let behind = others.iter().map(|(other, host)| {
                let (mac, v4) = (mac(*other), host.addresses.v4);
                format!("fdb append {mac} dev {OVERLAY} dst {v4}\n")
            });
            let script: String = behind.collect();
            spawn::output(&host.netns, &["bridge", "-batch", "-"], &script)?;
        }
        for pod in &self.pods {
            self.set_mtu(pod, "eth0", MTU)?;
            self.set_mtu(self.node(&pod.node), &pod.device, MTU)?;
        }
        let gone = numbered().into_iter().flat_map(|(number, host)| {
            let name = &host.name;
            [
                format!("route del 10.244.{number}.0/24 dev {name}"),
                format!("route del fd00:10:244:{number}::/64 dev {name}"),
            ]
        });
        ip::batch(Some(&self.fabric), &gone.collect::<Vec<_>>())
    }
}

fn node_lines(number: u8, host: &Host, others: &[(u8, &Host)]) -> Vec<String> {
    let Addresses { v4, v6 } = Addresses::of_overlay(number);
    let (mac_of_own, local) = (mac(number), host.addresses.v4);
    let mut lines = vec![
        format!(
            "link add {OVERLAY} address {mac_of_own} mtu {MTU} type vxlan id 42 local {local} dstport 4789 nolearning"
        ),
        format!("addr add {v4}/24 dev {OVERLAY}"),
        format!("addr add {v6}/64 dev {OVERLAY} nodad"),
        format!("link set {OVERLAY} up"),
    ];
    for (other, _) in others {
        let (Addresses { v4, v6 }, mac) = (Addresses::of_overlay(*other), mac(*other));
        lines.extend([
            format!("neigh replace {v4} lladdr {mac} dev {OVERLAY} nud permanent"),
            format!("neigh replace {v6} lladdr {mac} dev {OVERLAY} nud permanent"),
            format!("route add 10.244.{other}.0/24 via {v4} dev {OVERLAY}"),
            format!("route add fd00:10:244:{other}::/64 via {v6} dev {OVERLAY}"),
        ]);
    }
    lines
}

/// The MAC of a node's device in the overlay.
fn mac(node: u8) -> String {
    format!("02:00:0a:f5:00:{node:02x}")
}
