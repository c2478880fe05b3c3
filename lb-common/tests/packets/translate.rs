//! Translated packets equal those built anew, to the byte.

use std::net::SocketAddr;

use lb_common::ip::Side;

use crate::{
    datapath::{rewrite, rewrite_whole, take_hop},
    packet::{Frame, TCP, UDP, Variant, both, flag, verify},
};

#[test]
fn a_translated_packet_is_the_one_its_sender_would_have_sent_there() {
    let variants: &[Variant] = &[
        ("plain", |frame| frame),
        ("tagged", |frame| frame.tagged(&[0x88a8, 0x8100])),
        ("options or extensions", Frame::with_extras),
        ("odd length", |frame| frame.payload(b"odd")),
        ("no payload", |frame| frame.payload(b"")),
    ];
    for net in both() {
        for (shows, change) in variants {
            for proto in [TCP, UDP] {
                let sent = change(Frame::of(proto, net.client, net.vip, flag::ACK));
                let delivered = sent.clone().to(net.endpoint());
                let mut bytes = sent.bytes();
                rewrite(&mut bytes, Side::Dst, net.endpoint(), net.client.port()).unwrap();
                assert_eq!(bytes, delivered.bytes(), "{} {proto} {shows}", net.name);
                verify(&bytes).unwrap();
            }
        }
    }
}

#[test]
fn a_reply_leaves_with_the_vip_as_source() {
    for net in both() {
        for proto in [TCP, UDP] {
            let reply = Frame::of(proto, net.endpoint(), net.client, flag::ACK).with_extras();
            let mut bytes = reply.bytes();
            rewrite(&mut bytes, Side::Src, net.vip, net.client.port()).unwrap();
            assert_eq!(bytes, reply.from(net.vip).bytes(), "{} {proto}", net.name);
            verify(&bytes).unwrap();
        }
    }
}

#[test]
fn the_client_port_moves_with_the_peer_on_either_side() {
    for net in both() {
        for proto in [TCP, UDP] {
            let mut moved = net.client;
            moved.set_port(61_000);
            let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
            let mut bytes = sent.bytes();
            rewrite(&mut bytes, Side::Dst, net.endpoint(), moved.port()).unwrap();
            assert_eq!(
                bytes,
                sent.from(moved).to(net.endpoint()).bytes(),
                "{}",
                net.name
            );

            let reply = Frame::of(proto, net.endpoint(), moved, flag::ACK);
            let mut bytes = reply.bytes();
            rewrite(&mut bytes, Side::Src, net.vip, net.client.port()).unwrap();
            assert_eq!(
                bytes,
                reply.from(net.vip).to(net.client).bytes(),
                "{}",
                net.name
            );
        }
    }
}

#[test]
fn udp_without_checksum_stays_without() {
    for net in both() {
        let sent = Frame::udp(net.client, net.vip).without_checksum();
        let mut bytes = sent.bytes();
        rewrite(&mut bytes, Side::Dst, net.endpoint(), net.client.port()).unwrap();
        assert_eq!(bytes, sent.to(net.endpoint()).bytes(), "{}", net.name);
    }
}

/// Over all values of a word of payload the checksum takes every value, 0 included, which UDP sends as
/// 0xffff.
#[test]
fn no_udp_checksum_becomes_none() {
    for net in both() {
        let l4 = Frame::udp(net.client, net.vip).l4();
        for word in 0..=u16::MAX {
            let sent = Frame::udp(net.client, net.vip).payload(&word.to_be_bytes());
            let mut bytes = sent.bytes();
            rewrite(&mut bytes, Side::Dst, net.endpoint(), net.client.port()).unwrap();
            assert_ne!(bytes[l4 + 6..l4 + 8], [0, 0], "{} {word:#x}", net.name);
            verify(&bytes).unwrap();
        }
    }
}

#[test]
fn a_packet_that_is_sent_on_at_once_gets_its_whole_tuple_in_one_go() {
    for net in both() {
        for proto in [TCP, UDP] {
            for change in [
                |frame: Frame| frame,
                Frame::with_extras,
                |frame: Frame| frame.payload(b"odd"),
            ] {
                let node = SocketAddr::new(net.router, 20_000);
                let sent = change(Frame::of(proto, net.client, net.vip, flag::ACK));
                let mut bytes = sent.bytes();
                let is_complete = rewrite_whole(&mut bytes, node, net.endpoint());
                assert_eq!(is_complete, Some(true), "{} {proto}", net.name);
                let left = sent.from(node).to(net.endpoint());
                assert_eq!(bytes, left.bytes(), "{} {proto}", net.name);
            }
        }
        let without = Frame::udp(net.client, net.vip).without_checksum();
        let mut bytes = without.bytes();
        let is_complete = rewrite_whole(&mut bytes, net.neighbour, net.endpoint());
        assert_eq!(is_complete, Some(true), "none is complete, too");
        let left = without.from(net.neighbour).to(net.endpoint());
        assert_eq!(bytes, left.bytes(), "{}", net.name);
    }
}

#[test]
fn a_hop_is_taken_with_its_checksum() {
    for net in both() {
        let mut bytes = Frame::udp(net.client, net.vip).with_extras().bytes();
        for hops in (1..=64).rev() {
            assert_eq!(take_hop(&mut bytes), Some(hops), "{}", net.name);
            verify(&bytes).unwrap();
        }
    }
}
