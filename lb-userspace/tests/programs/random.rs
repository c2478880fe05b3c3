//! A million packets that nobody would send: random bytes, and valid packets that were damaged.
//!
//! What holds for all of them: the program ends; the length stays; what is dropped or rewritten is
//! counted, each packet once, and nothing else is; only what names a service's address is rewritten; a
//! packet whose checksums were right leaves with right ones.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lb_common::{
    address::{V4, V6},
    cursor::Cursor,
    headers::ethertype,
    parse::{Packet, parse, parse_l2},
    tables::VipRange,
    verdict::{Action, Verdict},
};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    kernel::{Hook, Kernel, REDIRECT, SHOT, UNSPEC},
    packet::{Frame, Net, SCTP, TCP, UDP, both, flag, verify},
};

const PACKETS: usize = 1_000_000;

/// After so many packets the counters are read.
const BATCH: usize = 10_000;

/// An Ethernet header, the least there can be.
const SHORTEST: usize = 14;
const LONGEST: usize = 300;

/// A port of the VIP that is not served, and an address of the Services' that nobody has.
fn unknown(net: &Net) -> SocketAddr {
    SocketAddr::new(net.vip.ip(), 81)
}

fn unallocated(net: &Net) -> SocketAddr {
    let ip = if net.is_v6 {
        "fd00:10:96::77"
    } else {
        "10.96.0.77"
    };
    SocketAddr::new(ip.parse().unwrap(), 80)
}

/// Valid packets of every kind that concerns a service or nearly does.
fn valid(net: &Net) -> Vec<Vec<u8>> {
    let mut frames = vec![];
    for proto in [TCP, UDP, SCTP] {
        let of = |src, dst, flags| Frame::of(proto, src, dst, flags);
        let sent = of(net.client, net.vip, flag::SYN);
        let delivered = sent.clone().to(net.endpoint());
        let answer = of(net.endpoint(), net.client, flag::ACK);
        let told = answer.clone().from(net.vip);
        for (_, kind) in net.icmp_errors().iter().chain(net.icmp_others()) {
            for keep in [8, 100] {
                let (client, vip) = (net.client.ip(), net.vip.ip());
                frames.push(Frame::icmp(net.router, client, *kind, &delivered, keep));
                frames.push(Frame::icmp(client, vip, *kind, &told, keep));
            }
        }
        frames.extend([
            of(net.client, net.vip, flag::ACK),
            of(net.client, net.vip, flag::FIN | flag::ACK),
            of(net.neighbour, net.vip, flag::RST),
            sent.clone().to(net.other_vip),
            sent.clone().to(net.stranger),
            sent.clone().to(unknown(net)),
            of(net.neighbour, unallocated(net), flag::SYN),
            sent.clone().fragment(0, true),
            sent.clone().fragment(3, true),
            sent.clone().tagged(&[0x88a8, 0x8100]),
            sent,
            delivered,
            answer,
        ]);
    }
    let extended: Vec<_> = frames.iter().cloned().map(Frame::with_extras).collect();
    frames.iter().chain(&extended).map(Frame::bytes).collect()
}

/// Makes `packet` the next one.
fn next(rng: &mut SmallRng, valid: &[Vec<u8>], packet: &mut Vec<u8>) {
    packet.clear();
    if rng.random_ratio(1, 4) {
        packet.resize(rng.random_range(SHORTEST..LONGEST), 0);
        rng.fill_bytes(packet);
        let ethertypes: [[u8; 2]; 4] = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x88, 0xa8]];
        packet[12..14].copy_from_slice(&ethertypes[rng.random_range(0..4)]);
        return;
    }
    packet.extend(&valid[rng.random_range(0..valid.len())]);
    for _ in 0..rng.random_range(0..4) {
        let at = rng.random_range(0..packet.len());
        match rng.random_range(0..7) {
            0..=2 => packet[at] ^= 1 << rng.random_range(0..8),
            // Where headers and their lengths are.
            3 => {
                let at = 12 + at % 50.min(packet.len() - 12);
                packet[at] = rng.random();
            }
            4 => packet[at] = rng.random(),
            5 => packet.truncate(at.max(SHORTEST)),
            _ => packet.resize(packet.len() + at % 40, rng.random()),
        }
    }
}

/// Gives a packet the headers without which a test run refuses it; behind a tag it does not look for
/// them.
fn pad(packet: &mut Vec<u8>) {
    let shortest = match packet[12..14] {
        [0x08, 0x00] => SHORTEST + 20,
        [0x86, 0xdd] => SHORTEST + 40,
        _ => SHORTEST,
    };
    packet.resize(packet.len().max(shortest), 0);
}

