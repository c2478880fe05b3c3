//! Headers as they stand on the wire: packed, alignment 2, fields in network byte order.
//!
//! Addresses and ports are words, see [`Wide`].

use crate::{
    address::{V4, V6},
    cursor::Wire,
    wide::Wide,
};

/// EtherTypes (IEEE 802), network byte order.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800u16.to_be();
    /// IPv6.
    pub const IPV6: u16 = 0x86ddu16.to_be();
    /// 802.1Q tag.
    pub const VLAN: u16 = 0x8100u16.to_be();
    /// 802.1ad service tag.
    pub const QINQ: u16 = 0x88a8u16.to_be();
}

/// IP protocol numbers (IANA).
pub mod proto {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// IPv6 authentication header.
    pub const AUTH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DEST_OPTS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// A header's length in bytes.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "headers have a few dozen bytes"
)]
pub const fn len<T>() -> u16 {
    size_of::<T>() as u16
}

/// Ethernet II header.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Eth {
    /// Destination MAC.
    pub dst: [u16; 3],
    /// Source MAC.
    pub src: [u16; 3],
    /// EtherType, network byte order.
    pub ethertype: u16,
}

/// What follows an 802.1Q EtherType.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Vlan {
    /// Priority and VLAN id, network byte order.
    pub tci: u16,
    /// EtherType of what is tagged, network byte order.
    pub ethertype: u16,
}

/// IPv4 header without options (RFC 791).
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Ipv4 {
    /// Version (high nibble, 4) and header length in words (low nibble, 5 or more).
    pub version_ihl: u8,
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload in bytes.
    pub total_len: u16,
    /// Identification, for fragments.
    pub id: u16,
    /// Flags and fragment offset in 8-byte units.
    pub frag: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub proto: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source address.
    pub src: Wide<V4>,
    /// Destination address.
    pub dst: Wide<V4>,
}

impl Ipv4 {
    /// `frag`: more fragments follow.
    pub const MORE_FRAGMENTS: u16 = 0x2000u16.to_be();
    /// `frag`: may not be fragmented.
    pub const DONT_FRAGMENT: u16 = 0x4000u16.to_be();
    /// `frag`: mask of the fragment offset.
    pub const OFFSET: u16 = 0x1fffu16.to_be();
}

/// IPv6 header (RFC 8200).
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Ipv6 {
    /// Version, traffic class, flow label.
    pub version_class_flow: u32,
    /// Length of what follows this header, in bytes.
    pub payload_len: u16,
    /// Type of the header that follows.
    pub next: u8,
    /// Hop limit.
    pub hops: u8,
    /// Source address.
    pub src: Wide<V6>,
    /// Destination address.
    pub dst: Wide<V6>,
}

/// Start of an IPv6 extension header other than the fragment header.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Ipv6Extension {
    /// Type of the header that follows.
    pub next: u8,
    /// Length: in 8-byte units without the first (RFC 8200), in 4-byte units minus 2 for the
    /// authentication header (RFC 4302).
    pub len: u8,
}

/// IPv6 fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Ipv6Fragment {
    /// Type of the header that follows.
    pub next: u8,
    /// Reserved.
    pub reserved: u8,
    /// Fragment offset in 8-byte units (high 13 bits) and the more-fragments flag (lowest bit).
    pub frag: u16,
    /// Identification.
    pub id: u32,
}

impl Ipv6Fragment {
    /// `frag`: more fragments follow.
    pub const MORE_FRAGMENTS: u16 = 1u16.to_be();
    /// `frag`: mask of the fragment offset.
    pub const OFFSET: u16 = 0xfff8u16.to_be();
}

/// The ports, with which TCP, UDP and SCTP headers begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(2))]
pub struct Ports {
    /// Source port.
    pub src: u16,
    /// Destination port.
    pub dst: u16,
}

impl Ports {
    /// Of the word that they stand in.
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        let [a, b, c, d] = word.to_ne_bytes();
        Self {
            src: u16::from_ne_bytes([a, b]),
            dst: u16::from_ne_bytes([c, d]),
        }
    }

    /// The word that they stand in.
    #[inline(always)]
    pub const fn to_word(self) -> u32 {
        let ([a, b], [c, d]) = (self.src.to_ne_bytes(), self.dst.to_ne_bytes());
        u32::from_ne_bytes([a, b, c, d])
    }
}

