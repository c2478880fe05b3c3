//! Ranges of addresses in a configuration, with kube-proxy's rules about them.

use ipnet::IpNet;

use super::NodePortAddress;

/// What is wrong with ranges that [`parse_pair`] does not take.
pub(super) const PAIR: &str =
    "must be one range such as 10.244.0.0/16, or one of each family with a comma between them";
/// What is wrong with an entry that [`parse_node_port_address`] does not take.
pub(super) const NODE_PORT_ADDRESS: &str =
    "must be a range such as 192.168.1.0/24, or one of primary, localhost, all";

/// Parses one range, or one of each family; the empty text is none.
pub(super) fn parse_pair(text: &str) -> Option<Vec<IpNet>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let parsed: Option<Vec<IpNet>> = text
        .split(',')
        .map(|entry| entry.trim().parse().ok())
        .collect();
    let parsed = parsed?;
    let is_v4 = |net: &IpNet| matches!(net, IpNet::V4(_));
    match parsed.as_slice() {
        [_] => Some(parsed),
        [a, b] if is_v4(a) != is_v4(b) => Some(parsed),
        _ => None,
    }
}

/// Parses an entry of `nodePortAddresses`.
pub(super) fn parse_node_port_address(text: &str) -> Option<NodePortAddress> {
    match text.trim() {
        "primary" => Some(NodePortAddress::Primary),
        "localhost" => Some(NodePortAddress::Localhost),
        "all" => Some(NodePortAddress::All),
        range => range.parse().ok().map(NodePortAddress::Network),
    }
}