/// The addresses of which a packet that is rewritten has one.
fn addresses() -> Vec<Vec<u8>> {
    both()
        .iter()
        .flat_map(|net| {
            let vips = [net.vip, net.other_vip];
            net.endpoints[..3].iter().copied().chain(vips)
        })
        .map(|at| match at.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        })
        .collect()
}

fn names_a_service(packet: &[u8], addresses: &[Vec<u8>]) -> bool {
    addresses.iter().any(|address| {
        packet
            .windows(address.len())
            .any(|window| window == address)
    })
}

/// Whether it is a piece behind the first of its packet: only its addresses are translated, and to the same where nothing but
/// the client's port is another (rule 99).
fn is_piece(packet: &[u8]) -> bool {
    let mut bytes = packet.to_vec();
    let cursor = Cursor::of(&mut bytes);
    let Some(l2) = parse_l2(&cursor) else {
        return false;
    };
    match l2.ethertype {
        ethertype::IPV4 => matches!(parse::<V4>(&cursor, l2.payload), Some(Packet::Piece)),
        ethertype::IPV6 => matches!(parse::<V6>(&cursor, l2.payload), Some(Packet::Piece)),
        _ => false,
    }
}

/// Sums over verdicts that pass, those that drop and those that answer.
fn counted(kernel: &Kernel) -> [u64; 3] {
    let sum = |action: Action| {
        let verdicts = Verdict::ALL.iter().zip(kernel.verdicts());
        verdicts
            .filter(|(verdict, _)| verdict.action() == action)
            .map(|(_, count)| count)
            .sum()
    };
    [Action::Pass, Action::Drop, Action::Reply].map(sum)
}

#[test]
fn a_million_random_packets_are_left_alone_or_counted() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let mut rng = SmallRng::seed_from_u64(0xd001b);
    let addresses = addresses();
    let mut seeds = vec![];
    for net in both() {
        kernel.stick(net.vip, 1, &net.endpoints[..3], 10);
        kernel.serve(net.other_vip, 2, &[]);
        kernel.tables.mark(net.vip.ip());
        let (first, bits) = if net.is_v6 {
            ("fd00:10:96::", 112)
        } else {
            ("10.96.0.0", 16)
        };
        let flags = VipRange::<()>::VIPS | VipRange::<()>::SERVICE_CIDR;
        let range = (first.parse().unwrap(), bits, flags);
        kernel.tables.write_ranges(&[range]);
        seeds.extend(valid(&net));
    }
    let (mut packet, mut out) = (vec![], vec![0; 8 * LONGEST]);
    let (mut rewritten, mut dropped, mut refused, mut pieces) = (0, 0, 0, 0);
    let (start, mut in_kernel) = (Instant::now(), Duration::ZERO);
    for i in 0..PACKETS {
        next(&mut rng, &seeds, &mut packet);
        pad(&mut packet);
        let hook = Hook::BOTH[i % 2];
        let entered = Instant::now();
        let (returned, len) = kernel.run_uncounted(hook, &packet, &mut out);
        in_kernel += entered.elapsed();
        let after = &out[..len];
        match returned {
            UNSPEC if after == packet => pieces += u64::from(is_piece(&packet)),
            UNSPEC => {
                rewritten += 1;
                assert_eq!(len, packet.len(), "{hook:?} {packet:02x?}");
                assert!(
                    names_a_service(&packet, &addresses),
                    "{hook:?} {packet:02x?}"
                );
                if verify(&packet).is_ok() {
                    verify(after).unwrap_or_else(|why| panic!("{why}: {hook:?} {packet:02x?}"));
                }
            }
            SHOT => {
                dropped += 1;
                assert_eq!(after, packet, "dropped as it came");
            }
            REDIRECT => {
                refused += 1;
                assert!(
                    names_a_service(&packet, &addresses),
                    "{hook:?} {packet:02x?}"
                );
                // A datagram without a checksum of its own may be answered whatever was in it.
                if verify(&packet).is_ok() {
                    verify(after).unwrap_or_else(|why| panic!("{why}: {hook:?} {packet:02x?}"));
                }
            }
            other => panic!("{other}: {hook:?} {packet:02x?}"),
        }
        if i % BATCH == BATCH - 1 {
            let [passed, others @ ..] = counted(&kernel);
            assert_eq!(others, [dropped, refused], "before packet {i}");
            assert!(
                (rewritten..=rewritten + pieces).contains(&passed),
                "before packet {i}: {passed} counted, {rewritten} rewritten"
            );
        }
    }
    println!(
        "{PACKETS} packets in {:.1?}, {in_kernel:.1?} of it in test runs: {rewritten} rewritten, {dropped} dropped, {refused} refused",
        start.elapsed()
    );
    assert!(
        rewritten > 50_000 && dropped > 5_000 && refused > 500,
        "the mix reaches what it is for"
    );
}
