//! The nouns: what the kernel has said of its devices and their addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

/// What frames of a device begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// The IP header itself: wireguard, tun, ipip, sit, gre, ppp.
    Ip,
    /// Something else (CAN, InfiniBand, ...).
    Other,
}

/// What is known of a network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// ifindex.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND`: `veth`, `bridge`, `vxlan`, ...; empty for a physical device.
    pub kind: String,
    /// What frames begin with.
    pub layer: LinkLayer,
    /// Whether this is a loopback device.
    pub is_loopback: bool,
    /// ifindex of the bridge, bond, VRF, ... this is a port of.
    pub master: Option<u32>,
    /// Whether the device it is paired with or stands on is in another network namespace
    /// (`IFLA_LINK_NETNSID`).
    pub is_peer_elsewhere: bool,
}

/// All devices of a network namespace, by ifindex.
pub type Links = BTreeMap<u32, Link>;

/// Which address of which device: what makes two of them one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressKey {
    /// ifindex.
    pub device: u32,
    /// The device's own address (`IFA_LOCAL`, not a tunnel's other end).
    pub ip: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
}

impl AddressKey {
    /// Whether the prefix names more than the address itself.
    pub fn has_network(&self) -> bool {
        self.prefix < if self.ip.is_ipv4() { 32 } else { 128 }
    }
}

/// What else is known of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressState {
    /// Whether it is good for this link or this host only (`RT_SCOPE_LINK` and below).
    pub is_scoped: bool,
    /// IPv4: another address of its network came first. IPv6: it is temporary (RFC 8981).
    pub is_secondary: bool,
    /// Its preferred lifetime is over (RFC 4862, 5.5.4).
    pub is_deprecated: bool,
    /// It may turn out to be somebody else's, or has (RFC 4862, 5.4): nothing is answered for it.
    pub is_tentative: bool,
}

/// All addresses of a network namespace.
pub type Addresses = BTreeMap<AddressKey, AddressState>;

/// What the kernel has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its devices.
    pub links: Links,
    /// Their addresses.
    pub addresses: Addresses,
    /// Devices that packets to the rest of the world leave by, by ifindex.
    pub ways_out: BTreeSet<u32>,
}

impl Host {
    /// Where no way leads out any more, those that did are still the ones: a cable is pulled and put in again, or
    /// routes are about to be written anew. Whoever came in by them meanwhile would be taken for a pod.
    pub fn keep_ways_out(&mut self, former: BTreeSet<u32>) {
        if self.ways_out.is_empty() {
            self.ways_out = former;
        }
    }

    /// The addresses of a device.
    pub fn addresses_of(&self, device: u32) -> impl Iterator<Item = (&AddressKey, &AddressState)> {
        let first = AddressKey {
            device,
            ip: Ipv4Addr::UNSPECIFIED.into(),
            prefix: 0,
        };
        self.addresses
            .range(first..)
            .take_while(move |(key, _)| key.device == device)
    }

    /// The ports of a bridge, bond, ...
    pub fn ports_of(&self, index: u32) -> impl Iterator<Item = &Link> {
        self.links
            .values()
            .filter(move |port| port.master == Some(index))
    }

    /// What a device is a port of, if that is known.
    pub fn master_of(&self, link: &Link) -> Option<&Link> {
        link.master.and_then(|index| self.links.get(&index))
    }
}

/// Whether the address is good for one link only.
pub(super) const fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
