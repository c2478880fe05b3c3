//! Packets in pieces (rule 98): each goes where the first one went, or is dropped and counted, or is left alone.

mod notes;
mod orders;
mod reference;

use std::net::SocketAddr;

use lb_common::{tables::Device, verdict::Verdict};

use crate::{
    kernel::{Becomes, Dropped, Egress, Hook, Ingress, Kernel, Untouched, settings},
    packet::{Frame, SCTP, TCP, UDP, both, flag},
};

const WEB: u32 = 2;
const SIZE: usize = 40;

/// A packet that is cut to three pieces of [`SIZE`].
fn long(proto: u8, src: SocketAddr, dst: SocketAddr, flags: u8) -> Frame {
    let header = match proto {
        TCP => 20,
        UDP => 8,
        _ => 16,
    };
    let payload: Vec<u8> = (0..100 - header).collect();
    Frame::of(proto, src, dst, flags).payload(&payload)
}

/// Each piece of `before` becomes that of `after`.
#[track_caller]
fn pass(kernel: &mut Kernel, hook: Hook, before: &Frame, after: &Frame, verdict: Verdict) {
    let after = after.pieces(1, SIZE);
    for (piece, after) in before.pieces(1, SIZE).iter().zip(&after) {
        kernel.check("a piece", hook, piece, Becomes(after, verdict));
    }
}

#[test]
fn all_pieces_of_a_packet_reach_the_endpoint_and_are_counted() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &net.endpoints[..3]);
        for proto in [TCP, UDP] {
            let before = kernel.traffic(WEB, net.vip);
            let sent = long(proto, net.client, net.vip, flag::SYN);
            kernel.run(Ingress, &sent.pieces(9, SIZE)[0].bytes());
            let flow = kernel.flows.get((net.client, net.vip, proto));
            let endpoint = flow.expect("the first piece opens a flow").peer;
            let delivered = sent.clone().to(endpoint);
            pass(&mut kernel, Ingress, &sent, &delivered, Verdict::Dnat);
            let (sent, delivered) = (sent.with_extras(), delivered.with_extras());
            pass(&mut kernel, Ingress, &sent, &delivered, Verdict::Dnat);
            let after = kernel.traffic(WEB, net.vip);
            assert_eq!(after.packets_in - before.packets_in, 7, "{}", net.name);
            assert_eq!(after.flows - before.flows, 1, "{}", net.name);
        }
    }
}

#[test]
fn all_pieces_of_an_answer_leave_with_the_vip_as_source() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
            kernel.pass("opens", &sent, net.endpoint());
            let answer = long(proto, net.endpoint(), net.client, flag::SYN | flag::ACK);
            let told = answer.clone().from(net.vip);
            pass(&mut kernel, Egress, &answer, &told, Verdict::RevNat);
            let traffic = kernel.traffic(WEB, net.vip);
            assert_eq!(traffic.packets_out % 3, 0, "{}", net.name);
        }
    }
}

#[test]
fn all_pieces_get_an_address_of_the_node_and_back() {
    let Some(mut kernel) = Kernel::load_with(&settings()) else {
        return;
    };
    kernel.set_device(Device::UPLINK, both().map(|net| net.router));
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = long(UDP, net.client, net.vip, 0);
        let inside = sent.clone().to(net.endpoint());
        pass(&mut kernel, Ingress, &sent, &inside, Verdict::Dnat);
        // The first piece is what the client gets its port for.
        kernel.run(Egress, &inside.pieces(9, SIZE)[0].bytes());
        let snat = kernel.flows.get((net.client, net.endpoint(), UDP));
        let node = snat.expect("an SNAT entry").peer;
        let left = inside.clone().from(node);
        pass(&mut kernel, Egress, &inside, &left, Verdict::Snat);

        let answer = long(UDP, net.endpoint(), node, 0);
        let inside = answer.clone().to(net.client);
        pass(&mut kernel, Ingress, &answer, &inside, Verdict::Unsnat);
        let told = inside.clone().from(net.vip);
        pass(&mut kernel, Egress, &inside, &told, Verdict::RevNat);
    }
}

/// SCTP's checksum is over all pieces and holds the ports: it cannot be mended in the first alone.
#[test]
fn sctp_in_pieces_passes_where_its_ports_stay() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        let same = SocketAddr::new(net.endpoint().ip(), net.vip.port());
        kernel.serve(net.vip, WEB, &[same]);
        let sent = long(SCTP, net.client, net.vip, flag::SYN);
        let delivered = sent.clone().to(same);
        pass(&mut kernel, Ingress, &sent, &delivered, Verdict::Dnat);

        kernel.serve(net.other_vip, WEB, &[net.endpoint()]);
        let sent = sent.to(net.other_vip).pieces(1, SIZE);
        let outcome = kernel.run(Ingress, &sent[0].bytes());
        assert_eq!(outcome.verdict, Some(Verdict::Fragment), "{}", net.name);
    }
}

#[test]
fn a_later_piece_without_its_first_is_dropped_for_a_cluster_ip_and_left_alone_elsewhere() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.serve(net.other_vip, WEB, &[net.endpoint()]);
        kernel.tables.mark(net.vip.ip());
        for proto in [TCP, UDP, SCTP] {
            for at in 1..3 {
                let piece = |to| long(proto, net.client, to, 0).pieces(7, SIZE)[at].clone();
                let lost = Dropped(Verdict::Fragment);
                kernel.check("ClusterIP", Ingress, &piece(net.vip), lost);
                let extras = piece(net.vip).with_extras().tagged(&[0x8100]);
                kernel.check("ClusterIP", Ingress, &extras, lost);
                for other in [net.other_vip, net.stranger] {
                    for hook in Hook::BOTH {
                        kernel.check("rule 51", hook, &piece(other), Untouched);
                    }
                }
            }
        }
    }
}

/// The rest of the header is in the next piece, or in what pads a short frame.
#[test]
fn a_first_piece_that_is_too_short_for_its_header_is_dropped_for_a_cluster_ip() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for (proto, size) in [(TCP, 8), (TCP, 16), (SCTP, 8)] {
            let sent = long(proto, net.client, net.vip, flag::SYN).pieces(7, size);
            for padding in [0, 30] {
                let mut bytes = sent[0].bytes();
                bytes.resize(bytes.len() + padding, 0);
                let outcome = kernel.run(Ingress, &bytes);
                assert_eq!(outcome.verdict, None, "rule 51, {}", net.name);
                assert_eq!(outcome.bytes, bytes, "rule 51, {}", net.name);
                kernel.tables.mark(net.vip.ip());
                let outcome = kernel.run(Ingress, &bytes);
                assert_eq!(outcome.verdict, Some(Verdict::Fragment), "{}", net.name);
                kernel
                    .tables
                    .remove_frontend(SocketAddr::new(net.vip.ip(), 0), 0);
            }
        }
        assert_eq!(kernel.flows.tuples(net.vip), [], "{}", net.name);
    }
}

#[test]
fn pieces_of_others_are_left_alone() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            for piece in long(proto, net.client, net.stranger, flag::ACK).pieces(7, SIZE) {
                for hook in Hook::BOTH {
                    kernel.check("another's", hook, &piece, Untouched);
                }
            }
        }
    }
}

#[test]
fn a_fragment_header_on_a_whole_packet_is_no_fragment() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let [_, net] = both();
    kernel.serve(net.vip, WEB, &[net.endpoint()]);
    let sent = Frame::udp(net.client, net.vip).fragment(0, false);
    kernel.pass("RFC 6946", &sent, net.endpoint());
}
