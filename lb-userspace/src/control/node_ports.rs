//! On which of the node's addresses node ports are served (rules 62 to 66).
//!
//! `nodePortAddresses` names some of the node's addresses by range or by role; which of those there are the
//! kernel knows. Clients that come in by a device get node ports on the addresses that are named and no
//! others; the node's own processes get them on every address, loopback included (kube-proxy's nftables mode
//! does not serve that, and its users miss it). Health checks of Services listen where node ports are, so they
//! ask here as well.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use lb_common::address::Family;

use crate::{
    config::NodePortAddress,
    model::{Node, NodeAddress},
};

/// What the agent was told about the addresses of node ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortSettings {
    /// `nodePortAddresses`.
    pub addresses: Vec<NodePortAddress>,
    /// `bind-address`, if it is an address: the node's primary one of its family, whatever the Node says.
    pub node_ip: Option<IpAddr>,
}

/// As nftables' kube-proxy has it (rule 64).
impl Default for NodePortSettings {
    fn default() -> Self {
        Self {
            addresses: vec![NodePortAddress::Primary],
            node_ip: None,
        }
    }
}

/// Which addresses of one family are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Whatever there is.
    All,
    /// These.
    Some {
        /// Addresses that are named one by one.
        addresses: BTreeSet<IpAddr>,
        /// Ranges that are named.
        networks: Vec<IpNet>,
    },
}

impl Named {
    /// Whether `ip`, one of the node's, is named.
    pub fn contains(&self, ip: &IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Some {
                addresses,
                networks,
            } => addresses.contains(ip) || networks.iter().any(|net| net.contains(ip)),
        }
    }
}

/// The node's addresses of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePorts {
    /// Clients from anywhere get node ports here. Sorted.
    pub served: Vec<IpAddr>,
    /// Only the node's own processes do. Sorted.
    pub host_only: Vec<IpAddr>,
}

/// The node's primary address of that family, if anybody has said which it is.
pub fn find_primary(
    settings: &NodePortSettings,
    node: Option<&Node>,
    family: Family,
) -> Option<IpAddr> {
    let told = settings.node_ip.into_iter();
    let told = told.filter(|ip| !ip.is_unspecified());
    told.chain(
        node.into_iter()
            .flat_map(|node| node.addresses.iter().copied()),
    )
    .find(|ip| Family::of(ip) == family)
}

/// Which addresses of that family the settings name.
///
/// Where nobody says which address is the primary one, as without a Node object, `primary` is all of them:
/// a node that is not described is rather served on too many of its addresses than on none.
pub fn find_named(settings: &NodePortSettings, node: Option<&Node>, family: Family) -> Named {
    let loopback: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let mut addresses = BTreeSet::new();
    let mut networks = Vec::new();
    for entry in &settings.addresses {
        match entry {
            NodePortAddress::Primary => match find_primary(settings, node, family) {
                Some(ip) => addresses.extend([ip]),
                None => return Named::All,
            },
            NodePortAddress::All => return Named::All,
            NodePortAddress::Localhost => addresses.extend([loopback]),
            NodePortAddress::Network(net) if Family::of(&net.addr()) != family => {}
            NodePortAddress::Network(net) if net.prefix_len() == 0 => return Named::All,
            NodePortAddress::Network(net) => networks.push(*net),
        }
    }
    if addresses.is_empty() && networks.is_empty() {
        // Rule 63: nothing is said of this family.
        return Named::All;
    }
    Named::Some {
        addresses,
        networks,
    }
}

