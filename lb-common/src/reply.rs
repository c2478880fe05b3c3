//! Answers that a packet is turned into when it is refused: a TCP reset, or ICMP port unreachable.
//!
//! The hook makes room and turns the frame round; what is written into it is decided here, over the same
//! cursor as everything else. A checksum that is left to the device stays left to the device: then its
//! field holds the pseudo-header's sum ([`ChecksumState::Partial`]).

use crate::{
    checksum::{self, Delta, fold},
    crc32c,
    cursor::Cursor,
    headers::{Icmp, Ports, Tcp, Udp, len, proto},
    ip::Ip,
    opaque::opaque,
    parse::Transport,
    wide::Wide,
};

/// Who completes the transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumState {
    /// It is complete on the wire.
    Complete,
    /// The device does, from the transport header on (`CHECKSUM_PARTIAL`).
    Partial,
}

impl ChecksumState {
    /// Told by what the kernel's helper has made of the field for a change of addresses, which it adds to the sum of the
    /// pseudo-header or takes off a checksum. `None`: the change is none, as one in 65,536 is, and it tells nothing.
    #[inline(always)]
    pub fn told_by(is_udp: bool, before: u16, after: u16, addresses: Delta) -> Option<Self> {
        let complete = if is_udp {
            addresses.apply_udp(before)
        } else {
            addresses.apply(before)
        };
        if after == before {
            None
        } else if after == complete {
            Some(Self::Complete)
        } else {
            Some(Self::Partial)
        }
    }
}

/// What of a refused segment its reset depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    seq: u32,
    ack: u32,
    flags: u8,
    /// Length in sequence space: data, and one for SYN and FIN each.
    length: u32,
}

impl Segment {
    /// Reads the segment of `packet`, before anything is written.
    #[inline(always)]
    pub fn read<A: Ip>(cursor: &Cursor<'_>, packet: &Transport<A>) -> Option<Self> {
        let tcp = cursor.get::<Tcp>(packet.l4)?;
        let payload = A::payload_len(cursor, packet.l3)?;
        let data = u32::from(payload).wrapping_sub(u32::from(tcp.data_offset >> 4) * 4);
        let control = u32::from(tcp.flags & Tcp::SYN != 0) + u32::from(tcp.flags & Tcp::FIN != 0);
        Some(Self {
            seq: u32::from_be(tcp.seq),
            ack: tcp.ack,
            flags: tcp.flags,
            length: data.wrapping_add(control),
        })
    }

    /// Sequence number, acknowledgement number and flags of the answer (RFC 9293, section 3.10.7.1):
    /// numbers in network byte order.
    #[inline(always)]
    const fn answer(&self) -> (u32, u32, u8) {
        if self.flags & Tcp::ACK != 0 {
            (self.ack, 0, Tcp::RST)
        } else {
            (
                0,
                self.seq.wrapping_add(self.length).to_be(),
                Tcp::RST | Tcp::ACK,
            )
        }
    }
}

/// Turns `packet`, cut after a TCP header without options, into the reset that answers `segment`.
#[inline(always)]
pub fn write_reset<A: Ip>(
    cursor: &mut Cursor<'_>,
    packet: &Transport<A>,
    segment: &Segment,
    state: ChecksumState,
) -> Option<()> {
    let (from, to) = (packet.tuple.dst, packet.tuple.src);
    A::write_header(cursor, packet.l3, from, to, proto::TCP, len::<Tcp>())?;
    let (seq, ack, flags) = segment.answer();
    let pseudo = pseudo_header(from, to, proto::TCP, len::<Tcp>());
    let ports = Ports {
        src: packet.tuple.dport,
        dst: packet.tuple.sport,
    };
    let mut tcp = Tcp {
        ports: Wide::new(ports),
        seq,
        ack,
        data_offset: 5 << 4,
        flags,
        window: 0,
        checksum: 0,
        urgent: 0,
    };
    tcp.checksum = match state {
        ChecksumState::Partial => fold(pseudo),
        ChecksumState::Complete => !fold(
            pseudo
                + u64::from(ports.src)
                + u64::from(ports.dst)
                + u64::from(tcp.seq)
                + u64::from(tcp.ack)
                + u64::from(u16::from_ne_bytes([tcp.data_offset, tcp.flags])),
        ),
    };
    *cursor.get_mut::<Tcp>(packet.l4)? = tcp;
    Some(())
}

