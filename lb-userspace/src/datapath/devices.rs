//! What is done with each device: whether it gets the programs, and what they must know of it. Pure: decides over a
//! listing, does not make one.
//!
//! ```text
//!   netlink ──Host──> wanted: place, role, addresses, XDP ──Wanted──> attach ──> DEVICES, programs
//! ```

mod addresses;
mod host;
mod locals;
mod pattern;
mod place;
mod role;
mod words;
mod xdp;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::{
    address::{Address, Family},
    tables::Device,
};

pub use self::{
    addresses::own_addresses,
    host::{AddressKey, AddressState, Addresses, Host, Link, LinkLayer, Links},
    locals::{Locals, locals},
    pattern::Pattern,
    place::{Place, Reason, place},
    role::{Said, role},
    words::{role_name, xdp_name, xdp_why},
    xdp::{XdpMode, xdp_modes},
};

/// What the devices are judged by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `--devices`; empty: all that fit.
    pub devices: Vec<Pattern>,
    /// What tells uplinks and pods apart.
    pub said: Said,
    /// `--xdp`.
    pub xdp: XdpMode,
    /// Addresses of the node, the first of each family being its primary one, if somebody said.
    pub node: Vec<IpAddr>,
}

/// What should be done with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It gets the programs.
    Attach(Plan),
    /// It does not.
    Skip(Reason),
}

/// What a device with the programs is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the programs must know of it; nothing said about how they are attached.
    pub device: Device,
    /// What its frames begin with, which decides on the programs.
    pub layer: LinkLayer,
    /// How XDP is tried, see [`xdp_modes`].
    pub xdp: &'static [u32],
}

/// What should be done with every device of `host`.
pub fn wanted(host: &Host, rules: &Rules) -> BTreeMap<u32, Wanted> {
    let placed: Vec<(&Link, Place, u32)> = host
        .links
        .values()
        .map(|link| {
            let place = place(link, host, &rules.devices);
            (link, place, role(link, host, &rules.said))
        })
        .collect();
    let primary = |family| {
        // A device without programs has an address all the same.
        let uplinks = placed
            .iter()
            .filter(|(link, _, role)| role & Device::UPLINK != 0 && !link.is_loopback)
            .map(|(link, ..)| link.index);
        addresses::primary(host, family, &rules.node, uplinks)
    };
    let primaries = [primary(Family::V4), primary(Family::V6)];
    let decide = |(link, place, role): &(&Link, Place, u32)| {
        let wanted = match *place {
            Place::Skip(reason) => Wanted::Skip(reason),
            Place::Attach { bridge } => Wanted::Attach(Plan {
                device: Device {
                    bridge,
                    role: *role,
                    v4: source(link, host, rules, primaries[0]),
                    v6: source(link, host, rules, primaries[1]),
                    ..Device::default()
                },
                layer: link.layer,
                xdp: xdp_modes(link, *role, rules.xdp),
            }),
        };
        (link.index, wanted)
    };
    placed.iter().map(decide).collect()
}

fn source<A: Address>(link: &Link, host: &Host, rules: &Rules, primary: Option<IpAddr>) -> A {
    addresses::source(link, host, A::FAMILY, &rules.node, primary)
        .and_then(A::from_ip)
        .unwrap_or_default()
}
