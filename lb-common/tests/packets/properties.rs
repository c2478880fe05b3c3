//! What holds for any packet whatsoever.

use std::net::{IpAddr, SocketAddr};

use lb_common::ip::Side;
use proptest::prelude::*;

use crate::{
    datapath::{find, find_error, rewrite, rewrite_error},
    packet::{Frame, TCP, UDP, both, verify},
};

/// An address and a port of a family.
fn at(is_v6: bool) -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 16]>(), any::<u16>()).prop_map(move |(bytes, port)| {
        let ip = if is_v6 {
            IpAddr::from(bytes)
        } else {
            IpAddr::from(*bytes.first_chunk::<4>().unwrap())
        };
        SocketAddr::new(ip, port)
    })
}

/// Client, VIP, endpoint, the client's port at the endpoint.
fn flow() -> impl Strategy<Value = (SocketAddr, SocketAddr, SocketAddr, u16)> {
    any::<bool>().prop_flat_map(|is_v6| (at(is_v6), at(is_v6), at(is_v6), any::<u16>()))
}

fn frame(proto: u8, client: SocketAddr, vip: SocketAddr, shape: (u8, bool, usize)) -> Frame {
    let (flags, has_extras, payload) = shape;
    let frame = Frame::of(proto, client, vip, flags).payload(&vec![flags; payload]);
    if has_extras {
        frame.with_extras()
    } else {
        frame
    }
}

fn shape() -> impl Strategy<Value = (u8, bool, usize)> {
    (any::<u8>(), any::<bool>(), 0usize..100)
}

fn proto() -> impl Strategy<Value = u8> {
    prop_oneof![Just(TCP), Just(UDP)]
}

proptest! {
    #[test]
    fn parsing_and_translating_never_panic_on_random_bytes(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200), is_ipv6 in any::<bool>(),
    ) {
        let net = both()[usize::from(is_ipv6)];
        if let Some(head) = bytes.get_mut(12..15) {
            head.copy_from_slice(if is_ipv6 { &[0x86, 0xdd, 0x60] } else { &[0x08, 0x00, 0x45] });
        }
        let len = bytes.len();
        find(&mut bytes);
        find_error(&mut bytes);
        rewrite(&mut bytes, Side::Dst, net.vip, 1);
        rewrite_error(&mut bytes, Side::Src, net.vip, 1, Some(Side::Dst));
        prop_assert_eq!(bytes.len(), len);
    }

    #[test]
    fn parsing_never_panics_on_a_valid_packet_that_was_damaged(
        (client, vip, endpoint, port) in flow(), proto in proto(), shape in shape(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        let about = frame(proto, client, vip, shape);
        let error = Frame::icmp(vip.ip(), client.ip(), (3, 1), &about, 60);
        for mut bytes in [about.bytes(), error.bytes()] {
            for (at, byte) in &damage {
                *at.get_mut(&mut bytes) = *byte;
            }
            bytes.truncate(end.index(bytes.len()) + 1);
            find(&mut bytes);
            find_error(&mut bytes);
            // What the damage made an address of the other family has no endpoint to go to.
            let is_v4 = bytes.get(12..14) == Some(&[0x08, 0x00]);
            if is_v4 == client.is_ipv4() {
                rewrite_error(&mut bytes, Side::Dst, endpoint, port, None);
                rewrite(&mut bytes, Side::Dst, endpoint, port);
            }
        }
    }

    #[test]
    fn translating_there_and_back_is_the_identity(
        (client, vip, endpoint, port) in flow(), proto in proto(), shape in shape(),
    ) {
        let sent = frame(proto, client, vip, shape).bytes();
        let mut bytes = sent.clone();
        rewrite(&mut bytes, Side::Dst, endpoint, port).unwrap();
        verify(&bytes).map_err(TestCaseError::fail)?;
        rewrite(&mut bytes, Side::Dst, vip, client.port()).unwrap();
        verify(&bytes).map_err(TestCaseError::fail)?;
        prop_assert_eq!(bytes, sent);
    }

    #[test]
    fn any_translation_equals_the_packet_built_anew(
        (client, vip, endpoint, port) in flow(), proto in proto(), shape in shape(),
    ) {
        let sent = frame(proto, client, vip, shape);
        let mut bytes = sent.bytes();
        rewrite(&mut bytes, Side::Dst, endpoint, port).unwrap();
        let moved = SocketAddr::new(client.ip(), port);
        prop_assert_eq!(bytes, sent.from(moved).to(endpoint).bytes());
    }

    #[test]
    fn translating_an_error_there_and_back_is_the_identity(
        (client, vip, endpoint, port) in flow(), proto in proto(), shape in shape(),
        keep in 4usize..120, is_from_endpoint in any::<bool>(),
    ) {
        let kind = if client.is_ipv4() { (3, 4) } else { (2, 0) };
        let net = both()[usize::from(client.is_ipv6())];
        let outer = is_from_endpoint.then_some(Side::Src);
        let from = outer.map_or(net.router, |_| endpoint.ip());
        let about = frame(proto, SocketAddr::new(client.ip(), port), endpoint, shape);
        let told = Frame::icmp(from, client.ip(), kind, &about, keep).bytes();
        let mut bytes = told.clone();
        rewrite_error(&mut bytes, Side::Dst, vip, client.port(), outer).unwrap();
        verify(&bytes).map_err(TestCaseError::fail)?;
        rewrite_error(&mut bytes, Side::Dst, endpoint, port, outer).unwrap();
        prop_assert_eq!(bytes, told);
    }
}
