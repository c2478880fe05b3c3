//! Rewriting a packet's tuple in place: the same bytes in the kernel and under test.
//!
//! A packet has two peers: the client, whose address never changes, and the *peer* proper, which is the
//! VIP on one side of the translation and the endpoint on the other. [`Target`] says what to put there.

use crate::{
    address::Address,
    checksum::{Delta, fold},
    crc32c,
    cursor::Cursor,
    flow::{Flow, FlowKey},
    headers::{Icmp, Ports, proto},
    ip::{Ip, Side},
    parse::{IcmpError, Transport, checksum_offset},
    reply::pseudo_header,
    wide::Wide,
};

/// What a packet is translated to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<A> {
    /// Address of the VIP or the endpoint.
    pub peer: A,
    /// Its port, network byte order.
    pub peer_port: u16,
    /// The client's port, network byte order.
    pub client_port: u16,
    /// Which side of the packet the peer is.
    pub side: Side,
}

impl<A: Address> Target<A> {
    /// What `flow` makes of a packet whose peer is on `side`.
    #[inline(always)]
    pub const fn of(flow: &Flow<A>, side: Side) -> Self {
        Self {
            peer: flow.peer,
            peer_port: flow.peer_port,
            client_port: flow.client_port,
            side,
        }
    }

    /// The peer's address as it stands in `tuple`.
    #[inline(always)]
    const fn old_peer(&self, tuple: &FlowKey<A>) -> A {
        match self.side {
            Side::Src => tuple.src,
            Side::Dst => tuple.dst,
        }
    }

    #[inline(always)]
    const fn ports(&self) -> Ports {
        match self.side {
            Side::Src => Ports {
                src: self.peer_port,
                dst: self.client_port,
            },
            Side::Dst => Ports {
                src: self.client_port,
                dst: self.peer_port,
            },
        }
    }
}

/// What a translation changed, for the transport checksum.
///
/// Addresses and ports are told apart because a checksum left to the device holds the sum of the
/// pseudo-header, in which addresses count and ports do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Change of the pseudo-header.
    pub addresses: Delta,
    /// Change of the transport header; `None` if the ports stayed.
    pub ports: Option<Delta>,
}

/// Writes addresses and ports (and an IPv4 header checksum); the transport checksum is the caller's.
#[inline(always)]
pub fn translate<A: Ip>(
    cursor: &mut Cursor<'_>,
    packet: &Transport<A>,
    to: &Target<A>,
) -> Option<Change> {
    let old = Ports {
        src: packet.tuple.sport,
        dst: packet.tuple.dport,
    };
    let addresses = Delta::new()
        .replace_words(to.old_peer(&packet.tuple).words(), to.peer.words())
        .reduce();
    A::set_address(cursor, packet.l3, to.side, to.peer, addresses)?;
    let ports = set_ports(cursor, packet.l4, old, to.ports())?;
    Some(Change { addresses, ports })
}

/// Mends the CRC32c of an SCTP packet that was translated, for packets whose checksum is known to be
/// complete (RFC 9260, section 6.8). Addresses are not under it.
#[inline(always)]
pub fn set_crc<A: Ip>(
    cursor: &mut Cursor<'_>,
    packet: &Transport<A>,
    to: &Target<A>,
) -> Option<()> {
    let old = Ports {
        src: packet.tuple.sport,
        dst: packet.tuple.dport,
    };
    let headers = packet.l4.wrapping_sub(packet.l3 + A::HEADER_LEN);
    let length = A::payload_len(cursor, packet.l3)?.wrapping_sub(headers);
    let change = crc32c::change(&old, &to.ports(), length);
    let field = cursor.get_mut::<[u16; 2]>(packet.checksum_offset())?;
    let change = change.to_le_bytes();
    field[0] ^= u16::from_ne_bytes([change[0], change[1]]);
    field[1] ^= u16::from_ne_bytes([change[2], change[3]]);
    Some(())
}

/// Writes the transport checksum itself, for packets whose checksum is known to be complete.
#[inline(always)]
pub fn set_transport_checksum(
    cursor: &mut Cursor<'_>,
    l4: u16,
    protocol: u32,
    change: &Change,
) -> Option<Delta> {
    let delta = change.addresses.and(change.ports.unwrap_or_default());
    let field = cursor.get_mut::<[u8; 2]>(l4 + checksum_offset(protocol))?;
    let before = u16::from_ne_bytes(*field);
    let after = if protocol == u32::from(proto::UDP) {
        delta.apply_udp(before)
    } else {
        delta.apply(before)
    };
    *field = after.to_ne_bytes();
    Some(Delta::new().replace_u16(before, after))
}

