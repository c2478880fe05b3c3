//! Addresses to listen on, as kube-proxy takes them.

use std::net::{IpAddr, SocketAddr};

/// What is wrong with an address that [`parse_address`] does not take.
pub(super) const WHY: &str = "must be IP, IP:port or [IPv6]:port; empty or 0 for none";

/// Parses an address; without a port it gets `default_port`. `Some(None)`: nothing is listened on.
pub(super) fn parse_address(text: &str, default_port: u16) -> Option<Option<SocketAddr>> {
    let text = text.trim();
    if text.is_empty() || text == "0" {
        return Some(None);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Some(address));
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let ip: IpAddr = bare.parse().ok()?;
    Some(Some(SocketAddr::new(ip, default_port)))
}

/// What an old flag with a port only makes of `address`: 0 switches the server off, another port counts
/// where the address has none (kube-proxy's `addressFromDeprecatedFlags`).
pub fn with_port(address: Option<&str>, default: &str, port: u16) -> String {
    if port == 0 {
        return "0".to_owned();
    }
    let address = address.unwrap_or(default);
    match parse_address(address, port) {
        Some(Some(address)) => address.to_string(),
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_port_and_nothing_is_listened_on_for_none() {
        for (text, parsed) in [
            ("0.0.0.0:10256", Some(Some("0.0.0.0:10256"))),
            ("127.0.0.1", Some(Some("127.0.0.1:10249"))),
            ("::", Some(Some("[::]:10249"))),
            ("[::1]", Some(Some("[::1]:10249"))),
            ("[::1]:80", Some(Some("[::1]:80"))),
            ("", Some(None)),
            ("0", Some(None)),
            ("localhost:80", None),
            ("10.0.0.1:99999", None),
            (":10249", None),
        ] {
            let expected = parsed.map(|address| address.map(|text| text.parse().unwrap()));
            assert_eq!(parse_address(text, 10249), expected, "{text}");
        }
    }

    #[test]
    fn an_old_port_flag_switches_off_or_fills_in() {
        assert_eq!(with_port(Some("1.2.3.4:5"), "0.0.0.0", 0), "0");
        assert_eq!(with_port(Some("1.2.3.4"), "0.0.0.0", 80), "1.2.3.4:80");
        assert_eq!(with_port(Some("1.2.3.4:5"), "0.0.0.0", 80), "1.2.3.4:5");
        assert_eq!(with_port(None, "0.0.0.0", 80), "0.0.0.0:80");
    }
}
