//! SCTP: translated with its CRC32c, followed by its chunks, refused by ICMP (rule 40).

use lb_common::{flow::Flow, verdict::Verdict};

use crate::{
    kernel::{Becomes, Dropped, Egress, Ingress, Kernel, REDIRECT},
    packet::{Frame, Net, SCTP, both, chunk, flag, verify},
};

const WEB: u32 = 1;

fn sent(net: &Net, kind: u8) -> Frame {
    Frame::sctp(net.client, net.vip, kind)
}

fn answer(kernel: &mut Kernel, net: &Net, kind: u8) {
    let answer = Frame::sctp(net.endpoint(), net.client, kind);
    let told = answer.clone().from(net.vip);
    kernel.check("answer", Egress, &answer, Becomes(&told, Verdict::RevNat));
}

#[test]
fn an_association_is_translated_both_ways_with_its_checksum_whatever_its_length() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for length in [0, 1, 2, 3, 4, 16, 255, 256, 1_399, 1_400] {
            for change in [
                |frame| frame,
                Frame::with_extras,
                |frame: Frame| frame.tagged(&[0x8100]),
            ] {
                let packet = change(sent(&net, chunk::INIT)).payload(&vec![0xa7; length]);
                kernel.pass("request", &packet, net.endpoint());
                let answer = change(Frame::sctp(net.endpoint(), net.client, chunk::INIT_ACK))
                    .payload(&vec![0x7a; length]);
                let told = answer.clone().from(net.vip);
                kernel.check("answer", Egress, &answer, Becomes(&told, Verdict::RevNat));
            }
        }
    }
}

#[test]
fn an_init_after_anything_else_opens_anew_and_a_repeated_one_does_not() {
    for (shows, kind, is_closed) in [
        ("aborted", chunk::ABORT, true),
        ("went on", chunk::COOKIE_ECHO, false),
        ("ended in good order", chunk::SHUTDOWN_COMPLETE, true),
    ] {
        for net in both() {
            let Some(mut kernel) = Kernel::load() else {
                return;
            };
            kernel.serve(net.vip, WEB, &[net.endpoint()]);
            kernel.pass("opens", &sent(&net, chunk::INIT), net.endpoint());
            kernel.serve(net.vip, WEB, &[net.endpoints[1]]);
            kernel.pass("rule 79", &sent(&net, chunk::INIT), net.endpoint());
            answer(&mut kernel, &net, chunk::INIT_ACK);
            kernel.pass(shows, &sent(&net, kind), net.endpoint());
            let flow = kernel.flows.get((net.client, net.vip, SCTP)).unwrap();
            assert_eq!(flow.flags & Flow::<()>::RST != 0, is_closed, "{shows}");
            kernel.pass(shows, &sent(&net, chunk::INIT), net.endpoints[1]);
            assert_eq!(kernel.traffic(WEB, net.vip).flows, 2, "{shows}");
        }
    }
}

#[test]
fn an_association_without_an_endpoint_is_refused_with_what_its_sender_knows_it_by() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[]);
        for packet in [
            sent(&net, chunk::INIT),
            sent(&net, chunk::DATA).payload(&[9; 1_000]),
            sent(&net, chunk::DATA).payload(&[9; 4]),
        ] {
            let outcome = kernel.run(Ingress, &packet.bytes());
            assert_eq!(outcome.verdict, Some(Verdict::NoEndpoint), "{}", net.name);
            assert_eq!(outcome.returned, REDIRECT);
            verify(&outcome.bytes).expect("checksums");
            let header = if net.is_v6 { 40 } else { 20 };
            let icmp = &outcome.bytes[14 + header..];
            let kind = if net.is_v6 { [1, 4] } else { [3, 3] };
            assert_eq!(icmp[..2], kind, "{}", net.name);
            assert_eq!(icmp[8..], packet.ip_bytes()[..header + 20], "{}", net.name);
        }
        for (shows, packet) in [
            ("an abort", sent(&net, chunk::ABORT)),
            ("too short to tell", sent(&net, chunk::DATA).payload(b"")),
        ] {
            kernel.check(shows, Ingress, &packet, Dropped(Verdict::Unanswered));
        }
    }
}

/// Only an error can tell the client of a smaller hop behind.
#[test]
fn icmp_errors_about_an_association_are_translated_to_its_client() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let opens = Frame::of(SCTP, net.client, net.vip, flag::SYN);
        kernel.pass("opens", &opens, net.endpoint());
        let delivered = opens.clone().to(net.endpoint());
        for (shows, kind) in net.icmp_errors() {
            let error = Frame::icmp(net.router, net.client.ip(), *kind, &delivered, 8);
            let told = Frame::icmp(net.router, net.client.ip(), *kind, &opens, 8);
            let told = Becomes(&told, Verdict::IcmpToClient);
            kernel.check(shows, Egress, &error, told);
        }
    }
}