/// Rewrites the whole tuple of a packet that is sent on at once, checksums included; the transport checksum must be
/// complete on the wire ([`is_complete`]).
#[inline(always)]
pub fn rewrite<A: Ip>(
    cursor: &mut Cursor<'_>,
    packet: &Transport<A>,
    to: &FlowKey<A>,
) -> Option<()> {
    let old = &packet.tuple;
    let src = Delta::new().replace_words(old.src.words(), to.src.words());
    let dst = Delta::new().replace_words(old.dst.words(), to.dst.words());
    A::set_address(cursor, packet.l3, Side::Src, to.src, src)?;
    A::set_address(cursor, packet.l3, Side::Dst, to.dst, dst)?;
    let ports = |tuple: &FlowKey<A>| Ports {
        src: tuple.sport,
        dst: tuple.dport,
    };
    let change = Change {
        addresses: src.and(dst),
        ports: set_ports(cursor, packet.l4, ports(old), ports(to))?,
    };
    set_transport_checksum(cursor, packet.l4, old.proto, &change)?;
    Some(())
}

/// Whether the transport checksum of a packet is complete, and not left to a device: that of a neighbour on the same
/// machine sends packets whose field holds the sum of the pseudo-header. One complete checksum in 65,536
/// looks like that, too.
#[inline(always)]
pub fn is_complete<A: Ip>(cursor: &Cursor<'_>, packet: &Transport<A>) -> Option<bool> {
    let tuple = &packet.tuple;
    let options = packet.l4 - packet.l3 - A::HEADER_LEN;
    let length = A::payload_len(cursor, packet.l3)?.wrapping_sub(options);
    let partial = fold(pseudo_header(
        tuple.src,
        tuple.dst,
        tuple.protocol(),
        length,
    ));
    let field = cursor.read::<[u16; 1]>(packet.checksum_offset())?;
    Some(field != [partial])
}

/// Translates the packet embedded in an ICMP error, and the error's own address on side `outer`, with
/// all checksums (rule 97). `to.side` is the peer's side in the embedded packet.
#[inline(always)]
pub fn translate_icmp<A: Ip>(
    cursor: &mut Cursor<'_>,
    error: &IcmpError<A>,
    to: &Target<A>,
    outer: Option<Side>,
) -> Option<()> {
    let old = Ports {
        src: error.inner.sport,
        dst: error.inner.dport,
    };
    let addresses = Delta::new().replace_words(to.old_peer(&error.inner).words(), to.peer.words());
    let mut sum = addresses;
    sum = sum.and(A::set_address(
        cursor,
        error.inner_l3,
        to.side,
        to.peer,
        addresses,
    )?);
    let ports = set_ports(cursor, error.inner_l4, old, to.ports())?;
    sum = sum.and(ports.unwrap_or_default());
    // The embedded packet may end before its checksum; then there is none to mend.
    let change = Change { addresses, ports };
    let field = error.inner_l4 + checksum_offset(error.inner.proto);
    // SCTP's is over bytes that are not there, so nobody can look at it.
    if error.inner.proto != u32::from(proto::SCTP)
        && u32::from(field + 2) <= error.end
        && let Some(inner) =
            set_transport_checksum(cursor, error.inner_l4, error.inner.proto, &change)
    {
        sum = sum.and(inner);
    }
    if let Some(side) = outer {
        let old = match side {
            Side::Src => error.src,
            Side::Dst => error.dst,
        };
        let change = Delta::new().replace_words(old.words(), to.peer.words());
        A::set_address(cursor, error.l3, side, to.peer, change)?;
        if A::ICMP_PSEUDO_HEADER {
            sum = sum.and(change);
        }
    }
    let icmp = cursor.get_mut::<Icmp>(error.icmp)?;
    icmp.checksum = sum.apply(icmp.checksum);
    Some(())
}

#[inline(always)]
fn set_ports(cursor: &mut Cursor<'_>, l4: u16, old: Ports, new: Ports) -> Option<Option<Delta>> {
    let ports = cursor.get_mut::<Wide<Ports>>(l4)?;
    if old == new {
        return Some(None);
    }
    ports.set(new);
    Some(Some(
        Delta::new()
            .replace_u16(old.src, new.src)
            .replace_u16(old.dst, new.dst),
    ))
}