/// What stands before the refused datagram in an ICMP error about it, in bytes.
#[inline(always)]
pub const fn icmp_room<A: Ip>() -> u16 {
    A::HEADER_LEN + len::<Icmp>()
}

/// How much of the transport part an ICMP error about `packet` embeds, in bytes.
#[inline(always)]
pub const fn embedded_len<A>(packet: &Transport<A>) -> u16 {
    if packet.is_sctp() {
        SCTP_EMBEDDED
    } else {
        len::<Udp>()
    }
}

/// SCTP: up to the initiate tag of an INIT, by which the sender knows its own (RFC 9260, appendix B).
const SCTP_EMBEDDED: u16 = 20;

/// Writes IP and ICMP header of a port unreachable into the room at `packet.l3`, behind which the refused
/// packet stands, cut after [`embedded_len`].
#[inline(always)]
pub fn write_unreachable<A: Ip>(
    cursor: &mut Cursor<'_>,
    packet: &Transport<A>,
    state: ChecksumState,
) -> Option<()> {
    let (from, to) = (packet.tuple.dst, packet.tuple.src);
    let inner_l3 = packet.l3 + icmp_room::<A>();
    let inner_l4 = inner_l3 + A::HEADER_LEN;
    let length = len::<Icmp>() + A::HEADER_LEN + embedded_len(packet);
    A::write_header(cursor, packet.l3, from, to, A::ICMP, length)?;
    let (kind, code) = A::PORT_UNREACHABLE;
    let mut sum = u64::from(u16::from_ne_bytes([kind, code]));
    if A::ICMP_PSEUDO_HEADER {
        sum += pseudo_header(from, to, A::ICMP, length);
    }
    sum += A::header_sum(cursor, inner_l3)?;
    sum += if packet.is_sctp() {
        sctp_sum(cursor, inner_l4, state)?
    } else {
        udp_sum(cursor, inner_l4, state)?
    };
    *cursor.get_mut::<Icmp>(packet.l3 + A::HEADER_LEN)? = Icmp {
        kind,
        code,
        checksum: !fold(sum),
        rest: 0,
    };
    Some(())
}

/// The unfolded sum of the UDP header at `l4`, behind which nothing stands, as the device leaves it.
#[inline(always)]
fn udp_sum(cursor: &Cursor<'_>, l4: u16, state: ChecksumState) -> Option<u64> {
    let udp = cursor.get::<Udp>(l4)?;
    let ports = udp.ports.get();
    Some(match state {
        ChecksumState::Complete => {
            u64::from(ports.src)
                + u64::from(ports.dst)
                + u64::from(udp.len)
                + u64::from(udp.checksum)
        }
        // The device will make these bytes add up to what the field holds, complemented.
        ChecksumState::Partial => u64::from(!udp.checksum),
    })
}

/// Likewise of the [`SCTP_EMBEDDED`] bytes at `l4`: a device writes the CRC32c of what there is.
#[inline(always)]
fn sctp_sum(cursor: &Cursor<'_>, l4: u16, state: ChecksumState) -> Option<u64> {
    let sctp = cursor.get::<[u16; 10]>(l4)?;
    let crc = match state {
        ChecksumState::Complete => 0,
        ChecksumState::Partial => crc32c::of(sctp),
    };
    let sum = sctp.iter().fold(0, |sum, word| sum + u64::from(*word));
    Some(sum + u64::from(crc))
}

/// The unfolded sum of a pseudo-header (RFC 9293, RFC 8200).
#[inline(always)]
pub fn pseudo_header<A: Ip>(src: A, dst: A, protocol: u8, length: u16) -> u64 {
    checksum::sum_words(src.words())
        + checksum::sum_words(dst.words())
        + u64::from(u16::from(protocol).to_be())
        + u64::from(length.to_be())
}

/// Whether `packet` has nothing between Ethernet, IP and transport header that an answer would have to
/// carry along: tags, options, extension headers.
#[inline(always)]
pub fn is_plain<A: Ip>(packet: &Transport<A>) -> bool {
    // Of copies: else the compiler would know what is left to be known of the offsets, and spare the mask by which
    // the verifier knows it.
    let (l3, l4) = (opaque(packet.l3.into()), opaque(packet.l4.into()));
    // 0: of a device without a link layer.
    (l3 == 0 || l3 == 14) && l4 == l3 + u32::from(A::HEADER_LEN)
}
