//! An ICMP error, and what it is to be about (rule 97): then it is about that, and every checksum that was right is,
//! the embedded ones included.

use lb_common::{
    address::{V4, V6},
    cursor::Cursor,
    headers::ethertype,
    ip::{Ip, Side},
    parse::{IcmpError, Packet, parse, parse_icmp_error},
    translate::translate_icmp,
};

use super::{
    packet::verify,
    translate::{split, target, translated},
};

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

fn family<A: Ip>(choice: &[u8], frame: &[u8], l3: u16) {
    let mut after = frame.to_vec();
    // Nothing else is asked whether it is an error.
    if !matches!(parse::<A>(&Cursor::of(&mut after), l3), Some(Packet::Icmp)) {
        return;
    }
    let Some(error) = parse_icmp_error::<A>(&Cursor::of(&mut after), l3) else {
        return;
    };
    let to = target::<A>(choice);
    let outer = match choice[20] & 6 {
        2 => Some(Side::Src),
        4 => Some(Side::Dst),
        _ => None,
    };
    translate_icmp(&mut Cursor::of(&mut after), &error, &to, outer)
        .expect("the parser has seen it");
    let again = parse_icmp_error::<A>(&Cursor::of(&mut after), l3).expect("it is one still");
    let peer = |side, old| if outer == Some(side) { to.peer } else { old };
    let expected = IcmpError {
        src: peer(Side::Src, error.src),
        dst: peer(Side::Dst, error.dst),
        inner: translated(&error.inner, &to),
        ..error
    };
    assert_eq!(again, expected);
    if verify(frame).is_ok() {
        verify(&after).expect("the checksums were right");
    }
    let inner = |bytes: &[u8]| {
        let end = usize::try_from(error.end).expect("an offset");
        let embedded = bytes.get(usize::from(error.inner_l3)..end)?;
        let ethertype: [u8; 2] = if A::HEADER_LEN == 20 {
            [8, 0]
        } else {
            [0x86, 0xdd]
        };
        Some([&[0; 12][..], &ethertype[..], embedded].concat())
    };
    // SCTP's checksum is not mended: most often it is over more than there is.
    if error.inner.protocol() != 132
        && let (Some(before), Some(after)) = (inner(frame), inner(&after))
        && verify(&before).is_ok()
    {
        verify(&after).expect("the embedded checksums were right");
    }
    let rest = usize::from(error.inner_l4) + 18;
    if let (Some(before), Some(after)) = (frame.get(rest..), after.get(rest..)) {
        assert_eq!(before, after, "what follows the headers");
    }
}
