//! A packet that is refused: the answer goes where it came from, and its checksums are right.

use lb_common::{
    address::{V4, V6},
    cursor::Cursor,
    headers::{Tcp, ethertype, len},
    ip::Ip,
    parse::{Packet, parse, parse_icmp_error, parse_l2},
    reply::{
        ChecksumState, Segment, embedded_len, icmp_room, is_plain, write_reset, write_unreachable,
    },
};

use super::packet::verify;

pub fn run(data: &[u8]) {
    let mut bytes = data.to_vec();
    let Some(l2) = parse_l2(&Cursor::of(&mut bytes)) else {
        return;
    };
    match l2.ethertype {
        ethertype::IPV4 => family::<V4>(bytes, l2.payload),
        ethertype::IPV6 => family::<V6>(bytes, l2.payload),
        _ => {}
    }
}

fn family<A: Ip>(mut bytes: Vec<u8>, l3: u16) {
    let Some(Packet::Transport(packet)) = parse::<A>(&Cursor::of(&mut bytes), l3) else {
        return;
    };
    if !is_plain(&packet) || packet.flags & Tcp::RST != 0 {
        return;
    }
    let was_right = verify(&bytes).is_ok();
    let state = ChecksumState::Complete;
    if packet.is_tcp() {
        let segment = Segment::read(&Cursor::of(&mut bytes), &packet).expect("it is there");
        bytes.truncate(usize::from(packet.l4 + len::<Tcp>()));
        write_reset(&mut Cursor::of(&mut bytes), &packet, &segment, state).expect("there is room");
        verify(&bytes).expect("all of it is ours");
        let Some(Packet::Transport(answer)) = parse::<A>(&Cursor::of(&mut bytes), l3) else {
            panic!("the answer to {packet:?} is none");
        };
        assert_eq!(answer.tuple, packet.tuple.reversed());
        assert!(answer.flags & Tcp::RST != 0, "{answer:?}");
        return;
    }
    let end = usize::from(packet.l4 + embedded_len(&packet));
    if bytes.len() < end {
        return;
    }
    bytes.truncate(end);
    let room = vec![0; usize::from(icmp_room::<A>())];
    let at = usize::from(l3);
    bytes.splice(at..at, room);
    write_unreachable(&mut Cursor::of(&mut bytes), &packet, state).expect("there is room");
    // The sum is not taken over the embedded bytes, but over what they should be.
    if was_right {
        verify(&bytes).expect("the checksums were right");
    }
    let error = parse_icmp_error::<A>(&Cursor::of(&mut bytes), l3).expect("it is an error");
    assert_eq!(error.inner, packet.tuple);
    assert_eq!((error.src, error.dst), (packet.tuple.dst, packet.tuple.src));
}
