//! From bytes to what the datapath decides on: the tuple of a packet and where its headers stand.
//!
//! `None` everywhere means "none of ours": malformed, truncated, not IP, not TCP or UDP, or an ICMP
//! message that is not an error about either. Such packets are left exactly as they are. The IP family
//! is a type parameter; what differs between the two is [`Ip`] and nothing else.

use crate::{
    address::{Address, V4, V6},
    checksum::Delta,
    cursor::{Cursor, join_ways},
    flow::FlowKey,
    headers::{
        Eth, Icmp, Ipv4, Ipv6, Ipv6Extension, Ipv6Fragment, Ports, Tcp, Udp, Vlan, ethertype, proto,
    },
};

/// Extension headers followed before giving up; RFC 8200 knows four kinds that may precede a transport
/// header, each meant to occur once (destination options twice).
const MAX_EXTENSIONS: usize = 5;

/// The IP header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L3<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol of the payload, extension headers skipped.
    pub proto: u8,
    /// Offset of the payload in the packet, in bytes.
    pub payload: u16,
    /// Offset of the end of the payload by what the header says, in bytes; a frame may be longer.
    pub end: u32,
    /// Whether this is a piece of a packet.
    pub fragment: Fragment,
}

/// Which piece of a packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The whole packet.
    Whole,
    /// The first piece: has the transport header.
    First,
    /// A later piece: has no ports (rule 98).
    Later,
}

/// Source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Source.
    Src,
    /// Destination.
    Dst,
}

/// What differs between the two IP families on the wire.
pub trait Ip: Address {
    /// Protocol number of this family's ICMP.
    const ICMP: u8;

    /// Whether the sum of the pseudo-header is part of this family's ICMP checksum.
    const ICMP_PSEUDO_HEADER: bool;

    /// Reads the IP header at byte `offset`.
    fn parse_l3(cursor: &Cursor<'_>, offset: u16) -> Option<L3<Self>>;

    /// Writes an address of the IP header at byte `offset`, `delta` being the change of address, and
    /// returns what that changed in a header checksum.
    fn set_address(
        cursor: &mut Cursor<'_>,
        offset: u16,
        side: Side,
        to: Self,
        delta: Delta,
    ) -> Option<Delta>;

    /// Whether an ICMP message of this type is about a packet whose tuple must be translated (rule 97).
    /// Redirects are not: the route they name is not the VIP's.
    fn is_icmp_error(kind: u8) -> bool;
}

impl Ip for V4 {
    const ICMP: u8 = proto::ICMP;
    const ICMP_PSEUDO_HEADER: bool = false;

    #[inline(always)]
    fn parse_l3(cursor: &Cursor<'_>, offset: u16) -> Option<L3<Self>> {
        let header = cursor.get::<Ipv4>(offset)?;
        // Compared rather than subtracted from: the verifier follows a comparison.
        let ihl = u16::from(header.version_ihl & 0xf);
        if header.version_ihl >> 4 != 4 || ihl < 5 {
            return None;
        }
        let fragment = if header.frag & Ipv4::OFFSET != 0 {
            Fragment::Later
        } else if header.frag & Ipv4::MORE_FRAGMENTS != 0 {
            Fragment::First
        } else {
            Fragment::Whole
        };
        Some(L3 {
            src: header.src,
            dst: header.dst,
            proto: header.proto,
            payload: join_ways(offset + ihl * 4),
            end: u32::from(offset) + u32::from(u16::from_be(header.total_len)),
            fragment,
        })
    }

    #[inline(always)]
    fn set_address(
        cursor: &mut Cursor<'_>,
        offset: u16,
        side: Side,
        to: Self,
        delta: Delta,
    ) -> Option<Delta> {
        let header = cursor.get_mut::<Ipv4>(offset)?;
        match side {
            Side::Src => header.src = to,
            Side::Dst => header.dst = to,
        }
        let before = header.checksum;
        header.checksum = delta.apply(before);
        Some(Delta::new().replace_u16(before, header.checksum))
    }

    /// Destination unreachable, source quench, time exceeded, parameter problem (RFC 792).
    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 3 | 4 | 11 | 12)
    }
}

impl Ip for V6 {
    const ICMP: u8 = proto::ICMPV6;
    const ICMP_PSEUDO_HEADER: bool = true;

