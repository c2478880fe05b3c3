//! A packet, and what it is to become: then it has that tuple, its checksums are right if they were, and nothing else
//! of it has changed.
//!
//! The first [`CHOICE`] bytes say what it is to become.

use std::net::IpAddr;

use lb_common::{
    address::{Address, Family, V4, V6},
    cursor::Cursor,
    flow::FlowKey,
    headers::ethertype,
    ip::{Ip, Side},
    parse::{L2, Packet, Transport, parse, parse_l2},
    translate::{Target, set_crc, set_transport_checksum, translate},
};

use super::packet::verify;

/// Bytes that say what a packet is to become: peer, both ports, side.
pub const CHOICE: usize = 21;

pub fn run(data: &[u8]) {
    let Some((choice, frame, l2)) = split(data) else {
        return;
    };
    match l2.ethertype {
        ethertype::IPV4 => family::<V4>(choice, frame, l2.payload),
        ethertype::IPV6 => family::<V6>(choice, frame, l2.payload),
        _ => {}
    }
}

/// The choice, the frame, and what of it is the link layer.
pub fn split(data: &[u8]) -> Option<(&[u8], &[u8], L2)> {
    let (choice, frame) = data.split_at_checked(CHOICE)?;
    let l2 = parse_l2(&Cursor::of(&mut frame.to_vec()))?;
    Some((choice, frame, l2))
}

/// What the bytes of choice say.
pub fn target<A: Address>(choice: &[u8]) -> Target<A> {
    let port = |at: usize| u16::from_ne_bytes([choice[at], choice[at + 1]]);
    let ip: IpAddr = match A::FAMILY {
        Family::V4 => [choice[0], choice[1], choice[2], choice[3]].into(),
        Family::V6 => <[u8; 16]>::try_from(&choice[..16]).expect("sixteen").into(),
    };
    Target {
        peer: A::from_ip(ip).expect("of that family"),
        peer_port: port(16),
        client_port: port(18),
        side: if choice[20] & 1 == 0 {
            Side::Src
        } else {
            Side::Dst
        },
    }
}

/// The tuple that `tuple` becomes.
pub fn translated<A: Address>(tuple: &FlowKey<A>, to: &Target<A>) -> FlowKey<A> {
    match to.side {
        Side::Src => FlowKey {
            src: to.peer,
            sport: to.peer_port,
            dport: to.client_port,
            ..*tuple
        },
        Side::Dst => FlowKey {
            dst: to.peer,
            sport: to.client_port,
            dport: to.peer_port,
            ..*tuple
        },
    }
}

fn family<A: Ip>(choice: &[u8], frame: &[u8], l3: u16) {
    let to = target::<A>(choice);
    let mut after = frame.to_vec();
    let Some(packet) = transport::<A>(&mut after, l3) else {
        return;
    };
    write(&mut after, &packet, &to);
    let again = transport::<A>(&mut after, l3).expect("it is one still");
    let tuple = translated(&packet.tuple, &to);
    assert_eq!(again, Transport { tuple, ..packet });
    if verify(frame).is_ok() {
        verify(&after).expect("the checksums were right");
    }
    let may_change = written(&packet);
    for (at, (old, new)) in frame.iter().zip(&after).enumerate() {
        assert!(
            old == new || may_change.contains(&at),
            "byte {at} of {packet:?}"
        );
    }
    // The same without a link layer.
    let mut bare = frame[usize::from(l3)..].to_vec();
    let packet = transport::<A>(&mut bare, 0).expect("it is one");
    write(&mut bare, &packet, &to);
    assert_eq!(bare, after[usize::from(l3)..]);
}

/// A whole packet.
fn transport<A: Ip>(bytes: &mut [u8], l3: u16) -> Option<Transport<A>> {
    match parse::<A>(&Cursor::of(bytes), l3) {
        Some(Packet::Transport(packet)) if !packet.is_fragment() => Some(packet),
        _ => None,
    }
}

/// What a hook does.
fn write<A: Ip>(bytes: &mut [u8], packet: &Transport<A>, to: &Target<A>) {
    let cursor = &mut Cursor::of(bytes);
    let change = translate(cursor, packet, to).expect("the parser has seen it");
    if packet.is_sctp() {
        if change.ports.is_some() {
            set_crc(cursor, packet, to).expect("the parser has seen it");
        }
        return;
    }
    set_transport_checksum(cursor, packet.l4, packet.tuple.proto, &change)
        .expect("the parser has seen it");
}

/// Offsets of all that may change: IPv4's checksum, addresses, ports, the transport checksum.
fn written<A: Ip>(packet: &Transport<A>) -> Vec<usize> {
    let [l3, l4] = [packet.l3, packet.l4].map(usize::from);
    let sum = usize::from(packet.checksum_offset());
    let header = match A::FAMILY {
        Family::V4 => l3 + 10..l3 + 20,
        Family::V6 => l3 + 8..l3 + 40,
    };
    let sum = sum..sum + if packet.is_sctp() { 4 } else { 2 };
    header.chain(l4..l4 + 4).chain(sum).collect()
}
