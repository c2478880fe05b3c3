//! Which ICMP messages are errors about TCP or UDP packets (rule 97).

use crate::{
    datapath::{Found, find, find_error},
    packet::{Frame, Net, TCP, UDP, both, flag},
};

fn about(net: &Net, proto: u8) -> Frame {
    Frame::of(proto, net.client, net.endpoint(), flag::ACK)
}

#[test]
fn every_kind_of_error_names_the_embedded_tuple() {
    for net in both() {
        for proto in [TCP, UDP] {
            let about = about(&net, proto);
            let tuple = (about.src, about.dst, u32::from(proto));
            for (shows, kind) in net.icmp_errors() {
                for keep in [8, 20, usize::MAX] {
                    let error = Frame::icmp(net.router, net.client.ip(), *kind, &about, keep);
                    let mut bytes = error.bytes();
                    assert_eq!(find(&mut bytes), Some(Found::Icmp), "{} {shows}", net.name);
                    assert_eq!(find_error(&mut bytes), Some(tuple), "{} {shows}", net.name);
                }
            }
        }
    }
}

#[test]
fn options_extensions_and_tags_may_stand_before_both_headers() {
    for net in both() {
        let (_, kind) = net.icmp_errors()[0];
        let about = about(&net, TCP).with_extras();
        let error = Frame::icmp(net.router, net.client.ip(), kind, &about, 8)
            .with_extras()
            .tagged(&[0x8100]);
        let tuple = (about.src, about.dst, u32::from(TCP));
        assert_eq!(find_error(&mut error.bytes()), Some(tuple), "{}", net.name);
    }
}

#[test]
fn other_messages_are_none_of_ours() {
    for net in both() {
        let (_, error) = net.icmp_errors()[0];
        let (router, client) = (net.router, net.client.ip());
        let whole = about(&net, TCP);
        let later = about(&net, UDP).fragment(4, true);
        let icmp = Frame::icmp(client, net.endpoint().ip(), error, &whole, 8);
        let mut rows = vec![
            (
                "about a later fragment",
                Frame::icmp(router, client, error, &later, 8),
            ),
            ("about ICMP", Frame::icmp(router, client, error, &icmp, 8)),
            (
                "in fragments",
                Frame::icmp(router, client, error, &whole, 8).fragment(0, true),
            ),
        ];
        for (shows, kind) in net.icmp_others() {
            rows.push((shows, Frame::icmp(router, client, *kind, &whole, 8)));
        }
        for (shows, message) in rows {
            assert_eq!(
                find_error(&mut message.bytes()),
                None,
                "{} {shows}",
                net.name
            );
        }
    }
}

#[test]
fn an_error_about_a_first_fragment_has_its_ports() {
    for net in both() {
        let (_, kind) = net.icmp_errors()[0];
        let about = about(&net, UDP).fragment(0, true);
        let error = Frame::icmp(net.router, net.client.ip(), kind, &about, 8);
        assert!(find_error(&mut error.bytes()).is_some(), "{}", net.name);
    }
}

#[test]
fn an_error_cut_short_before_the_embedded_ports_is_none_of_ours() {
    for net in both() {
        let (_, kind) = net.icmp_errors()[0];
        let about = about(&net, TCP).with_extras();
        let error = Frame::icmp(net.router, net.client.ip(), kind, &about, 8).with_extras();
        let whole = error.bytes();
        for end in 0..=whole.len() {
            let is_found = find_error(&mut whole.clone()[..end]).is_some();
            assert_eq!(
                is_found,
                end >= whole.len() - 4,
                "{}, {end} bytes",
                net.name
            );
        }
    }
}
