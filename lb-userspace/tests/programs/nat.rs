//! A flow's packets in both directions: DNAT and rev-NAT, whatever headers stand around.

use lb_common::{tables::Traffic, verdict::Verdict};

use crate::{
    kernel::{Becomes, Egress, Ingress, Kernel, Untouched},
    packet::{Frame, TCP, UDP, Variant, both, flag},
};

const WEB: u32 = 3;

#[test]
fn a_new_flow_goes_to_the_endpoint_and_its_reply_leaves_with_the_vip_as_source() {
    let variants: &[Variant] = &[
        ("plain", |frame| frame),
        ("802.1Q", |frame| frame.tagged(&[0x8100])),
        ("QinQ", |frame| frame.tagged(&[0x88a8, 0x8100])),
        ("options or extensions", Frame::with_extras),
        ("a tag and options or extensions", |frame| {
            frame.tagged(&[0x8100]).with_extras()
        }),
        ("odd length", |frame| frame.payload(b"odd")),
        ("no payload", |frame| frame.payload(b"")),
        ("much payload", |frame| frame.payload(&[0xa5; 1_400])),
    ];
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for ((shows, change), port) in variants.iter().zip(1_000..) {
            for proto in [TCP, UDP] {
                let mut client = net.client;
                client.set_port(port);
                let sent = change(Frame::of(proto, client, net.vip, flag::SYN));
                kernel.pass(shows, &sent, net.endpoint());
                let answer = change(Frame::of(
                    proto,
                    net.endpoint(),
                    client,
                    flag::SYN | flag::ACK,
                ));
                let told = answer.clone().from(net.vip);
                kernel.check(shows, Egress, &answer, Becomes(&told, Verdict::RevNat));
            }
        }
    }
}

#[test]
fn udp_without_checksum_stays_without_in_both_directions() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = Frame::udp(net.client, net.vip).without_checksum();
        kernel.pass("request", &sent, net.endpoint());
        let answer = Frame::udp(net.endpoint(), net.client).without_checksum();
        let told = answer.clone().from(net.vip);
        kernel.check("answer", Egress, &answer, Becomes(&told, Verdict::RevNat));
    }
}

/// The kernel's own checksum update, for every value that the field can take.
#[test]
fn no_udp_checksum_becomes_none_in_the_kernel() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = Frame::udp(net.client, net.vip).payload(&[0, 0]);
        let l4 = sent.l4();
        // The one payload for which the checksum at the endpoint is computed as 0, and its neighbours.
        let delivered = sent.clone().to(net.endpoint()).l4_bytes();
        let zero = u16::from_be_bytes([delivered[6], delivered[7]]);
        for word in zero.wrapping_sub(2)..=zero.wrapping_add(2) {
            let sent = Frame::udp(net.client, net.vip).payload(&word.to_be_bytes());
            kernel.pass("around zero", &sent, net.endpoint());
            let outcome = kernel.run(Ingress, &sent.bytes());
            if word == zero {
                assert_eq!(outcome.bytes[l4 + 6..l4 + 8], [0xff, 0xff], "{}", net.name);
            }
        }
    }
}

#[test]
fn other_ports_of_a_vip_and_other_addresses_with_its_port_are_not_the_service() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let mut other_port = net.vip;
        other_port.set_port(81);
        let mut other_address = net.other_vip;
        other_address.set_port(net.vip.port());
        for to in [other_port, other_address] {
            for proto in [TCP, UDP] {
                let sent = Frame::of(proto, net.client, to, flag::SYN);
                kernel.check("rule 51", Ingress, &sent, Untouched);
            }
        }
    }
}

#[test]
fn each_service_counts_its_own_packets_bytes_and_flows_in_each_family() {
    const OTHER: u32 = 4;
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let nets = both();
    let mut expected = vec![];
    for (net, extra) in nets.iter().zip([0, 2]) {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.serve(net.other_vip, OTHER, &[net.endpoints[1]]);
        let sent = |flags| Frame::tcp(net.client, net.vip, flags);
        let answer =
            Frame::tcp(net.endpoint(), net.client, flag::ACK).payload(b"much longer than that");
        let told = answer.clone().from(net.vip);
        kernel.pass("the first packet", &sent(flag::SYN), net.endpoint());
        for _ in 0..2 + extra {
            kernel.pass("a further one", &sent(flag::ACK), net.endpoint());
        }
        kernel.check("answer", Egress, &answer, Becomes(&told, Verdict::RevNat));
        let bytes = |frame: &Frame| u64::try_from(frame.bytes().len()).unwrap();
        expected.push(Traffic {
            flows: 1,
            packets_in: 3 + extra,
            bytes_in: (3 + extra) * bytes(&sent(0)),
            packets_out: 1,
            bytes_out: bytes(&answer),
        });
    }
    for (net, expected) in nets.iter().zip(expected) {
        assert_eq!(kernel.traffic(WEB, net.vip), expected, "{}", net.name);
        assert_eq!(
            kernel.traffic(OTHER, net.vip),
            Traffic::default(),
            "{}",
            net.name
        );
    }
}