    #[inline(always)]
    fn parse_l3(cursor: &Cursor<'_>, offset: u16) -> Option<L3<Self>> {
        let header = cursor.get::<Ipv6>(offset)?;
        if header.version_class_flow.to_ne_bytes()[0] >> 4 != 6 {
            return None;
        }
        let mut l3 = L3 {
            src: header.src,
            dst: header.dst,
            proto: header.next,
            payload: offset + len::<Ipv6>(),
            end: u32::from(offset + len::<Ipv6>()) + u32::from(u16::from_be(header.payload_len)),
            fragment: Fragment::Whole,
        };
        if !matches!(l3.proto, proto::TCP | proto::UDP | proto::ICMPV6) {
            let mut chain = Chain {
                next: l3.proto,
                end: l3.payload,
                fragment: l3.fragment,
            };
            if !chain.follow(cursor) {
                return None;
            }
            (l3.proto, l3.payload, l3.fragment) = (chain.next, chain.end, chain.fragment);
        }
        l3.payload = join_ways(l3.payload);
        Some(l3)
    }

    #[inline(always)]
    fn set_address(
        cursor: &mut Cursor<'_>,
        offset: u16,
        side: Side,
        to: Self,
        _: Delta,
    ) -> Option<Delta> {
        let header = cursor.get_mut::<Ipv6>(offset)?;
        match side {
            Side::Src => header.src = to,
            Side::Dst => header.dst = to,
        }
        Some(Delta::new())
    }

    /// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }
}

/// A chain of IPv6 extension headers (RFC 8200), as far as it was followed.
struct Chain {
    /// Type of the header at `end`.
    next: u8,
    /// Offset of what follows the chain, in bytes.
    end: u16,
    fragment: Fragment,
}

impl Chain {
    /// Goes to the end of the chain; false if it cannot be followed. A function of its own, being rare
    /// and not small; a boolean, since BPF type information has no words for an `Option` of this.
    #[inline(never)]
    fn follow(&mut self, cursor: &Cursor<'_>) -> bool {
        // Once more than there are headers: the last step sees that the chain is at its end.
        for _ in 0..=MAX_EXTENSIONS {
            match self.step(cursor) {
                Some(true) => self.end = join_ways(self.end),
                Some(false) => return true,
                None => return false,
            }
        }
        // A chain that is longer than any host sends.
        false
    }

    /// Over one header; `Some(false)` if the chain is at its end. An authentication header is such an
    /// end, and not TCP or UDP, rightly: what it signs cannot be rewritten.
    #[inline(always)]
    fn step(&mut self, cursor: &Cursor<'_>) -> Option<bool> {
        match self.next {
            proto::HOP_BY_HOP | proto::DEST_OPTS | proto::ROUTING => {
                let extension = cursor.read::<Ipv6Extension>(self.end)?;
                if self.next == proto::ROUTING {
                    // Segments left: the address in the header is not where the packet ends.
                    let [_, _, _, left] = cursor.read::<[u8; 4]>(self.end)?;
                    if left != 0 {
                        return None;
                    }
                }
                self.next = extension.next;
                self.end += (u16::from(extension.len) + 1) * 8;
                Some(true)
            }
            proto::FRAGMENT => {
                let header = cursor.read::<Ipv6Fragment>(self.end)?;
                if header.frag & Ipv6Fragment::OFFSET != 0 {
                    self.fragment = Fragment::Later;
                    return Some(false);
                }
                if header.frag & Ipv6Fragment::MORE_FRAGMENTS != 0 {
                    self.fragment = Fragment::First;
                }
                self.next = header.next;
                self.end += len::<Ipv6Fragment>();
                Some(true)
            }
            _ => Some(false),
        }
    }
}

/// The link layer of a packet: what it carries and where that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2 {
    /// EtherType behind any VLAN tags, network byte order.
    pub ethertype: u16,
    /// Offset of what it carries, in bytes.
    pub payload: u16,
}

/// Reads the Ethernet header and up to two VLAN tags (802.1Q, 802.1ad).
#[inline(always)]
pub fn parse_l2(cursor: &Cursor<'_>) -> Option<L2> {
    let mut l2 = L2 {
        ethertype: cursor.get::<Eth>(0)?.ethertype,
        payload: len::<Eth>(),
    };
    for _ in 0..2 {
        if !matches!(l2.ethertype, ethertype::VLAN | ethertype::QINQ) {
            break;
        }
        l2.ethertype = cursor.get::<Vlan>(l2.payload)?.ethertype;
        l2.payload += len::<Vlan>();
    }
    l2.payload = join_ways(l2.payload);
    Some(l2)
}

/// A TCP or UDP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport<A> {
    /// Addresses, ports, protocol.
    pub tuple: FlowKey<A>,
    /// Offset of the IP header, in bytes.
    pub l3: u16,
    /// Offset of the TCP or UDP header, in bytes.
    pub l4: u16,
    /// TCP flags; 0 for UDP.
    pub flags: u8,
    /// Whether further pieces follow that have no ports.
    pub is_fragment: bool,
}

