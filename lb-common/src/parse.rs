//! From bytes to what the datapath decides on: the tuple of a packet and where its headers stand.
//!
//! `None` everywhere means "none of ours": malformed, truncated, not IP, not TCP, UDP or SCTP, or an ICMP
//! message that is not an error about one of them. Such packets are left exactly as they are.

use crate::{
    cursor::Cursor,
    flow::FlowKey,
    headers::{Eth, Icmp, Ports, Sctp, Tcp, Udp, Vlan, ethertype, len, proto},
    ip::{Fragment, Ip, L3},
    join::join_ways,
    pieces::has_header,
    wide::Wide,
};

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

/// A TCP, UDP or SCTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport<A> {
    /// Addresses, ports, protocol.
    pub tuple: FlowKey<A>,
    /// Offset of the IP header, in bytes.
    pub l3: u16,
    /// Offset of the transport header, in bytes.
    pub l4: u16,
    /// TCP flags; for SCTP [`Sctp::flags`]; 0 for UDP.
    pub flags: u8,
    /// 1 if further pieces follow that have no ports (rule 98), else 0. A number, because a comparison is a fork of ways
    /// on BPF.
    pub fragment: u8,
}

impl<A> Transport<A> {
    /// Offset of the transport checksum, in bytes.
    #[inline(always)]
    pub const fn checksum_offset(&self) -> u16 {
        self.l4 + checksum_offset(self.tuple.proto)
    }

    /// Whether further pieces follow that have no ports.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        self.fragment != 0
    }

    /// TCP.
    #[inline(always)]
    pub const fn is_tcp(&self) -> bool {
        self.tuple.proto == proto::TCP as u32
    }

    /// UDP: the one without connections, whose flows may go on to another endpoint.
    #[inline(always)]
    pub const fn is_udp(&self) -> bool {
        self.tuple.proto == proto::UDP as u32
    }

    /// SCTP.
    #[inline(always)]
    pub const fn is_sctp(&self) -> bool {
        self.tuple.proto == proto::SCTP as u32
    }

    /// A TCP segment that opens a connection, or an SCTP packet that opens an association.
    #[inline(always)]
    pub const fn is_open(&self) -> bool {
        self.flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN
    }
}

/// Where the checksum stands in a transport header, in bytes.
#[inline(always)]
pub const fn checksum_offset(protocol: u32) -> u16 {
    if protocol == proto::TCP as u32 {
        Tcp::CHECKSUM_OFFSET
    } else if protocol == proto::UDP as u32 {
        Udp::CHECKSUM_OFFSET
    } else {
        Sctp::CHECKSUM_OFFSET
    }
}

/// Whether flows of this protocol are ours.
#[inline(always)]
const fn is_transport(protocol: u8) -> bool {
    matches!(protocol, proto::TCP | proto::UDP | proto::SCTP)
}

/// An ICMP error about a TCP, UDP or SCTP packet.
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
    /// Offset of the embedded transport header, of which eight bytes may be all there is.
    pub inner_l4: u16,
    /// Offset of the end of the message, in bytes: what follows in the frame is not under its checksum.
    pub end: u32,
    /// The tuple of the embedded packet, as its sender's peer saw it.
    pub inner: FlowKey<A>,
}

/// A packet that may concern us.
///
/// The order matters: were ICMP's place here its protocol number, 1, the compiler would take the one for the other, in a
/// copy of which the verifier of Linux 6.1 does not know that it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<A> {
    /// TCP, UDP or SCTP.
    Transport(Transport<A>),
    /// A piece of a packet that has no ports, of whatever protocol ([`Ip::parse_piece`]).
    Piece,
    /// ICMP: [`parse_icmp_error`] tells whether it is an error about one of these.
    Icmp,
}

/// Reads the packet whose IP header stands at byte `l3`.
#[inline(always)]
pub fn parse<A: Ip>(cursor: &Cursor<'_>, l3: u16) -> Option<Packet<A>> {
    let ip = A::parse_l3(cursor, l3)?;
    if !matches!(ip.fragment, Fragment::Whole)
        && (matches!(ip.fragment, Fragment::Later) || !has_header(&ip))
    {
        return Some(Packet::Piece);
    }
    let flags = match ip.proto {
        proto::TCP => cursor.get::<Tcp>(ip.payload)?.flags,
        proto::UDP => {
            cursor.get::<Udp>(ip.payload)?;
            0
        }
        proto::SCTP => {
            let sctp = cursor.get::<Sctp>(ip.payload)?;
            // Its checksum is over as much as the IP header says there is.
            if u32::from(ip.payload + len::<Sctp>()) > ip.end {
                return None;
            }
            sctp.flags()
        }
        icmp if icmp == A::ICMP => return Some(Packet::Icmp),
        _ => return None,
    };
    let ports = cursor.get::<Wide<Ports>>(ip.payload)?.get();
    // Three protocols, whole or not: from here on the verifier follows a packet of any.
    let is_fragment = matches!(ip.fragment, Fragment::First);
    let joined =
        join_ways(u32::from(ip.proto) | u32::from(flags) << 8 | u32::from(is_fragment) << 16);
    let [proto, flags, fragment, _] = joined.to_le_bytes();
    Some(Packet::Transport(Transport {
        tuple: tuple(&ip, ports, u32::from(proto)),
        l3,
        l4: ip.payload,
        flags,
        fragment,
    }))
}

/// Reads the ICMP packet whose IP header stands at byte `l3`, if it is an error about TCP,
/// UDP or SCTP.
#[inline(always)]
pub fn parse_icmp_error<A: Ip>(cursor: &Cursor<'_>, l3: u16) -> Option<IcmpError<A>> {
    let ip = A::parse_l3(cursor, l3)?;
    let icmp = cursor.get::<Icmp>(ip.payload)?;
    if !A::is_icmp_error(icmp.kind) || matches!(ip.fragment, Fragment::First) {
        return None;
    }
    let inner_l3 = ip.payload + len::<Icmp>();
    let inner = A::parse_l3(cursor, inner_l3)?;
    if matches!(inner.fragment, Fragment::Later) || !is_transport(inner.proto) {
        return None;
    }
    let ports = cursor.get::<Wide<Ports>>(inner.payload)?.get();
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
        inner: tuple(&inner, ports, u32::from(join_ways(inner.proto))),
    })
}

/// An echo request, or a later piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<A> {
    /// Who is asked.
    pub dst: A,
    /// Offset of the ICMP header, in bytes; 0: a later piece has none.
    pub icmp: u16,
}

/// Reads the packet whose IP header stands at byte `l3`, if it is an echo request. A later piece is taken for one: that
/// it is ICMP must be known.
#[inline(always)]
pub fn parse_echo<A: Ip>(cursor: &Cursor<'_>, l3: u16) -> Option<Echo<A>> {
    let ip = A::parse_l3(cursor, l3)?;
    let mut echo = Echo {
        dst: ip.dst,
        icmp: 0,
    };
    if !matches!(ip.fragment, Fragment::Later) {
        if cursor.get::<Icmp>(ip.payload)?.kind != A::ECHO.0 || !has_header(&ip) {
            return None;
        }
        echo.icmp = ip.payload;
    }
    Some(echo)
}

#[inline(always)]
fn tuple<A: Ip>(ip: &L3<A>, ports: Ports, proto: u32) -> FlowKey<A> {
    FlowKey {
        src: ip.src,
        dst: ip.dst,
        sport: ports.src,
        dport: ports.dst,
        proto,
    }
}
