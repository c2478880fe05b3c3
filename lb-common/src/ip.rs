//! What differs between the two IP families on the wire: headers, extension headers, ICMP.
//!
//! Everything else in the datapath is generic over [`Ip`] and compiled once for each family.
//!
//! Long because: the two families are to be read side by side.

use crate::{
    address::{Address, V4, V6},
    checksum::{Delta, fold},
    cursor::Cursor,
    headers::{Ipv4, Ipv6, Ipv6Extension, Ipv6Fragment, len, proto},
    join::join_ways,
    opaque::opaque,
    pieces::Piece,
    wide::Wide,
};

/// Extension headers followed before giving up; RFC 8200 knows four kinds that may precede a transport
/// header, each meant to occur once (destination options twice).
const MAX_EXTENSIONS: u32 = 5;

/// Hop limit of packets that we write ourselves, as Linux has it by default.
const HOPS: u8 = 64;

/// Whether what comes next after an IPv6 header is what it carries: what is ours, of that.
#[inline(always)]
const fn has_transport(next: u8) -> bool {
    matches!(next, proto::TCP | proto::UDP | proto::ICMPV6 | proto::SCTP)
}

/// The unfolded sum of 16-bit words.
#[inline(always)]
fn sum_halves<const N: usize>(words: &[u16; N]) -> u64 {
    let mut sum = 0;
    let mut i = 0;
    while i < N {
        sum += u64::from(words[i]);
        i += 1;
    }
    sum
}

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

