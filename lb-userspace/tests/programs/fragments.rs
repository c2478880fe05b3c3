//! Fragments for services (rule 98): dropped and counted where the service shows, else left alone.

use lb_common::verdict::Verdict;

use crate::{
    kernel::{Dropped, Egress, Hook, Ingress, Kernel, Untouched},
    packet::{Frame, TCP, UDP, both, flag},
};

const WEB: u32 = 2;

#[test]
fn the_first_fragment_for_a_vip_is_dropped_and_opens_no_flow() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            let packet = Frame::of(proto, net.client, net.vip, flag::SYN).fragment(0, true);
            kernel.check("rule 98", Ingress, &packet, Dropped(Verdict::Fragment));
            let tagged = packet.with_extras().tagged(&[0x8100]);
            kernel.check("rule 98", Ingress, &tagged, Dropped(Verdict::Fragment));
        }
        assert_eq!(kernel.flows.tuples(net.vip), [], "{}", net.name);
    }
}

#[test]
fn fragments_of_an_open_flow_are_dropped_in_both_directions() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
            kernel.pass("opens", &sent, net.endpoint());
            let sent = sent.fragment(0, true);
            kernel.check("request", Ingress, &sent, Dropped(Verdict::Fragment));
            let answer = Frame::of(proto, net.endpoint(), net.client, flag::ACK).fragment(0, true);
            kernel.check("answer", Egress, &answer, Dropped(Verdict::Fragment));
        }
    }
}

/// A later fragment has no ports, so nothing tells that it is a service's; its first one was dropped.
#[test]
fn later_fragments_and_those_of_others_are_left_alone() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            let to_vip = Frame::of(proto, net.client, net.vip, flag::SYN);
            let other = Frame::of(proto, net.client, net.stranger, flag::SYN);
            let rows = [
                ("in the middle", to_vip.clone().fragment(7, true)),
                (
                    "the last one",
                    to_vip.clone().with_extras().fragment(7, false),
                ),
                (
                    "the first one of another's",
                    other.clone().fragment(0, true),
                ),
                ("a later one of another's", other.fragment(9, false)),
            ];
            for (shows, packet) in rows {
                for hook in Hook::BOTH {
                    kernel.check(shows, hook, &packet, Untouched);
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
