//! What lb-common makes of a frame, in terms that both families share.

use std::net::SocketAddr;

use lb_common::{
    address::{Family, V4, V6},
    cursor::Cursor,
    flow::FlowKey,
    headers::ethertype,
    ip::{Ip, Side},
    parse::{IcmpError, Packet, Transport, parse, parse_icmp_error, parse_l2},
    translate::{self, Target, set_transport_checksum, translate, translate_icmp},
};

/// A parsed packet, whatever its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Transport {
        src: SocketAddr,
        dst: SocketAddr,
        proto: u32,
        l3: usize,
        l4: usize,
        flags: u8,
        is_fragment: bool,
    },
    Icmp,
}

/// Source, destination and protocol of a packet.
pub type Tuple = (SocketAddr, SocketAddr, u32);

/// One family's part of the functions below.
macro_rules! by_family {
    ($bytes:expr, $function:ident($($argument:expr),*)) => {{
        let mut cursor = Cursor::of($bytes);
        let l2 = parse_l2(&cursor)?;
        match l2.ethertype {
            ethertype::IPV4 => $function::<V4>(&mut cursor, l2.payload, $($argument),*),
            ethertype::IPV6 => $function::<V6>(&mut cursor, l2.payload, $($argument),*),
            _ => None,
        }
    }};
}

/// Parses a frame.
pub fn find(bytes: &mut [u8]) -> Option<Found> {
    fn typed<A: Ip>(cursor: &mut Cursor<'_>, l3: u16) -> Option<Found> {
        Some(match parse::<A>(cursor, l3)? {
            Packet::Transport(packet) => {
                let (src, dst, proto) = tuple(&packet.tuple);
                Found::Transport {
                    src,
                    dst,
                    proto,
                    l3: usize::from(packet.l3),
                    l4: usize::from(packet.l4),
                    flags: packet.flags,
                    is_fragment: packet.is_fragment(),
                }
            }
            Packet::Icmp => Found::Icmp,
            Packet::Piece => return None,
        })
    }
    by_family!(bytes, typed())
}

/// Parses a frame as an ICMP error; gives the embedded tuple.
pub fn find_error(bytes: &mut [u8]) -> Option<Tuple> {
    fn typed<A: Ip>(cursor: &mut Cursor<'_>, l3: u16) -> Option<Tuple> {
        parsed_error::<A>(cursor, l3).map(|error| tuple(&error.inner))
    }
    by_family!(bytes, typed())
}

/// Translates a TCP or UDP frame: its peer (on `side`) becomes `peer`, the client's port `client_port`.
pub fn rewrite(bytes: &mut [u8], side: Side, peer: SocketAddr, client_port: u16) -> Option<()> {
    fn typed<A: Ip>(
        cursor: &mut Cursor<'_>,
        l3: u16,
        side: Side,
        peer: SocketAddr,
        client_port: u16,
    ) -> Option<()> {
        let packet = parsed_transport::<A>(cursor, l3)?;
        let change = translate(cursor, &packet, &target(side, peer, client_port)?)?;
        set_transport_checksum(cursor, packet.l4, packet.tuple.proto, &change).map(drop)
    }
    by_family!(bytes, typed(side, peer, client_port))
}

/// Translates an ICMP error likewise; `outer` is the side of its own address that becomes the peer's.
pub fn rewrite_error(
    bytes: &mut [u8],
    side: Side,
    peer: SocketAddr,
    client_port: u16,
    outer: Option<Side>,
) -> Option<()> {
    fn typed<A: Ip>(
        cursor: &mut Cursor<'_>,
        l3: u16,
        side: Side,
        peer: SocketAddr,
        client_port: u16,
        outer: Option<Side>,
    ) -> Option<()> {
        let error = parsed_error::<A>(cursor, l3)?;
        translate_icmp(cursor, &error, &target(side, peer, client_port)?, outer)
    }
    by_family!(bytes, typed(side, peer, client_port, outer))
}

fn parsed_transport<A: Ip>(cursor: &Cursor<'_>, l3: u16) -> Option<Transport<A>> {
    match parse::<A>(cursor, l3)? {
        Packet::Transport(packet) => Some(packet),
        Packet::Icmp | Packet::Piece => None,
    }
}

/// As the datapath does: an ICMP error is only looked for in what is ICMP.
fn parsed_error<A: Ip>(cursor: &Cursor<'_>, l3: u16) -> Option<IcmpError<A>> {
    match parse::<A>(cursor, l3)? {
        Packet::Transport(_) | Packet::Piece => None,
        Packet::Icmp => parse_icmp_error::<A>(cursor, l3),
    }
}

fn tuple<A: Ip>(key: &FlowKey<A>) -> Tuple {
    let at = |address: A, port| SocketAddr::new(address.to_ip(), u16::from_be(port));
    (at(key.src, key.sport), at(key.dst, key.dport), key.proto)
}

fn target<A: Ip>(side: Side, peer: SocketAddr, client_port: u16) -> Option<Target<A>> {
    assert_eq!(A::FAMILY, Family::of(&peer.ip()));
    Some(Target {
        peer: A::from_ip(peer.ip())?,
        peer_port: peer.port().to_be(),
        client_port: client_port.to_be(),
        side,
    })
}

/// Gives a frame another tuple, as XDP does; whether its checksum was complete.
pub fn rewrite_whole(bytes: &mut [u8], src: SocketAddr, dst: SocketAddr) -> Option<bool> {
    fn typed<A: Ip>(
        cursor: &mut Cursor<'_>,
        l3: u16,
        src: SocketAddr,
        dst: SocketAddr,
    ) -> Option<bool> {
        let Packet::Transport(packet) = parse::<A>(cursor, l3)? else {
            return None;
        };
        let to = FlowKey {
            src: A::from_ip(src.ip())?,
            dst: A::from_ip(dst.ip())?,
            sport: src.port().to_be(),
            dport: dst.port().to_be(),
            proto: packet.tuple.proto,
        };
        let is_complete = translate::is_complete(cursor, &packet)?;
        translate::rewrite(cursor, &packet, &to)?;
        Some(is_complete)
    }
    by_family!(bytes, typed(src, dst))
}

/// Takes a hop away from a frame; how many it had.
pub fn take_hop(bytes: &mut [u8]) -> Option<u8> {
    fn typed<A: Ip>(cursor: &mut Cursor<'_>, l3: u16) -> Option<u8> {
        let hops = A::hops(cursor, l3)?;
        A::take_hop(cursor, l3)?;
        Some(hops)
    }
    by_family!(bytes, typed())
}