/// Which piece of a packet this is. No 0: that alone the verifier would remember, see [`join_ways`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fragment {
    /// The whole packet.
    Whole = 1,
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

    /// Types of this family's echo request and reply.
    const ECHO: (u8, u8);

    /// Seconds that a receiver waits for all pieces of a packet (ip_frag_time, IPV6_FRAG_TIMEOUT).
    const REASSEMBLY_SECONDS: u32;

    /// Length of this family's header without options, in bytes.
    const HEADER_LEN: u16;

    /// Type and code of this family's ICMP "port unreachable".
    const PORT_UNREACHABLE: (u8, u8);

    /// Reads the IP header at byte `offset`.
    fn parse_l3(cursor: &Cursor<'_>, offset: u16) -> Option<L3<Self>>;

    /// Whether anything may stand between the IP header at byte `offset` and what it carries, or is out of reach.
    fn has_options(cursor: &Cursor<'_>, offset: u16) -> bool;

    /// Reads the piece of a packet whose IP header stands at byte `offset`; of a whole packet, something.
    fn parse_piece(cursor: &Cursor<'_>, offset: u16) -> Option<Piece<Self>>;

    /// Exchanges the addresses of the header at byte `offset`, for an answer, and gives it all hops, with its checksum;
    /// returns what that changed in the sum of the packet.
    fn turn_round(cursor: &mut Cursor<'_>, offset: u16) -> Option<Delta>;

    /// Writes an address of the IP header at byte `offset`, `delta` being the change of address, and
    /// returns what that changed in a header checksum.
    fn set_address(
        cursor: &mut Cursor<'_>,
        offset: u16,
        side: Side,
        to: Self,
        delta: Delta,
    ) -> Option<Delta>;

    /// Hops that the packet may still make, by the header at byte `offset`.
    fn hops(cursor: &Cursor<'_>, offset: u16) -> Option<u8>;

    /// Takes one of them away, with the header's checksum. There must be one.
    fn take_hop(cursor: &mut Cursor<'_>, offset: u16) -> Option<()>;

    /// Length of what follows the header (without options) at byte `offset`, as the header says.
    fn payload_len(cursor: &Cursor<'_>, offset: u16) -> Option<u16>;

    /// Writes a header without options at byte `offset`, with its checksum if it has one; `length` is
    /// that of what follows.
    fn write_header(
        cursor: &mut Cursor<'_>,
        offset: u16,
        src: Self,
        dst: Self,
        protocol: u8,
        length: u16,
    ) -> Option<()>;

    /// The unfolded sum of the header (without options) at byte `offset`.
    fn header_sum(cursor: &Cursor<'_>, offset: u16) -> Option<u64>;

    /// Whether an ICMP message of this type is about a packet whose tuple must be translated (rule 97).
    /// Redirects are not: the route they name is not the VIP's.
    fn is_icmp_error(kind: u8) -> bool;
}

impl Ip for V4 {
    const ICMP: u8 = proto::ICMP;
    const ICMP_PSEUDO_HEADER: bool = false;
    const ECHO: (u8, u8) = (8, 0);
    const REASSEMBLY_SECONDS: u32 = 30;
    const HEADER_LEN: u16 = len::<Ipv4>();
    const PORT_UNREACHABLE: (u8, u8) = (3, 3);

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
            src: header.src.get(),
            dst: header.dst.get(),
            proto: header.proto,
            payload: join_ways(offset + ihl * 4),
            end: u32::from(offset) + u32::from(u16::from_be(header.total_len)),
            fragment,
        })
    }

    #[inline(always)]
    fn has_options(cursor: &Cursor<'_>, offset: u16) -> bool {
        cursor
            .get::<Ipv4>(offset)
            .is_none_or(|header| header.version_ihl != 0x45)
    }

    #[inline(always)]
    fn parse_piece(cursor: &Cursor<'_>, offset: u16) -> Option<Piece<Self>> {
        let header = cursor.get::<Ipv4>(offset)?;
        let ihl = u16::from(header.version_ihl & 0xf);
        Some(Piece {
            src: header.src.get(),
            dst: header.dst.get(),
            id: u32::from(header.id),
            proto: header.proto,
            is_last: header.frag & Ipv4::MORE_FRAGMENTS == 0,
            offset: u16::from_be(header.frag & Ipv4::OFFSET) << 3,
            len: u16::from_be(header.total_len).wrapping_sub(ihl * 4),
        })
    }

    #[inline(always)]
    fn turn_round(cursor: &mut Cursor<'_>, offset: u16) -> Option<Delta> {
        let header = cursor.get_mut::<Ipv4>(offset)?;
        (header.src, header.dst) = (header.dst, header.src);
        let before = u16::from_ne_bytes([header.ttl, header.proto]);
        header.ttl = HOPS;
        let after = u16::from_ne_bytes([header.ttl, header.proto]);
        header.checksum = Delta::new()
            .replace_u16(before, after)
            .apply(header.checksum);
        Some(Delta::new())
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
            Side::Src => header.src.set(to),
            Side::Dst => header.dst.set(to),
        }
        let before = header.checksum;
        header.checksum = delta.apply(before);
        Some(Delta::new().replace_u16(before, header.checksum))
    }

    #[inline(always)]
    fn hops(cursor: &Cursor<'_>, offset: u16) -> Option<u8> {
        Some(cursor.get::<Ipv4>(offset)?.ttl)
    }

    #[inline(always)]
    fn take_hop(cursor: &mut Cursor<'_>, offset: u16) -> Option<()> {
        let header = cursor.get_mut::<Ipv4>(offset)?;
        let before = u16::from_ne_bytes([header.ttl, header.proto]);
        header.ttl = header.ttl.wrapping_sub(1);
        let after = u16::from_ne_bytes([header.ttl, header.proto]);
        header.checksum = Delta::new()
            .replace_u16(before, after)
            .apply(header.checksum);
        Some(())
    }

    #[inline(always)]
    fn payload_len(cursor: &Cursor<'_>, offset: u16) -> Option<u16> {
        let total = u16::from_be(cursor.get::<Ipv4>(offset)?.total_len);
        Some(total.wrapping_sub(len::<Ipv4>()))
    }

    #[inline(always)]
    fn write_header(
        cursor: &mut Cursor<'_>,
        offset: u16,
        src: Self,
        dst: Self,
        protocol: u8,
        length: u16,
    ) -> Option<()> {
        let header = cursor.get_mut::<Ipv4>(offset)?;
        *header = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_len: (length + len::<Ipv4>()).to_be(),
            id: 0,
            frag: Ipv4::DONT_FRAGMENT,
            ttl: HOPS,
            proto: protocol,
            checksum: 0,
            src: Wide::new(src),
            dst: Wide::new(dst),
        };
        let sum = Self::header_sum(cursor, offset)?;
        cursor.get_mut::<Ipv4>(offset)?.checksum = !fold(sum);
        Some(())
    }

    #[inline(always)]
    fn header_sum(cursor: &Cursor<'_>, offset: u16) -> Option<u64> {
        cursor.get::<[u16; 10]>(offset).map(sum_halves)
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
    const ECHO: (u8, u8) = (128, 129);
    const REASSEMBLY_SECONDS: u32 = 60;
    const HEADER_LEN: u16 = len::<Ipv6>();
    const PORT_UNREACHABLE: (u8, u8) = (1, 4);

    #[inline(always)]
    fn parse_l3(cursor: &Cursor<'_>, offset: u16) -> Option<L3<Self>> {
        let header = cursor.get::<Ipv6>(offset)?;
        if header.version_class_flow.to_ne_bytes()[0] >> 4 != 6 {
            return None;
        }
        let mut l3 = L3 {
            src: header.src.get(),
            dst: header.dst.get(),
            proto: header.next,
            payload: offset + len::<Ipv6>(),
            end: u32::from(offset + len::<Ipv6>()) + u32::from(u16::from_be(header.payload_len)),
            fragment: Fragment::Whole,
        };
        if !has_transport(l3.proto) {
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
    fn has_options(cursor: &Cursor<'_>, offset: u16) -> bool {
        cursor
            .get::<Ipv6>(offset)
            .is_none_or(|header| !has_transport(header.next))
    }

    #[inline(always)]
    fn parse_piece(cursor: &Cursor<'_>, offset: u16) -> Option<Piece<Self>> {
        let header = cursor.get::<Ipv6>(offset)?;
        let start = offset + len::<Ipv6>();
        let mut chain = Chain {
            next: header.next,
            end: start,
            fragment: Fragment::Whole,
        };
        if !chain.find_fragment(cursor) {
            return None;
        }
        let fragment = cursor.get::<Ipv6Fragment>(chain.end)?;
        let headers = chain.end.wrapping_sub(start) + len::<Ipv6Fragment>();
        Some(Piece {
            src: header.src.get(),
            dst: header.dst.get(),
            id: fragment.id,
            proto: fragment.next,
            is_last: fragment.frag & Ipv6Fragment::MORE_FRAGMENTS == 0,
            offset: u16::from_be(fragment.frag & Ipv6Fragment::OFFSET),
            len: u16::from_be(header.payload_len).wrapping_sub(headers),
        })
    }

    #[inline(always)]
    fn turn_round(cursor: &mut Cursor<'_>, offset: u16) -> Option<Delta> {
        let header = cursor.get_mut::<Ipv6>(offset)?;
        (header.src, header.dst) = (header.dst, header.src);
        let before = u16::from_ne_bytes([header.next, header.hops]);
        header.hops = HOPS;
        let after = u16::from_ne_bytes([header.next, header.hops]);
        Some(Delta::new().replace_u16(before, after))
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
            Side::Src => header.src.set(to),
            Side::Dst => header.dst.set(to),
        }
        Some(Delta::new())
    }

    #[inline(always)]
    fn hops(cursor: &Cursor<'_>, offset: u16) -> Option<u8> {
        Some(cursor.get::<Ipv6>(offset)?.hops)
    }

    #[inline(always)]
    fn take_hop(cursor: &mut Cursor<'_>, offset: u16) -> Option<()> {
        let header = cursor.get_mut::<Ipv6>(offset)?;
        header.hops = header.hops.wrapping_sub(1);
        Some(())
    }

    #[inline(always)]
    fn payload_len(cursor: &Cursor<'_>, offset: u16) -> Option<u16> {
        Some(u16::from_be(cursor.get::<Ipv6>(offset)?.payload_len))
    }

    #[inline(always)]
    fn write_header(
        cursor: &mut Cursor<'_>,
        offset: u16,
        src: Self,
        dst: Self,
        protocol: u8,
        length: u16,
    ) -> Option<()> {
        let header = cursor.get_mut::<Ipv6>(offset)?;
        *header = Ipv6 {
            version_class_flow: 0x6000_0000u32.to_be(),
            payload_len: length.to_be(),
            next: protocol,
            hops: HOPS,
            src: Wide::new(src),
            dst: Wide::new(dst),
        };
        Some(())
    }

    #[inline(always)]
    fn header_sum(cursor: &Cursor<'_>, offset: u16) -> Option<u64> {
        cursor.get::<[u16; 20]>(offset).map(sum_halves)
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
                Some(true) => {
                    self.end = join_ways(self.end);
                    self.next = join_ways(self.next);
                    self.fragment = join_ways(self.fragment);
                }
                Some(false) => return true,
                None => return false,
            }
        }
        // A chain that is longer than any host sends.
        false
    }

    /// Goes to the fragment header; false if there is none.
    #[inline(never)]
    fn find_fragment(&mut self, cursor: &Cursor<'_>) -> bool {
        // Left a loop: rare.
        for _ in 0..opaque(MAX_EXTENSIONS + 1) {
            if self.next == proto::FRAGMENT {
                self.end = join_ways(self.end);
                return true;
            }
            if self.step(cursor) != Some(true) {
                return false;
            }
            self.end = join_ways(self.end);
            self.next = join_ways(self.next);
        }
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
