//! Names as Kubernetes allows them (RFC 1123).
//!
//! Names end up in fixed-size map records and in log lines, so they are checked where they come in.

use super::{
    problem::{Fault, Wrong},
    tree::Node,
};

/// Longest DNS label (RFC 1035).
const LABEL_LIMIT: usize = 63;
/// Longest DNS name that Kubernetes takes for a name.
const SUBDOMAIN_LIMIT: usize = 253;

/// A DNS label: the name of a Service, a namespace or a port.
pub(in crate::source) fn label(node: &Node) -> Result<String, Wrong> {
    let text = node.text()?;
    if !is_label(text) {
        let what = "a DNS label (a-z, 0-9 and inner -, at most 63 characters)";
        return Err(Wrong::new(node, Fault::Not(what)));
    }
    Ok(text.to_owned())
}

/// A DNS name: the name of anything else, EndpointSlices among them.
pub(in crate::source) fn subdomain(node: &Node) -> Result<String, Wrong> {
    let text = node.text()?;
    if text.len() > SUBDOMAIN_LIMIT || !text.split('.').all(is_subdomain_part) {
        let what = "a DNS name (a-z, 0-9, inner - and ., at most 253 characters)";
        return Err(Wrong::new(node, Fault::Not(what)));
    }
    Ok(text.to_owned())
}

fn is_label(text: &str) -> bool {
    text.len() <= LABEL_LIMIT && is_subdomain_part(text)
}

/// Kubernetes bounds the whole of a subdomain only, not its parts.
fn is_subdomain_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::objects::tree::Value;

    #[test]
    fn labels_and_subdomains_are_told_from_other_text() {
        let long = "x".repeat(63);
        let longer = "x".repeat(64);
        for (text, as_label, as_subdomain) in [
            ("web", true, true),
            ("0-9", true, true),
            (long.as_str(), true, true),
            (longer.as_str(), false, true),
            ("web.v1", false, true),
            ("", false, false),
            ("Web", false, false),
            ("-web", false, false),
            ("web-", false, false),
            ("a..b", false, false),
            ("a_b", false, false),
            ("wéb", false, false),
        ] {
            let node = Node {
                line: 1,
                value: Value::Text(text.to_owned()),
            };
            assert_eq!(label(&node).is_ok(), as_label, "{text:?} as a label");
            assert_eq!(
                subdomain(&node).is_ok(),
                as_subdomain,
                "{text:?} as a subdomain"
            );
        }
    }
}
