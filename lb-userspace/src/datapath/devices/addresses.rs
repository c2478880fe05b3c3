//! Which address clients get on their way out by a device, if they need another than their own, and which
//! addresses are the node's.
//!
//! An answer must find its way back: to an address of the device itself (a tunnel's other end may check where
//! packets come from, rp_filter), else of what it is a port of, else to the node's primary one. Never link-local, never
//! loopback. Of several, in this order: one that the Node object (or the user) names; one that is not deprecated, for
//! that may be withdrawn; not secondary and not temporary, for those are changed; with a network, for one
//! without may be a virtual address that moves to another node; the lowest, so that it is always the same. An
//! address that is still tentative, or a duplicate, answers nobody and is not taken.

use std::{cmp::Reverse, net::IpAddr};

use lb_common::address::Family;

use crate::model::NodeAddress;

use super::host::{AddressKey, AddressState, Host, Link, is_link_local};

/// How far up from port to bridge to VRF an address is looked for.
const LEVELS: usize = 4;

/// Whether others can send packets to the address.
fn is_usable(key: &AddressKey, state: &AddressState) -> bool {
    !state.is_scoped
        && !state.is_tentative
        && !is_link_local(key.ip)
        && !key.ip.is_loopback()
        && !key.ip.is_unspecified()
}

/// The device's own address of that family to send from; `preferred` are those that the Node object names.
pub(super) fn own(
    device: u32,
    host: &Host,
    family: Family,
    preferred: &[IpAddr],
) -> Option<IpAddr> {
    let rank = |(key, state): &(&AddressKey, &AddressState)| {
        (
            preferred.contains(&key.ip),
            !state.is_deprecated,
            !state.is_secondary,
            key.has_network(),
            Reverse(key.ip),
        )
    };
    host.addresses_of(device)
        .filter(|(key, state)| Family::of(&key.ip) == family && is_usable(key, state))
        .max_by_key(rank)
        .map(|(key, _)| key.ip)
}

/// The node's primary address of that family: the first that the Node object names and that is on some device,
/// else that of the first uplink, in the order of `uplinks`.
pub(super) fn primary(
    host: &Host,
    family: Family,
    preferred: &[IpAddr],
    uplinks: impl Iterator<Item = u32>,
) -> Option<IpAddr> {
    let is_here = |ip: &&IpAddr| {
        let here =
            |(key, state): (&AddressKey, &AddressState)| key.ip == **ip && is_usable(key, state);
        host.addresses.iter().any(here)
    };
    let named = preferred
        .iter()
        .filter(|ip| Family::of(ip) == family)
        .find(is_here);
    named.copied().or_else(|| {
        let mut uplinks = uplinks;
        uplinks.find_map(|device| own(device, host, family, preferred))
    })
}

/// The address to send from by `link`, one of `host`.
pub(super) fn source(
    link: &Link,
    host: &Host,
    family: Family,
    preferred: &[IpAddr],
    primary: Option<IpAddr>,
) -> Option<IpAddr> {
    let mut device = Some(link);
    for _ in 0..LEVELS {
        let Some(link) = device else { break };
        if let Some(ip) = own(link.index, host, family, preferred) {
            return Some(ip);
        }
        device = host.master_of(link);
    }
    primary
}

/// The addresses that the node has, whatever they are good for, each once. Those that nothing is answered for (yet)
/// are not its own, and neither is what kube-proxy in its mode ipvs puts on a device: cluster IPs.
pub fn own_addresses(host: &Host) -> Vec<NodeAddress> {
    let is_own = |(key, state): &(&AddressKey, &AddressState)| {
        let device = host.links.get(&key.device);
        !state.is_tentative && device.is_some_and(|link| link.name != "kube-ipvs0")
    };
    let mut addresses: Vec<_> = host
        .addresses
        .iter()
        .filter(is_own)
        .map(|(key, _)| NodeAddress { ip: key.ip })
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
