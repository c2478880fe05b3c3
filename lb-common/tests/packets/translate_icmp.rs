//! Translated ICMP errors equal those built anew, embedded packet and all checksums included (rule 97).

use std::net::SocketAddr;

use lb_common::ip::Side;

use crate::{
    datapath::{find_error, rewrite_error},
    packet::{Frame, Net, TCP, UDP, both, flag, verify},
};

/// How much of the embedded transport part is there: ports only, up to within the TCP checksum, up to
/// behind it, all.
const KEPT: [usize; 6] = [4, 8, 16, 18, 20, usize::MAX];

fn moved(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip(), 61_000)
}

/// What an error about `delivered` becomes must be the error about `sent`.
fn check(net: &Net, shows: &str, before: &Frame, after: &Frame, rewrite: impl Fn(&mut [u8])) {
    let mut bytes = before.bytes();
    rewrite(&mut bytes);
    assert_eq!(bytes, after.bytes(), "{} {shows}", net.name);
    verify(&bytes).unwrap();
}

#[test]
fn an_error_from_a_router_tells_the_client_about_the_packet_it_sent() {
    for net in both() {
        for (shows, kind) in net.icmp_errors() {
            for (proto, keep) in [TCP, UDP]
                .into_iter()
                .flat_map(|p| KEPT.map(|keep| (p, keep)))
            {
                let sent = Frame::of(proto, net.client, net.vip, flag::ACK).with_extras();
                let delivered = sent.clone().from(moved(net.client)).to(net.endpoint());
                let error = |about| Frame::icmp(net.router, net.client.ip(), *kind, about, keep);
                check(&net, shows, &error(&delivered), &error(&sent), |bytes| {
                    rewrite_error(bytes, Side::Dst, net.vip, net.client.port(), None).unwrap();
                });
            }
        }
    }
}

#[test]
fn an_error_from_the_endpoint_comes_from_the_vip() {
    for net in both() {
        for (shows, kind) in net.icmp_errors() {
            for keep in KEPT {
                let sent = Frame::udp(net.client, net.vip);
                let delivered = sent.clone().to(net.endpoint());
                let from = |peer: SocketAddr, about: &Frame| {
                    Frame::icmp(peer.ip(), net.client.ip(), *kind, about, keep).tagged(&[0x8100])
                };
                let (before, after) = (from(net.endpoint(), &delivered), from(net.vip, &sent));
                check(&net, shows, &before, &after, |bytes| {
                    let port = net.client.port();
                    rewrite_error(bytes, Side::Dst, net.vip, port, Some(Side::Src)).unwrap();
                });
            }
        }
    }
}

/// As it does where the client has another address behind the node.
#[test]
fn an_error_from_a_router_comes_from_the_vip_if_it_shall() {
    for net in both() {
        for (shows, kind) in net.icmp_errors() {
            let sent = Frame::udp(net.client, net.vip);
            let delivered = sent.clone().to(net.endpoint());
            let from = |ip, about| Frame::icmp(ip, net.client.ip(), *kind, about, 8);
            let (before, after) = (from(net.router, &delivered), from(net.vip.ip(), &sent));
            check(&net, shows, &before, &after, |bytes| {
                let port = net.client.port();
                rewrite_error(bytes, Side::Dst, net.vip, port, Some(Side::Src)).unwrap();
            });
        }
    }
}

#[test]
fn an_error_from_the_client_reaches_the_endpoint_about_the_packet_it_sent() {
    for net in both() {
        for (shows, kind) in net.icmp_errors() {
            for (proto, keep) in [TCP, UDP]
                .into_iter()
                .flat_map(|p| KEPT.map(|keep| (p, keep)))
            {
                let sent = Frame::of(proto, net.endpoint(), moved(net.client), flag::ACK);
                let delivered = sent.clone().from(net.vip).to(net.client);
                let to = |peer: SocketAddr, about: &Frame| {
                    Frame::icmp(net.client.ip(), peer.ip(), *kind, about, keep).with_extras()
                };
                let (before, after) = (to(net.vip, &delivered), to(net.endpoint(), &sent));
                check(&net, shows, &before, &after, |bytes| {
                    let port = moved(net.client).port();
                    rewrite_error(bytes, Side::Src, net.endpoint(), port, Some(Side::Dst)).unwrap();
                });
            }
        }
    }
}

/// A frame may be longer than its packet; what follows is not the embedded packet's checksum.
#[test]
fn what_follows_the_message_in_its_frame_stays_as_it_is() {
    for net in both() {
        let (_, kind) = net.icmp_errors()[0];
        for keep in [4, 8, 16] {
            let sent = Frame::tcp(net.client, net.vip, flag::ACK);
            let delivered = sent.clone().to(net.endpoint());
            let error = |about| {
                let mut bytes = Frame::icmp(net.router, net.client.ip(), kind, about, keep).bytes();
                bytes.extend([0x83; 40]);
                bytes
            };
            let mut bytes = error(&delivered);
            rewrite_error(&mut bytes, Side::Dst, net.vip, net.client.port(), None).unwrap();
            assert_eq!(bytes, error(&sent), "{} {keep}", net.name);
        }
        // Not even the ports are the message's own.
        let about = Frame::tcp(net.client, net.endpoint(), flag::ACK);
        let mut bytes = Frame::icmp(net.router, net.client.ip(), kind, &about, 2).bytes();
        bytes.extend([0x83; 40]);
        assert_eq!(find_error(&mut bytes), None, "{}", net.name);
    }
}

#[test]
fn an_embedded_udp_packet_without_checksum_stays_without() {
    for net in both() {
        let (_, kind) = net.icmp_errors()[0];
        let sent = Frame::udp(net.client, net.vip).without_checksum();
        let delivered = sent.clone().to(net.endpoint());
        let error = |about| Frame::icmp(net.router, net.client.ip(), kind, about, usize::MAX);
        check(&net, "", &error(&delivered), &error(&sent), |bytes| {
            rewrite_error(bytes, Side::Dst, net.vip, net.client.port(), None).unwrap();
        });
    }
}