/// TCP header without options (RFC 9293).
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Tcp {
    /// Ports.
    pub ports: Wide<Ports>,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Header length in words (high nibble).
    pub data_offset: u8,
    /// Flags: constants below.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Checksum over pseudo-header, header and data.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent: u16,
}

impl Tcp {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Resets the connection.
    pub const RST: u8 = 0x04;
    /// `ack` is valid.
    pub const ACK: u8 = 0x10;
    /// Offset of the checksum in the header, in bytes.
    pub const CHECKSUM_OFFSET: u16 = 16;
}

/// UDP header (RFC 768).
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Udp {
    /// Ports.
    pub ports: Wide<Ports>,
    /// Length of header and data.
    pub len: u16,
    /// Checksum; 0: none.
    pub checksum: u16,
}

impl Udp {
    /// Offset of the checksum in the header, in bytes.
    pub const CHECKSUM_OFFSET: u16 = 6;
}

/// SCTP common header and the start of the first chunk (RFC 9260, section 3).
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Sctp {
    /// Ports.
    pub ports: Wide<Ports>,
    /// Verification tag; 0 with INIT.
    pub tag: u32,
    /// CRC32c of the packet, see [`crate::crc32c`]; least significant byte first.
    pub checksum: u32,
    /// Type of the first chunk: constants below.
    pub chunk: u8,
    /// Flags of that chunk.
    pub chunk_flags: u8,
    /// Its length.
    pub chunk_len: u16,
}

impl Sctp {
    /// Offset of the checksum in the header, in bytes.
    pub const CHECKSUM_OFFSET: u16 = 8;
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// Answers an INIT.
    pub const INIT_ACK: u8 = 2;
    /// Ends an association at once.
    pub const ABORT: u8 = 6;
    /// The last word of one that ends in good order.
    pub const SHUTDOWN_COMPLETE: u8 = 14;

    /// What the first chunk says about the association, in TCP's words ([`Tcp::SYN`] and so on): a flow is
    /// followed by these alone.
    #[inline(always)]
    pub const fn flags(&self) -> u8 {
        match self.chunk {
            Self::INIT => Tcp::SYN,
            Self::INIT_ACK => Tcp::SYN | Tcp::ACK,
            Self::ABORT | Self::SHUTDOWN_COMPLETE => Tcp::RST,
            _ => Tcp::ACK,
        }
    }
}

/// ICMP and ICMPv6 header of an error message; what follows is the packet it is about.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(2))]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: u16,
    /// Type-specific: the MTU, a pointer, or nothing.
    pub rest: u32,
}

impl Icmp {
    /// Offset of the checksum in the header, in bytes.
    pub const CHECKSUM_OFFSET: u16 = 2;
}

// SAFETY: each is repr(C, packed(2)): alignment 1, no padding; fields are integers or transparent over them.
unsafe impl Wire for Eth {}
// SAFETY: as above.
unsafe impl Wire for Vlan {}
// SAFETY: as above.
unsafe impl Wire for Ipv4 {}
// SAFETY: as above.
unsafe impl Wire for Ipv6 {}
// SAFETY: as above.
unsafe impl Wire for Ipv6Extension {}
// SAFETY: as above.
unsafe impl Wire for Ipv6Fragment {}
// SAFETY: as above.
unsafe impl Wire for Wide<Ports> {}
// SAFETY: as above.
unsafe impl Wire for Tcp {}
// SAFETY: as above.
unsafe impl Wire for Udp {}
// SAFETY: as above.
unsafe impl Wire for Sctp {}
// SAFETY: as above.
unsafe impl Wire for Icmp {}

const _: () = {
    assert!(size_of::<Eth>() == 14);
    assert!(size_of::<Vlan>() == 4);
    assert!(size_of::<Ipv4>() == 20);
    assert!(size_of::<Ipv6>() == 40);
    assert!(size_of::<Ipv6Extension>() == 2);
    assert!(size_of::<Ipv6Fragment>() == 8);
    assert!(size_of::<Wide<Ports>>() == 4);
    assert!(size_of::<Tcp>() == 20);
    assert!(size_of::<Udp>() == 8);
    assert!(size_of::<Sctp>() == 16);
    assert!(size_of::<Icmp>() == 8);
};
