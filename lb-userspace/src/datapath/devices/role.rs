//! What is behind a device: the rest of the world, pods of this node, or neither.
//!
//! Nothing in Kubernetes says so; what is taken for what, and what is given up by it, is written down in
//! docs/decisions/0006-who-is-inside.md. A device is never both.

use lb_common::tables::Device;

use super::{
    host::{AddressKey, Host, Link, LinkLayer, is_link_local},
    pattern::{Pattern, any_matches},
};
use crate::config::DetectLocal;

/// What the user said of the devices.
#[derive(Clone, Debug)]
pub struct Said {
    /// `--uplinks`; empty: find out.
    pub uplinks: Vec<Pattern>,
    /// `--detect-local-mode` (rule 59).
    pub detect_local: DetectLocal,
}

/// The role bits of [`Device`] that `link`, one of `host`, has.
pub fn role(link: &Link, host: &Host, said: &Said) -> u32 {
    let is_named_pods = match &said.detect_local {
        DetectLocal::InterfaceNamePrefix(prefix) => Some(link.name.starts_with(prefix.as_str())),
        DetectLocal::BridgeInterface(bridge) => {
            let is_bridge = |link: &Link| link.name == *bridge;
            Some(is_bridge(link) || host.master_of(link).is_some_and(is_bridge))
        }
        // Where ranges of addresses tell, the programs do not ask.
        DetectLocal::ClusterCidr(_) | DetectLocal::NodeCidr => None,
    };
    let is_uplink = if !said.uplinks.is_empty() {
        any_matches(&said.uplinks, &link.name)
    } else {
        // A prefix is said of each device; a bridge may have a port that leads outside.
        let is_prefixed = matches!(said.detect_local, DetectLocal::InterfaceNamePrefix(_));
        !(is_prefixed && is_named_pods == Some(true)) && is_uplink(link, host)
    };
    let is_port = is_bridge_port(link, host);
    let mut role = 0;
    if is_uplink {
        role |= Device::UPLINK;
    } else if is_named_pods.unwrap_or(true) {
        role |= Device::PODS;
    }
    if is_paired(link) && link.is_peer_elsewhere && !is_port {
        role |= Device::PEER;
    }
    if link.layer != LinkLayer::Ethernet {
        role |= Device::NO_LINK;
    }
    role
}

/// Whether the rest of the world is behind a device, as far as its looks tell.
fn is_uplink(link: &Link, host: &Host) -> bool {
    let is_port = is_bridge_port(link, host);
    if link.kind == "bridge" {
        // Attached itself only if none of its ports is: it is what they are. Without any, nobody comes in by it.
        host.ports_of(link.index).any(|port| is_uplink(port, host))
    } else if is_paired(link) {
        // A pod's device has no address, or its gateway's, with no network. A node that is a container itself has
        // its address on such a device: with its network, or as the way to everywhere.
        let has_network = |(key, _): (&AddressKey, _)| key.has_network() && !is_link_local(key.ip);
        !is_port
            && (host.ways_out.contains(&link.index)
                || host.addresses_of(link.index).any(has_network))
    } else {
        // Nobody comes in by a dummy, and a virtual machine's tap on a bridge is a guest like any pod.
        link.kind != "dummy" && !(is_port && link.kind == "tun")
    }
}

/// Whether packets into the device come out of another one, as a rule in another network namespace.
fn is_paired(link: &Link) -> bool {
    matches!(link.kind.as_str(), "veth" | "netkit")
}

fn is_bridge_port(link: &Link, host: &Host) -> bool {
    host.master_of(link)
        .is_some_and(|master| matches!(master.kind.as_str(), "bridge" | "openvswitch"))
}