impl<A> Transport<A> {
    /// Offset of the TCP or UDP checksum, in bytes.
    #[inline(always)]
    pub const fn checksum_offset(&self) -> u16 {
        self.l4 + checksum_offset(self.tuple.proto)
    }

    /// TCP; else it is UDP.
    #[inline(always)]
    pub const fn is_tcp(&self) -> bool {
        self.tuple.proto == proto::TCP as u32
    }

    /// A TCP segment that opens a connection.
    #[inline(always)]
    pub const fn is_open(&self) -> bool {
        self.flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN
    }
}

/// Where the checksum stands in a TCP or UDP header, in bytes.
#[inline(always)]
pub const fn checksum_offset(protocol: u32) -> u16 {
    if protocol == proto::TCP as u32 {
        Tcp::CHECKSUM_OFFSET
    } else {
        Udp::CHECKSUM_OFFSET
    }
}

/// An ICMP error about a TCP or UDP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError<A> {
    /// Who sent the error.
    pub src: A,
    /// Who is told.
    pub dst: A,
    /// Offset of the outer IP header, in bytes.
    pub l3: u16,
    /// Offset of the ICMP header, in bytes.
    pub icmp: u16,
    /// Offset of the embedded IP header, in bytes.
    pub inner_l3: u16,
    /// Offset of the embedded TCP or UDP header, of which eight bytes may be all there is.
    pub inner_l4: u16,
    /// Offset of the end of the message, in bytes: what follows in the frame is not under its checksum.
    pub end: u32,
    /// The tuple of the embedded packet, as its sender's peer saw it.
    pub inner: FlowKey<A>,
}

/// A packet that may concern us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<A> {
    /// TCP or UDP.
    Transport(Transport<A>),
    /// ICMP: [`parse_icmp_error`] tells whether it is an error about TCP or UDP.
    Icmp,
}

/// A header's length in bytes.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "headers have a few dozen bytes"
)]
const fn len<T>() -> u16 {
    size_of::<T>() as u16
}

/// Reads the packet whose IP header stands at byte `l3`.
#[inline(always)]
pub fn parse<A: Ip>(cursor: &Cursor<'_>, l3: u16) -> Option<Packet<A>> {
    let ip = A::parse_l3(cursor, l3)?;
    if matches!(ip.fragment, Fragment::Later) {
        return None;
    }
    let (ports, flags) = match ip.proto {
        proto::TCP => {
            let tcp = cursor.get::<Tcp>(ip.payload)?;
            (tcp.ports, tcp.flags)
        }
        proto::UDP => (cursor.get::<Udp>(ip.payload)?.ports, 0),
        icmp if icmp == A::ICMP => return Some(Packet::Icmp),
        _ => return None,
    };
    Some(Packet::Transport(Transport {
        tuple: tuple(&ip, ports),
        l3,
        l4: ip.payload,
        flags,
        is_fragment: matches!(ip.fragment, Fragment::First),
    }))
}

/// Reads the ICMP packet whose IP header stands at byte `l3`, if it is an error about TCP or UDP.
#[inline(always)]
pub fn parse_icmp_error<A: Ip>(cursor: &Cursor<'_>, l3: u16) -> Option<IcmpError<A>> {
    let ip = A::parse_l3(cursor, l3)?;
    let icmp = cursor.get::<Icmp>(ip.payload)?;
    if !A::is_icmp_error(icmp.kind) || matches!(ip.fragment, Fragment::First) {
        return None;
    }
    let inner_l3 = ip.payload + len::<Icmp>();
    let inner = A::parse_l3(cursor, inner_l3)?;
    if matches!(inner.fragment, Fragment::Later) || !matches!(inner.proto, proto::TCP | proto::UDP)
    {
        return None;
    }
    let ports = cursor.read::<Ports>(inner.payload)?;
    if u32::from(inner.payload + len::<Ports>()) > ip.end {
        return None;
    }
    Some(IcmpError {
        src: ip.src,
        dst: ip.dst,
        l3,
        icmp: ip.payload,
        inner_l3,
        inner_l4: inner.payload,
        end: ip.end,
        inner: tuple(&inner, ports),
    })
}

#[inline(always)]
fn tuple<A: Ip>(ip: &L3<A>, ports: Ports) -> FlowKey<A> {
    FlowKey {
        src: ip.src,
        dst: ip.dst,
        sport: ports.src,
        dport: ports.dst,
        proto: u32::from(ip.proto),
    }
}
