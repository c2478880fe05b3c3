//! Which devices the programs belong on (design: on every host-side device that traffic enters or leaves by,
//! once).

use std::fmt;

use super::{
    host::{Host, Link, LinkLayer},
    pattern::{Pattern, any_matches},
};

/// Whether a device gets the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It does. `bridge` is the ifindex of the bridge it is a port of, or 0.
    Attach {
        /// See [`lb_common::tables::Device::bridge`].
        bridge: u32,
    },
    /// It does not.
    Skip(Reason),
}

/// Why a device does not get the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// `lo`.
    Loopback,
    /// Not named by `--devices`.
    NotSelected,
    /// Its frames begin with neither an Ethernet nor an IP header.
    UnknownLayer,
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
            Self::UnknownLayer => "neither Ethernet nor IP: not served",
            Self::Bridge => "bridge: its ports are attached",
            Self::BondPort => "bond port: the bond is attached",
        })
    }
}

/// Whether `link`, one of `host`, gets the programs. No patterns select every device.
pub fn place(link: &Link, host: &Host, patterns: &[Pattern]) -> Place {
    let selected = |link: &Link| patterns.is_empty() || any_matches(patterns, &link.name);
    let master = host.master_of(link);
    let is_port_of =
        |kinds: &[&str]| master.is_some_and(|master| kinds.contains(&master.kind.as_str()));
    if link.is_loopback {
        Place::Skip(Reason::Loopback)
    } else if !selected(link) {
        Place::Skip(Reason::NotSelected)
    } else if link.layer == LinkLayer::Other {
        Place::Skip(Reason::UnknownLayer)
    } else if link.kind == "bridge" && host.ports_of(link.index).any(selected) {
        Place::Skip(Reason::Bridge)
    } else if is_port_of(&["bond", "team"]) {
        Place::Skip(Reason::BondPort)
    } else {
        let bridge = master
            .filter(|master| master.kind == "bridge")
            .map_or(0, |master| master.index);
        Place::Attach { bridge }
    }
}
