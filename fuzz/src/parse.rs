//! Any bytes as a packet: of every link layer, as IPv4 and as IPv6.

use lb_common::{
    address::{V4, V6},
    cursor::Cursor,
    ip::Ip,
    parse::{Packet, parse, parse_echo, parse_icmp_error, parse_l2},
};

pub fn run(data: &[u8]) {
    let mut bytes = data.to_vec();
    let l2 = parse_l2(&Cursor::of(&mut bytes));
    // Without a link layer, behind one, and where nobody says that there is one.
    for l3 in [Some(0), l2.map(|l2| l2.payload), Some(14)]
        .into_iter()
        .flatten()
    {
        family::<V4>(data, l3);
        family::<V6>(data, l3);
    }
}

fn family<A: Ip>(data: &[u8], l3: u16) {
    let mut bytes = data.to_vec();
    let cursor = Cursor::of(&mut bytes);
    match parse::<A>(&cursor, l3) {
        Some(Packet::Transport(packet)) => {
            assert!(packet.l4 >= packet.l3 + A::HEADER_LEN, "{packet:?}");
            let ports = ports(data, packet.l4);
            assert_eq!(ports, Some((packet.tuple.sport, packet.tuple.dport)));
            // Of its checksum the parser has seen that it is there.
            assert!(usize::from(packet.checksum_offset()) + 2 <= data.len());
        }
        Some(Packet::Icmp) => {
            let Some(error) = parse_icmp_error::<A>(&cursor, l3) else {
                return;
            };
            assert!(error.icmp >= error.l3 + A::HEADER_LEN, "{error:?}");
            assert!(error.inner_l3 == error.icmp + 8, "{error:?}");
            assert!(
                error.inner_l4 >= error.inner_l3 + A::HEADER_LEN,
                "{error:?}"
            );
            assert!(error.end >= u32::from(error.inner_l4) + 4, "{error:?}");
            let ports = ports(data, error.inner_l4);
            assert_eq!(ports, Some((error.inner.sport, error.inner.dport)));
        }
        Some(Packet::Piece) => {
            let _ = A::parse_piece(&cursor, l3);
            let _ = parse_echo::<A>(&cursor, l3);
        }
        None => {}
    }
    assert!(data == bytes, "reading changes nothing");
}

fn ports(data: &[u8], l4: u16) -> Option<(u16, u16)> {
    let at = usize::from(l4);
    let [a, b, c, d] = *data.get(at..at + 4)?.first_chunk()?;
    Some((u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])))
}
