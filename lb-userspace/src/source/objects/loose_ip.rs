//! IP addresses as Kubernetes reads them: leading zeros in IPv4 are decimal and do no harm (rule 20).
//!
//! `172.30.0.041` is 172.30.0.41. Such text is in clusters since before Go stopped accepting it, and
//! Kubernetes went on reading it so; the standard library here rejects it. What is parsed is canonical
//! from then on.

use std::net::{IpAddr, Ipv4Addr};

use lb_common::address::Family;

use super::{
    problem::{Fault, Wrong},
    tree::Node,
};

/// The address that `text` stands for.
pub(in crate::source) fn parse_loose(text: &str) -> Option<IpAddr> {
    let Some((head, tail)) = text.rsplit_once(':') else {
        return parse_dotted(text).map(IpAddr::V4);
    };
    if tail.contains('.') {
        // An IPv4 address in the last four bytes of an IPv6 one.
        let tail = parse_dotted(tail)?;
        return format!("{head}:{tail}").parse().ok();
    }
    text.parse().ok()
}

/// Four decimal numbers up to 255 with dots between them and any number of leading zeros.
fn parse_dotted(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = parse_octet(parts.next()?)?;
    }
    parts.next().is_none().then(|| octets.into())
}

/// Digits only, since the standard library would take a sign as well; it has nothing against zeros.
fn parse_octet(text: &str) -> Option<u8> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// The address in `node`. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) is neither for Kubernetes.
pub(in crate::source) fn address(node: &Node) -> Result<IpAddr, Wrong> {
    let parsed = parse_loose(node.text()?);
    let plain = parsed.filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()));
    plain.ok_or_else(|| Wrong::new(node, Fault::Not("an IP address")))
}

/// The address in `node`, if it is of `family`.
pub(in crate::source) fn address_of(node: &Node, family: Family) -> Result<IpAddr, Wrong> {
    let ip = address(node)?;
    if Family::of(&ip) != family {
        return Err(Wrong::new(node, Fault::WrongFamily(family)));
    }
    Ok(ip)
}

/// What kind of address no endpoint, and no external IP, can have, as the API server sees it: traffic for it would never
/// leave the node, or leave it to nowhere.
pub(in crate::source) fn special(ip: IpAddr) -> Option<&'static str> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    match ip {
        _ if ip.is_unspecified() => Some("the unspecified address"),
        _ if ip.is_loopback() => Some("a loopback address"),
        _ if ip.is_multicast() => Some("a multicast address"),
        _ if link_local => Some("a link-local address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn leading_zeros_are_decimal() {
        for (text, canonical) in [
            ("172.30.0.041", "172.30.0.41"),
            ("010.000.0000.08", "10.0.0.8"),
            ("10.96.0.1", "10.96.0.1"),
            ("fd00::1", "fd00::1"),
            ("64:ff9b::010.0.0.1", "64:ff9b::a00:1"),
        ] {
            assert_eq!(parse_loose(text), canonical.parse().ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ".",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.",
            "1.2.3.256",
            "1.2.3.0256",
            "1.2.3.-4",
            "1.2.3.+4",
            "1.2.3.4 ",
            "0x1.2.3.4",
            "1.2.3.٤",
            "fd00::1::2",
            "fd00::1%eth0",
            "::1.2.3",
            "10.0.0.0/8",
            "host",
        ] {
            assert_eq!(parse_loose(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_means_what_std_says(v4: u32, v6: u128, mapped: u32) {
            let mapped = Ipv4Addr::from(mapped).to_ipv6_mapped();
            for ip in [
                IpAddr::V4(v4.into()), IpAddr::V6(Ipv6Addr::from(v6)), IpAddr::V6(mapped),
            ] {
                prop_assert_eq!(parse_loose(&ip.to_string()), Some(ip));
            }
        }

        #[test]
        fn any_number_of_zeros_changes_nothing(octets: [u8; 4], zeros in [0usize..5, 0..5, 0..5, 0..5]) {
            let padded = octets.iter().zip(zeros).map(|(o, zeros)| format!("{}{o}", "0".repeat(zeros)));
            let text = padded.collect::<Vec<_>>().join(".");
            prop_assert_eq!(parse_loose(&text), Some(IpAddr::from(octets)));
        }

        #[test]
        fn nothing_is_accepted_that_std_refuses_but_zeros(text in "[0-9a-f:.]{0,20}") {
            if let Some(ip) = parse_loose(&text) {
                prop_assert!(text.parse() == Ok(ip) || text.contains(".0") || text.contains(":0")
                    || text.starts_with('0'), "{text} -> {ip}");
            }
        }
    }
}
