//! Addresses of both families behind one trait: the type parameter of the whole datapath.
//!
//! The kernel side is written once, generic over [`Address`], and compiled once for [`V4`] and once for
//! [`V6`]. Values are kept in network byte order, as they stand in the packet, because nothing on the
//! packet's path needs them otherwise.

use core::{
    fmt::{self, Debug, Display},
    hash::Hash,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An IP family, numbered as its version field in the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

impl Family {
    /// Both families, in the order in which they are listed to users.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family that `ip` belongs to. An IPv4-mapped IPv6 address is an IPv6 address.
    pub const fn of(ip: &IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The name Kubernetes uses in `ipFamilies` and `addressType`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// An address of one family, in network byte order.
pub trait Address:
    sealed::Sealed + Copy + Eq + Ord + Hash + Debug + Default + Send + Sync + 'static
{
    /// Which family this is.
    const FAMILY: Family;

    /// This address, if `ip` is of this family.
    fn from_ip(ip: IpAddr) -> Option<Self>;

    /// The address as the standard library knows it.
    fn to_ip(self) -> IpAddr;

    /// The 32-bit words in network byte order; the last one is the only one of an IPv4 address.
    fn words(&self) -> &[u32];
}

/// An IPv4 address, network byte order.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct V4(pub u32);

/// An IPv6 address as four words, each in network byte order.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct V6(pub [u32; 4]);

impl Address for V4 {
    const FAMILY: Family = Family::V4;

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(ip.into()),
            IpAddr::V6(_) => None,
        }
    }

    fn to_ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(u32::from_be(self.0)))
    }

    #[inline(always)]
    fn words(&self) -> &[u32] {
        core::slice::from_ref(&self.0)
    }
}

impl Address for V6 {
    const FAMILY: Family = Family::V6;

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(ip.into()),
        }
    }

    fn to_ip(self) -> IpAddr {
        let [a, b, c, d] = self.0.map(|word| u128::from(u32::from_be(word)));
        IpAddr::V6(Ipv6Addr::from(a << 96 | b << 64 | c << 32 | d))
    }

    #[inline(always)]
    fn words(&self) -> &[u32] {
        &self.0
    }
}

impl From<Ipv4Addr> for V4 {
    fn from(ip: Ipv4Addr) -> Self {
        Self(u32::from(ip).to_be())
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(ip: Ipv6Addr) -> Self {
        let octets = ip.octets();
        let word =
            |i: usize| u32::from_ne_bytes([octets[i], octets[i + 1], octets[i + 2], octets[i + 3]]);
        Self([word(0), word(4), word(8), word(12)])
    }
}

impl Debug for V4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.to_ip(), f)
    }
}

impl Debug for V6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.to_ip(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_in_memory_as_on_the_wire() {
        let v4 = V4::from(Ipv4Addr::new(10, 96, 0, 1));
        assert_eq!(v4.0.to_ne_bytes(), [10, 96, 0, 1]);
        let ip: Ipv6Addr = "fd00:10::1:2".parse().unwrap();
        let v6 = V6::from(ip);
        let bytes: std::vec::Vec<u8> = v6.words().iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(bytes, ip.octets());
    }

    #[test]
    fn addresses_convert_both_ways() {
        for text in ["0.0.0.0", "10.96.0.1", "255.255.255.255"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(V4::from_ip(ip).unwrap().to_ip(), ip);
            assert_eq!(V6::from_ip(ip), None);
        }
        for text in [
            "::",
            "fd00::1",
            "::ffff:10.0.0.1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(V6::from_ip(ip).unwrap().to_ip(), ip);
            assert_eq!(V4::from_ip(ip), None);
        }
    }
}
