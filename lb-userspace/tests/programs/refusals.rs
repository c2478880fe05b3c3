//! Packets that are refused become the answer themselves: a reset, or ICMP port unreachable (rule 40).

use etherparse::{SlicedPacket, TransportSlice};
use lb_common::verdict::{Action, Verdict};

use crate::{
    kernel::{Dropped, Ingress, Kernel, REDIRECT},
    packet::{Frame, Net, both, flag, verify},
};

const WEB: u32 = 1;

/// Refuses `sent` and gives the answer, whose checksums are right and whose addresses are turned round.
fn refuse(kernel: &mut Kernel, sent: &Frame) -> Vec<u8> {
    let input = sent.bytes();
    let outcome = kernel.run(Ingress, &input);
    assert_eq!(outcome.verdict, Some(Verdict::NoEndpoint), "{sent:?}");
    assert_eq!(outcome.returned, REDIRECT);
    verify(&outcome.bytes).expect("checksums");
    let answer = outcome.bytes;
    assert_eq!(
        (&answer[..6], &answer[6..12]),
        (&input[6..12], &input[..6]),
        "MACs"
    );
    let turned = Frame::tcp(sent.dst, sent.src, 0).bytes();
    let addresses = if sent.src.is_ipv4() { 26..34 } else { 22..54 };
    assert_eq!(answer[addresses.clone()], turned[addresses], "addresses");
    answer
}

fn each(mut check: impl FnMut(&mut Kernel, &Net)) {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[]);
        check(&mut kernel, &net);
        assert_eq!(
            kernel.flows.tuples(net.vip),
            [],
            "{}: nothing to remember",
            net.name
        );
    }
}

#[test]
fn a_segment_is_answered_by_the_reset_that_rfc_9293_wants() {
    each(|kernel, net| {
        let segment = |flags| Frame::tcp(net.client, net.vip, flags).with_seq(u32::MAX);
        // Acknowledged: all of its sequence space. The acknowledgement number sent is always 9.
        for (sent, seq, ack, is_ack) in [
            (segment(flag::SYN).payload(b""), 0, 0, true),
            (segment(flag::SYN).payload(b"fast open"), 0, 9, true),
            (segment(flag::ACK), 9, 0, false),
            (
                segment(flag::ACK | flag::FIN).payload(&[7; 1200]),
                9,
                0,
                false,
            ),
        ] {
            let answer = refuse(kernel, &sent);
            let packet = SlicedPacket::from_ethernet(&answer).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
                panic!("{answer:?}")
            };
            assert!(tcp.rst() && !tcp.syn() && !tcp.fin());
            let ports = (tcp.source_port(), tcp.destination_port());
            assert_eq!(ports, (sent.dst.port(), sent.src.port()));
            let numbers = (
                tcp.sequence_number(),
                tcp.acknowledgment_number(),
                tcp.ack(),
            );
            assert_eq!(numbers, (seq, ack, is_ack), "{}: {sent:?}", net.name);
            assert!(tcp.payload().is_empty());
        }
    });
}

#[test]
fn a_datagram_is_answered_by_port_unreachable_with_its_start_inside() {
    each(|kernel, net| {
        for payload in [&b""[..], b"x", &[7; 1200]] {
            for sent in [
                Frame::udp(net.client, net.vip).payload(payload),
                Frame::udp(net.client, net.vip)
                    .payload(payload)
                    .without_checksum(),
            ] {
                let answer = refuse(kernel, &sent);
                let header = if net.vip.is_ipv4() { 20 } else { 40 };
                let icmp = 14 + header;
                let kind = if net.vip.is_ipv4() { [3, 3] } else { [1, 4] };
                assert_eq!(answer[icmp..icmp + 2], kind, "{}", net.name);
                assert_eq!(answer[icmp + 4..icmp + 8], [0; 4]);
                assert_eq!(answer[icmp + 8..], sent.ip_bytes()[..header + 8]);
            }
        }
    });
}

#[test]
fn the_first_fragment_of_a_datagram_is_refused_like_a_whole_one() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let [net, ..] = both();
    kernel.serve(net.vip, WEB, &[]);
    let outcome = kernel.run(
        Ingress,
        &Frame::udp(net.client, net.vip).fragment(0, true).bytes(),
    );
    assert_eq!(
        (outcome.verdict, outcome.returned),
        (Some(Verdict::NoEndpoint), REDIRECT)
    );
}

#[test]
fn what_has_no_answer_is_dropped_and_counted() {
    each(|kernel, net| {
        let syn = Frame::tcp(net.client, net.vip, flag::SYN);
        for (shows, sent) in [
            ("a reset", Frame::tcp(net.client, net.vip, flag::RST)),
            ("tagged", syn.clone().tagged(&[0x8100])),
            ("options or extensions", syn.with_extras()),
        ] {
            kernel.check(shows, Ingress, &sent, Dropped(Verdict::Unanswered));
        }
    });
}

#[test]
fn refusals_beyond_the_limit_are_dropped_and_counted() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let [net, ..] = both();
    kernel.serve(net.vip, WEB, &[]);
    let packet = Frame::udp(net.client, net.vip).bytes();
    let first = kernel.run(Ingress, &packet).verdict;
    assert_eq!(first, Some(Verdict::NoEndpoint));
    // More in a tick than the limit, also where a look at each verdict would take longer than the packet.
    let mut out = vec![0; packet.len() + 64];
    for _ in 0..20_000 {
        kernel.run_uncounted(Ingress, &packet, &mut out);
    }
    let counted = Verdict::ALL.iter().zip(kernel.verdicts());
    let limited = counted.filter(|(verdict, _)| **verdict == Verdict::RejectLimited);
    assert!(limited.map(|(_, count)| count).sum::<u64>() > 0);
    assert_eq!(Verdict::RejectLimited.action(), Action::Drop);
}