/// Where node ports are served, of the addresses `own` that the node has.
///
/// Nobody from outside reaches a loopback address, whatever is named (rule 65), nor does he reach a link-local one
/// of IPv6 without saying by which device.
pub fn find_node_ports(named: &Named, own: &[NodeAddress], family: Family) -> NodePorts {
    let mut ports = NodePorts::default();
    let loopback = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let loopback = NodeAddress { ip: loopback };
    for address in own.iter().chain([&loopback]) {
        let ip = address.ip;
        let is_ours = Family::of(&ip) == family && !ip.is_unspecified() && !ip.is_multicast();
        if !is_ours || family == Family::V6 && address.is_link_local() {
            continue;
        }
        if !address.is_loopback() && named.contains(&ip) {
            ports.served.push(ip);
        } else {
            ports.host_only.push(ip);
        }
    }
    for list in [&mut ports.served, &mut ports.host_only] {
        list.sort_unstable();
        list.dedup();
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [&str; 9] = [
        "127.0.0.1",
        "10.0.0.1",
        "192.0.2.1",
        "169.254.20.10",
        "10.244.1.1",
        "::1",
        "fd00::1",
        "2001:db8::1",
        "fe80::1",
    ];

    fn own() -> Vec<NodeAddress> {
        let ip = |text: &&str| NodeAddress {
            ip: text.parse().unwrap(),
        };
        OWN.iter().map(ip).collect()
    }

    fn node(addresses: &[&str]) -> Node {
        Node {
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..Node::default()
        }
    }

    fn served(
        addresses: &[NodePortAddress],
        node_ip: Option<&str>,
        node: Option<&Node>,
        family: Family,
    ) -> String {
        let settings = NodePortSettings {
            addresses: addresses.to_vec(),
            node_ip: node_ip.map(|ip| ip.parse().unwrap()),
        };
        let ports = find_node_ports(&find_named(&settings, node, family), &own(), family);
        let all = ports.served.iter().chain(&ports.host_only);
        let expected = OWN
            .iter()
            .filter(|ip| ip.contains(':') == (family == Family::V6));
        let link_local = usize::from(family == Family::V6);
        assert_eq!(
            all.count() + link_local,
            expected.count(),
            "each is served somehow"
        );
        let text = ports.served.iter().map(ToString::to_string);
        text.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rules_62_to_64_node_ports_are_on_the_addresses_that_are_named() {
        use NodePortAddress::{All, Localhost, Network, Primary};
        let node = node(&["10.0.0.1", "fd00::1", "192.0.2.1"]);
        let net = |text: &str| Network(text.parse().unwrap());
        let v4 = |named: &[_]| served(named, None, Some(&node), Family::V4);
        let v6 = |named: &[_]| served(named, None, Some(&node), Family::V6);
        let all_v4 = "10.0.0.1 10.244.1.1 169.254.20.10 192.0.2.1";
        assert_eq!(
            (v4(&[Primary]), v6(&[Primary])),
            ("10.0.0.1".into(), "fd00::1".into())
        );
        assert_eq!(v4(&[net("192.0.2.0/24")]), "192.0.2.1");
        assert_eq!(v4(&[net("192.0.2.0/24"), Primary]), "10.0.0.1 192.0.2.1");
        assert_eq!(v4(&[net("0.0.0.0/0")]), all_v4);
        assert_eq!(v4(&[All]), all_v4);
        assert_eq!(v6(&[All]), "2001:db8::1 fd00::1");
        assert_eq!(
            v4(&[net("2001:db8::/64")]),
            all_v4,
            "rule 63: nothing is said of IPv4"
        );
        assert_eq!(v4(&[net("198.51.100.0/24")]), "");
        assert_eq!(v4(&[Localhost]), "", "rule 65");
        assert_eq!(v4(&[net("127.0.0.0/8")]), "", "rule 65");
    }

    #[test]
    fn rule_63_the_primary_address_is_what_the_agent_was_told_or_else_what_the_node_says() {
        let primary = [NodePortAddress::Primary];
        let node = node(&["10.0.0.1", "192.0.2.1"]);
        let on = |ip, node| served(&primary, ip, node, Family::V4);
        assert_eq!(on(Some("192.0.2.1"), Some(&node)), "192.0.2.1");
        assert_eq!(on(Some("0.0.0.0"), Some(&node)), "10.0.0.1");
        assert_eq!(
            on(Some("fd00::1"), Some(&node)),
            "10.0.0.1",
            "of the other family"
        );
        assert_eq!(on(Some("192.0.2.99"), Some(&node)), "", "no device has it");
        assert_eq!(
            on(None, None),
            "10.0.0.1 10.244.1.1 169.254.20.10 192.0.2.1"
        );
    }
}
