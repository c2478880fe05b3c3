//! Which devices the programs belong on (design: on every host-side device that traffic enters or leaves
//! by, once). Pure: decides over a listing, does not make one.

use std::{collections::BTreeMap, fmt};

/// What is known of a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// ifindex.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND`: `veth`, `bridge`, `vxlan`, ...; empty for a physical device.
    pub kind: String,
    /// Whether frames have an Ethernet header.
    pub is_ethernet: bool,
    /// Whether this is a loopback device.
    pub is_loopback: bool,
    /// ifindex of the bridge, bond, VRF, ... this is a port of.
    pub master: Option<u32>,
}

/// All devices of a network namespace, by ifindex.
pub type Links = BTreeMap<u32, Link>;

/// What is done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Gets the programs. `bridge` is the ifindex of the bridge it is a port of, or 0.
    Attach {
        /// See [`lb_common::tables::Device::bridge`].
        bridge: u32,
    },
    /// Does not.
    Skip(Reason),
}

/// Why a device does not get the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// `lo`.
    Loopback,
    /// Not named by `--devices`.
    NotSelected,
    /// Layer 3 tunnels (wireguard, ipip, ...) are not served yet.
    NoEthernet,
    /// A bridge: its ports have the programs.
    Bridge,
    /// A bond's or team's port: the bond has the programs.
    BondPort,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Loopback => "loopback",
            Self::NotSelected => "not selected by --devices",
            Self::NoEthernet => "no Ethernet header",
            Self::Bridge => "bridge: its ports are attached",
            Self::BondPort => "bond port: the bond is attached",
        })
    }
}

/// A pattern of `--devices`: a name, with `*` for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl From<&str> for Pattern {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

/// What is done with `link`, one of `links`. No patterns select every device.
pub fn role(link: &Link, links: &Links, patterns: &[Pattern]) -> Role {
    let selected = |link: &Link| {
        patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&link.name))
    };
    let master = link.master.and_then(|index| links.get(&index));
    if link.is_loopback {
        Role::Skip(Reason::Loopback)
    } else if !selected(link) {
        Role::Skip(Reason::NotSelected)
    } else if !link.is_ethernet {
        Role::Skip(Reason::NoEthernet)
    } else if link.kind == "bridge"
        && links
            .values()
            .any(|port| port.master == Some(link.index) && selected(port))
    {
        Role::Skip(Reason::Bridge)
    } else if master.is_some_and(|master| matches!(master.kind.as_str(), "bond" | "team")) {
        Role::Skip(Reason::BondPort)
    } else {
        let bridge = master
            .filter(|master| master.kind == "bridge")
            .map_or(0, |master| master.index);
        Role::Attach { bridge }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str, master: u32) -> Link {
        Link {
            index,
            name: name.into(),
            kind: kind.into(),
            is_ethernet: !matches!(kind, "wireguard" | "ipip"),
            is_loopback: name == "lo",
            master: (master != 0).then_some(master),
        }
    }

    fn roles(links: &[Link], patterns: &[&str]) -> Vec<Role> {
        let patterns: Vec<_> = patterns.iter().map(|text| Pattern::from(*text)).collect();
        let all: Links = links
            .iter()
            .map(|link| (link.index, link.clone()))
            .collect();
        links
            .iter()
            .map(|link| role(link, &all, &patterns))
            .collect()
    }

    #[test]
    fn uplinks_pods_tunnels_and_vlans_are_attached() {
        let links = [
            link(2, "eth0", "", 0),
            link(3, "veth1", "veth", 0),
            link(4, "flannel.1", "vxlan", 0),
            link(5, "eth0.100", "vlan", 0),
        ];
        for (link, role) in links.iter().zip(roles(&links, &[])) {
            assert_eq!(role, Role::Attach { bridge: 0 }, "{}", link.name);
        }
    }

    #[test]
    fn a_bridge_is_attached_by_its_ports_and_they_know_it() {
        let links = [link(7, "cni0", "bridge", 0), link(8, "veth1", "veth", 7)];
        let expected = [Role::Skip(Reason::Bridge), Role::Attach { bridge: 7 }];
        assert_eq!(roles(&links, &[]), expected);
    }

    #[test]
    fn a_bridge_without_attached_ports_is_attached_itself() {
        let links = [link(7, "cni0", "bridge", 0), link(8, "veth1", "veth", 7)];
        assert_eq!(roles(&links[..1], &[])[0], Role::Attach { bridge: 0 });
        assert_eq!(roles(&links, &["cni*"])[0], Role::Attach { bridge: 0 });
    }

    #[test]
    fn a_bond_is_attached_and_its_ports_are_not() {
        let links = [link(7, "bond0", "bond", 0), link(8, "eth0", "", 7)];
        let expected = [Role::Attach { bridge: 0 }, Role::Skip(Reason::BondPort)];
        assert_eq!(roles(&links, &[]), expected);
    }

    #[test]
    fn loopback_and_layer_three_tunnels_are_skipped() {
        let links = [link(1, "lo", "", 0), link(2, "wg0", "wireguard", 0)];
        let expected = [Role::Skip(Reason::Loopback), Role::Skip(Reason::NoEthernet)];
        assert_eq!(roles(&links, &[]), expected);
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, matches) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth01", true),
            ("*", "x", true),
            ("cali*", "veth1", false),
            ("v*h*1", "veth11", true),
            ("v*h", "veth1", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(
                Pattern::from(pattern).matches(name),
                matches,
                "{pattern} on {name}"
            );
        }
    }
}
