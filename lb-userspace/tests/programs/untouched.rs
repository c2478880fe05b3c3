//! What is no business of ours leaves as it came, uncounted.

use std::net::SocketAddr;

use crate::{
    kernel::{Hook, Kernel, UNSPEC},
    packet::{Frame, Net, TCP, UDP, both, flag},
};

/// A frame with this EtherType and content.
fn raw(ethertype: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

/// An ARP request for the VIP.
fn arp(net: &Net) -> Vec<u8> {
    let mut content = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 244, 1, 11];
    content.extend([0, 0, 0, 0, 0, 0]);
    content.extend(match net.vip.ip() {
        std::net::IpAddr::V4(ip) => ip.octets(),
        std::net::IpAddr::V6(_) => [10, 96, 0, 1],
    });
    raw(0x0806, &content)
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Rows of what it is and its bytes.
fn rows(net: &Net) -> Vec<(&'static str, Vec<u8>)> {
    let (multicast, broadcast, link_local) = if net.is_v6 {
        (
            at("[ff02::fb]:5353"),
            at("[ff02::1]:80"),
            at("[fe80::1]:80"),
        )
    } else {
        (
            at("224.0.0.251:5353"),
            at("255.255.255.255:67"),
            at("169.254.169.254:80"),
        )
    };
    let (client, vip) = (net.client, net.vip);
    let icmp = |kind| Frame::icmp(client.ip(), vip.ip(), kind, &Frame::udp(client, vip), 0);
    let mut dccp = Frame::udp(client, vip).bytes();
    dccp[if net.is_v6 { 20 } else { 23 }] = 33;
    let mut bad_version = Frame::tcp(client, vip, flag::SYN).bytes();
    bad_version[14] ^= 0x80;
    let to_vip = Frame::tcp(client, vip, flag::SYN);
    // Tagged, since a test run refuses an IP packet without an IP header.
    let tagged = to_vip.clone().tagged(&[0x8100]).bytes();
    let to_vip = to_vip.bytes();
    let mut rows = vec![
        ("ARP for the VIP", arp(net)),
        ("LLDP", raw(0x88cc, &[1; 46])),
        ("multicast DNS", Frame::udp(client, multicast).bytes()),
        ("broadcast", Frame::udp(client, broadcast).bytes()),
        (
            "link-local",
            Frame::tcp(client, link_local, flag::SYN).bytes(),
        ),
        ("other UDP", Frame::udp(client, net.stranger).bytes()),
        (
            "other TCP",
            Frame::tcp(client, net.stranger, flag::SYN).bytes(),
        ),
        (
            "straight to the endpoint",
            Frame::udp(client, net.endpoint()).bytes(),
        ),
        (
            "from the endpoint to who never asked",
            Frame::udp(net.endpoint(), net.neighbour).bytes(),
        ),
        ("from the VIP", Frame::udp(vip, client).bytes()),
        ("DCCP to the VIP", dccp),
        ("of another IP version", bad_version),
        (
            "three VLAN tags",
            Frame::udp(client, vip)
                .tagged(&[0x88a8, 0x8100, 0x8100])
                .bytes(),
        ),
        (
            "cut short in the transport header",
            to_vip[..to_vip.len() - 21].to_vec(),
        ),
        ("cut short in the IP header", tagged[..30].to_vec()),
        ("cut short in the tag", tagged[..16].to_vec()),
        ("an Ethernet header and nothing else", tagged[..14].to_vec()),
    ];
    if net.is_v6 {
        for (shows, kind) in [
            ("router solicitation", 133),
            ("router advertisement", 134),
            ("neighbour solicitation", 135),
            ("neighbour advertisement", 136),
            ("multicast listener report", 143),
        ] {
            rows.push((shows, icmp((kind, 0)).bytes()));
        }
    } else {
        rows.push(("echo to the VIP (rule 52)", icmp((8, 0)).bytes()));
        rows.push(("timestamp", icmp((13, 0)).bytes()));
    }
    rows
}

#[test]
fn what_is_no_business_of_ours_leaves_as_it_came_and_uncounted() {
    for net in both() {
        let Some(mut kernel) = Kernel::load() else {
            return;
        };
        kernel.serve(net.vip, 1, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
            kernel.pass("a flow beside", &sent, net.endpoint());
        }
        let flows = kernel.flows.tuples(net.vip).len();
        for (shows, bytes) in rows(&net) {
            for hook in Hook::BOTH {
                let outcome = kernel.run(hook, &bytes);
                assert_eq!(outcome.verdict, None, "{} {shows}", net.name);
                assert_eq!(outcome.returned, UNSPEC, "{} {shows}", net.name);
                assert_eq!(outcome.bytes, bytes, "{} {shows}", net.name);
            }
        }
        assert_eq!(
            kernel.flows.tuples(net.vip).len(),
            flows,
            "{}: no new flow",
            net.name
        );
    }
}

#[test]
fn a_packet_to_a_vip_that_leaves_by_a_device_is_left_alone() {
    for net in both() {
        let Some(mut kernel) = Kernel::load() else {
            return;
        };
        kernel.serve(net.vip, 1, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
            kernel.check("egress", Hook::Egress, &sent, crate::kernel::Untouched);
            kernel.pass("opens", &sent, net.endpoint());
            kernel.check("egress", Hook::Egress, &sent, crate::kernel::Untouched);
        }
    }
}

#[test]
fn an_answer_that_enters_by_a_device_is_left_alone_until_it_leaves_to_the_client() {
    for net in both() {
        let Some(mut kernel) = Kernel::load() else {
            return;
        };
        kernel.serve(net.vip, 1, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
            kernel.pass("opens", &sent, net.endpoint());
            let answer = Frame::of(proto, net.endpoint(), net.client, flag::ACK);
            kernel.check("design 2", Hook::Ingress, &answer, crate::kernel::Untouched);
        }
    }
}
