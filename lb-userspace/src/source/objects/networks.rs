//! Networks as Kubernetes reads them: like addresses, with leading zeros (rule 20), and with host bits cut off.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    loose_ip::parse_loose,
    problem::{Fault, Wrong},
    tree::Node,
};

/// The network that `text` stands for: `10.0.0.0/8`, `010.1.2.3/08`, `fd00::/64`. One written as IPv4 inside IPv6
/// is neither for Kubernetes.
pub(in crate::source) fn parse_loose_network(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let address = parse_loose(address)
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()))?;
    let length = length.parse().ok().filter(|_| is_number)?;
    IpNet::new(address, length).ok().map(|net| net.trunc())
}

/// The network in `node`.
pub(in crate::source) fn network(node: &Node) -> Result<IpNet, Wrong> {
    parse_loose_network(node.text()?)
        .ok_or_else(|| Wrong::new(node, Fault::Not("a network such as 10.0.0.0/8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_canonical_however_they_are_written() {
        for (text, expected) in [
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("010.001.002.003/08", Some("10.0.0.0/8")),
            ("10.1.2.3/32", Some("10.1.2.3/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("fd00::5/64", Some("fd00::/64")),
            ("::ffff:10.0.0.0/104", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/", None),
            ("10.0.0.0", None),
            (" 10.0.0.0/8", None),
            ("web/8", None),
            ("", None),
        ] {
            let shown = parse_loose_network(text).map(|net| net.to_string());
            assert_eq!(shown.as_deref(), expected, "{text:?}");
        }
    }
}
