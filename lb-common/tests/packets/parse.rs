//! Which packets are TCP or UDP, and where their headers stand.

use crate::{
    datapath::{Found, find},
    packet::{Frame, Net, TCP, UDP, Variant, both, ext, flag},
};

const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;

/// IPv6 extension headers: numbers and contents.
type Chain<'a> = &'a [(u8, &'a [u8])];

/// What a frame says of itself.
fn expected(frame: &Frame, flags: u8) -> Found {
    Found::Transport {
        src: frame.src,
        dst: frame.dst,
        proto: frame.proto().into(),
        l3: frame.l3(),
        l4: frame.l4(),
        flags,
        is_fragment: frame.fragment.is_some(),
    }
}

fn of_both_protocols(net: &Net) -> [(Frame, u8); 2] {
    let flags = flag::ACK | flag::PSH;
    [
        (Frame::tcp(net.client, net.vip, flags), flags),
        (Frame::udp(net.client, net.vip), 0),
    ]
}

#[test]
fn tuple_and_offsets_are_found_behind_whatever_stands_before() {
    let variants: &[Variant] = &[
        ("plain", |frame| frame),
        ("802.1Q", |frame| frame.tagged(&[VLAN])),
        ("QinQ", |frame| frame.tagged(&[QINQ, VLAN])),
        ("two 802.1Q tags", |frame| frame.tagged(&[VLAN, VLAN])),
        ("options or extensions", Frame::with_extras),
        ("a tag and options or extensions", |frame| {
            frame.tagged(&[VLAN]).with_extras()
        }),
        ("the first fragment", |frame| frame.fragment(0, true)),
        ("a first fragment with options or extensions", |frame| {
            frame.with_extras().fragment(0, true)
        }),
        ("no payload", |frame| frame.payload(b"")),
    ];
    for net in both() {
        for (shows, change) in variants {
            for (frame, flags) in of_both_protocols(&net) {
                let frame = change(frame);
                let found = find(&mut frame.bytes());
                assert_eq!(found, Some(expected(&frame, flags)), "{} {shows}", net.name);
            }
        }
    }
}

#[test]
fn packets_without_a_tuple_that_could_be_translated_are_none_of_ours() {
    let variants: &[Variant] = &[
        ("three tags", |frame| frame.tagged(&[QINQ, VLAN, VLAN])),
        ("a later fragment (rule 98)", |frame| {
            frame.fragment(5, true)
        }),
        ("the last fragment (rule 98)", |frame| {
            frame.fragment(9, false)
        }),
        ("a later fragment behind options or extensions", |frame| {
            frame.with_extras().fragment(1, true)
        }),
    ];
    for net in both() {
        for (shows, change) in variants {
            for (frame, _) in of_both_protocols(&net) {
                assert_eq!(
                    find(&mut change(frame).bytes()),
                    None,
                    "{} {shows}",
                    net.name
                );
            }
        }
    }
}

#[test]
fn ipv6_extension_chains_are_followed_as_far_as_they_may_be() {
    let [_, net] = both();
    let frame = Frame::tcp(net.client, net.vip, flag::SYN);
    let hop: (u8, &[u8]) = (ext::HOP_BY_HOP, &[1, 4, 0, 0, 0, 0]);
    let dest: (u8, &[u8]) = (ext::DEST_OPTS, &[1, 4, 0, 0, 0, 0]);
    let arrived: (u8, &[u8]) = (ext::ROUTING, &[4, 0, 0, 0, 0, 0]);
    let on_the_way: (u8, &[u8]) = (ext::ROUTING, &[4, 1, 0, 0, 0, 0]);
    let atomic: (u8, &[u8]) = (ext::FRAGMENT, &[0, 0, 0, 0, 0, 1]);
    let auth: (u8, &[u8]) = (ext::AUTH, &[0; 22]);
    let long = [0u8; 8 * 256 - 2];
    let longest: (u8, &[u8]) = (ext::DEST_OPTS, &long);
    let rows: &[(&str, Chain<'_>, bool)] = &[
        ("hop-by-hop", &[hop], true),
        ("routing, no segments left", &[arrived], true),
        (
            "routing, a segment left: not at its end yet",
            &[on_the_way],
            false,
        ),
        (
            "a fragment header on a whole packet (RFC 6946)",
            &[atomic],
            true,
        ),
        (
            "authentication: what it signs stays as it is",
            &[auth],
            false,
        ),
        ("the longest header there can be", &[longest], true),
        (
            "all that RFC 8200 foresees",
            &[hop, dest, arrived, atomic, dest],
            true,
        ),
        (
            "more than anyone sends",
            &[hop, dest, dest, dest, dest, dest],
            false,
        ),
        (
            "six and a half thousand bytes of options",
            &[longest, longest, longest],
            true,
        ),
        ("no next header", &[(59, &[0; 6])], false),
    ];
    for (shows, chain, is_ours) in rows {
        let frame = frame.clone().extended(chain);
        let found = is_ours.then(|| expected(&frame, flag::SYN));
        assert_eq!(find(&mut frame.bytes()), found, "{shows}");
    }
}

#[test]
fn a_packet_cut_short_anywhere_before_the_end_of_its_headers_is_none_of_ours() {
    for net in both() {
        for proto in [TCP, UDP] {
            let variants = [
                Frame::of(proto, net.client, net.vip, flag::SYN),
                Frame::of(proto, net.client, net.vip, flag::SYN)
                    .tagged(&[QINQ, VLAN])
                    .with_extras(),
            ];
            for frame in variants {
                let whole = frame.bytes();
                let headers = frame.l4() + if proto == TCP { 20 } else { 8 };
                for end in 0..=whole.len() {
                    let is_found = find(&mut whole.clone()[..end]).is_some();
                    assert_eq!(
                        is_found,
                        end >= headers,
                        "{} {proto}, {end} bytes",
                        net.name
                    );
                }
            }
        }
    }
}

#[test]
fn headers_that_contradict_themselves_are_none_of_ours() {
    let [v4, v6] = both();
    let rows = [
        ("IPv4 of version 6", &v4, 14, 0x65),
        ("IPv4 of version 0", &v4, 14, 0x05),
        ("IPv4 with a header of 4 words", &v4, 14, 0x44),
        ("IPv4 with a header of no words", &v4, 14, 0x40),
        ("IPv6 of version 4", &v6, 14, 0x45),
        ("IPv6 of version 7", &v6, 14, 0x70),
        ("IPv4 under the EtherType of IPv6", &v4, 12, 0x86),
        ("IPv4 that carries ICMPv6", &v4, 14 + 9, 58),
        ("IPv6 that carries ICMP", &v6, 14 + 6, 1),
        ("DCCP", &v4, 14 + 9, 33),
        ("DCCP", &v6, 14 + 6, 33),
    ];
    for (shows, net, at, byte) in rows {
        let mut bytes = Frame::tcp(net.client, net.vip, flag::SYN).bytes();
        bytes[at] = byte;
        if shows.contains("EtherType") {
            bytes[at + 1] = 0xdd;
        }
        assert_eq!(find(&mut bytes), None, "{shows}");
    }
}

#[test]
fn only_syn_without_ack_opens_a_connection() {
    use lb_common::{address::V4, flow::FlowKey, parse::Transport};
    for flags in 0..=u8::MAX {
        let packet = Transport {
            tuple: FlowKey::<V4>::default(),
            l3: 14,
            l4: 34,
            flags,
            fragment: 0,
        };
        let opens = flags & flag::SYN != 0 && flags & flag::ACK == 0;
        assert_eq!(packet.is_open(), opens, "{flags:#x}");
    }
}
