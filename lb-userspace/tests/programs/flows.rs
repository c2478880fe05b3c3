//! How long a flow keeps its endpoint, and when its tuple begins anew.

use lb_common::verdict::Verdict;

use crate::{
    kernel::{Becomes, Egress, Hook, Ingress, Kernel},
    packet::{Frame, Net, TCP, UDP, both, flag},
    state::Tuple,
};

const WEB: u32 = 5;

/// Ticks that a UDP flow may be silent for before it is answered, and after, at 250 jiffies a second.
const UNREPLIED: u32 = 30;
const STREAM: u32 = 118;

fn sent(net: &Net, proto: u8, flags: u8) -> Frame {
    Frame::of(proto, net.client, net.vip, flags)
}

fn forward(net: &Net, proto: u8) -> Tuple {
    (net.client, net.vip, proto)
}

fn reply(net: &Net, proto: u8) -> Tuple {
    (net.endpoint(), net.client, proto)
}

/// An answer of the first endpoint's comes from the VIP.
#[track_caller]
fn answer(kernel: &mut Kernel, shows: &str, net: &Net, proto: u8, flags: u8) {
    let answer = Frame::of(proto, net.endpoint(), net.client, flags);
    let told = answer.clone().from(net.vip);
    kernel.check(shows, Egress, &answer, Becomes(&told, Verdict::RevNat));
}

/// Opens a flow to the first endpoint, then gives the service the second one instead.
#[track_caller]
fn open_then_change(kernel: &mut Kernel, net: &Net, proto: u8) {
    kernel.serve(net.vip, WEB, &[net.endpoint()]);
    kernel.pass("opens", &sent(net, proto, flag::SYN), net.endpoint());
    kernel.serve(net.vip, WEB, &[net.endpoints[1]]);
}

/// For each family, with programs of its own.
fn for_each_family(test: impl Fn(&mut Kernel, &Net)) {
    for net in both() {
        let Some(mut kernel) = Kernel::load() else {
            return;
        };
        test(&mut kernel, &net);
    }
}

#[test]
fn a_retransmitted_syn_keeps_its_endpoint_after_the_slots_changed() {
    for_each_family(|kernel, net| {
        open_then_change(kernel, net, TCP);
        for _ in 0..3 {
            kernel.pass("rule 79", &sent(net, TCP, flag::SYN), net.endpoint());
        }
        let ticks = 40;
        kernel.flows.age(forward(net, TCP), ticks);
        kernel.pass("rule 79, later", &sent(net, TCP, flag::SYN), net.endpoint());
        answer(kernel, "rule 79", net, TCP, flag::SYN | flag::ACK);
    });
}

#[test]
fn packets_of_an_open_flow_keep_their_endpoint_after_a_change() {
    for_each_family(|kernel, net| {
        for proto in [TCP, UDP] {
            open_then_change(kernel, net, proto);
            kernel.pass("rule 53", &sent(net, proto, flag::ACK), net.endpoint());
            answer(kernel, "rule 53", net, proto, flag::ACK);
            kernel.serve(net.vip, WEB, &[]);
            kernel.pass("rule 78", &sent(net, proto, flag::ACK), net.endpoint());
            answer(kernel, "rule 78", net, proto, flag::ACK);
        }
    });
}

#[test]
fn a_syn_on_a_finished_flow_gets_a_new_endpoint() {
    type Steps = &'static [(Hook, u8)];
    let endings: &[(&str, Steps)] = &[
        (
            "both FINs",
            &[
                (Ingress, flag::ACK | flag::FIN),
                (Egress, flag::ACK | flag::FIN),
            ],
        ),
        (
            "both FINs, the endpoint first",
            &[
                (Egress, flag::SYN | flag::ACK),
                (Egress, flag::FIN),
                (Ingress, flag::ACK | flag::FIN),
            ],
        ),
        ("RST from the client", &[(Ingress, flag::RST)]),
        (
            "RST from the endpoint: refused",
            &[(Egress, flag::RST | flag::ACK)],
        ),
        (
            "not ended, but the client begins anew",
            &[(Ingress, flag::ACK)],
        ),
    ];
    for (shows, steps) in endings {
        for_each_family(|kernel, net| {
            open_then_change(kernel, net, TCP);
            for (hook, flags) in *steps {
                match hook {
                    Ingress => kernel.pass(shows, &sent(net, TCP, *flags), net.endpoint()),
                    Egress => answer(kernel, shows, net, TCP, *flags),
                }
            }
            kernel.pass(shows, &sent(net, TCP, flag::SYN), net.endpoints[1]);
            kernel.pass(
                "its retransmission",
                &sent(net, TCP, flag::SYN),
                net.endpoints[1],
            );
            let reply = Frame::tcp(net.endpoints[1], net.client, flag::SYN | flag::ACK);
            let told = reply.clone().from(net.vip);
            kernel.check("rule 80", Egress, &reply, Becomes(&told, Verdict::RevNat));
            assert_eq!(kernel.traffic(WEB, net.vip).flows, 2, "{shows}");
        });
    }
}

#[test]
fn a_half_closed_flow_goes_on() {
    for_each_family(|kernel, net| {
        open_then_change(kernel, net, TCP);
        let fin = flag::FIN | flag::ACK;
        kernel.pass("client is done", &sent(net, TCP, fin), net.endpoint());
        kernel.pass("FIN again", &sent(net, TCP, fin), net.endpoint());
        answer(
            kernel,
            "the endpoint is not",
            net,
            TCP,
            flag::ACK | flag::PSH,
        );
        answer(kernel, "now it is", net, TCP, fin);
        kernel.pass("last ACK", &sent(net, TCP, flag::ACK), net.endpoint());
    });
}

#[test]
fn packets_with_any_flags_and_outside_any_window_are_translated() {
    for_each_family(|kernel, net| {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.pass("opens", &sent(net, TCP, flag::SYN), net.endpoint());
        for flags in 0..=u8::MAX {
            for seq in [0, 1 << 31, u32::MAX] {
                let packet = sent(net, TCP, flags).with_seq(seq);
                kernel.pass("rule 61", &packet, net.endpoint());
                let reply = Frame::tcp(net.endpoint(), net.client, flags).with_seq(seq);
                let told = reply.clone().from(net.vip);
                kernel.check("rule 61", Egress, &reply, Becomes(&told, Verdict::RevNat));
            }
        }
    });
}

#[test]
fn a_udp_flow_that_was_silent_for_long_gets_a_new_endpoint() {
    for_each_family(|kernel, net| {
        open_then_change(kernel, net, UDP);
        for tuple in [forward(net, UDP), reply(net, UDP)] {
            kernel.flows.age(tuple, UNREPLIED - 5);
        }
        kernel.pass("just in time", &sent(net, UDP, 0), net.endpoint());
        for tuple in [forward(net, UDP), reply(net, UDP)] {
            kernel.flows.age(tuple, UNREPLIED + 5);
        }
        kernel.pass("too late", &sent(net, UDP, 0), net.endpoints[1]);
    });
}

#[test]
fn a_udp_flow_on_which_only_the_endpoint_speaks_is_not_silent() {
    for_each_family(|kernel, net| {
        open_then_change(kernel, net, UDP);
        answer(kernel, "it is a stream", net, UDP, 0);
        kernel.flows.age(forward(net, UDP), STREAM + 5);
        kernel.flows.age(reply(net, UDP), STREAM + 5);
        answer(kernel, "the endpoint speaks", net, UDP, 0);
        kernel.pass("keeps its endpoint", &sent(net, UDP, 0), net.endpoint());
    });
}

#[test]
fn a_udp_flow_that_was_answered_may_be_silent_for_longer() {
    for_each_family(|kernel, net| {
        open_then_change(kernel, net, UDP);
        answer(kernel, "it is a stream", net, UDP, 0);
        let age = |kernel: &mut Kernel, ticks| {
            for tuple in [forward(net, UDP), reply(net, UDP)] {
                kernel.flows.age(tuple, ticks);
            }
        };
        age(kernel, STREAM - 5);
        kernel.pass("rule 82", &sent(net, UDP, 0), net.endpoint());
        age(kernel, STREAM + 5);
        kernel.pass("too late", &sent(net, UDP, 0), net.endpoints[1]);
    });
}

#[test]
fn both_entries_tell_the_same_state() {
    use lb_common::flow::state::State::{
        self, CloseWait, Closed, Established, Stream, SynSent, Unreplied,
    };
    type Step = (Hook, u8, State);
    let ack = flag::ACK;
    let steps: &[(u8, &[Step])] = &[
        (
            TCP,
            &[
                (Ingress, flag::SYN, SynSent),
                (Egress, flag::SYN | ack, SynSent),
                (Ingress, ack, Established),
                (Egress, ack, Established),
                (Egress, ack | flag::FIN, CloseWait),
                (Ingress, ack, CloseWait),
                (Ingress, ack | flag::FIN, Closed),
            ],
        ),
        (TCP, &[(Ingress, ack, Established)]),
        (
            TCP,
            &[
                (Ingress, flag::SYN, SynSent),
                (Egress, flag::RST | ack, Closed),
            ],
        ),
        (
            UDP,
            &[
                (Ingress, 0, Unreplied),
                (Ingress, 0, Unreplied),
                (Egress, 0, Stream),
                (Ingress, 0, Stream),
            ],
        ),
    ];
    for (proto, steps) in steps {
        for_each_family(|kernel, net| {
            kernel.serve(net.vip, WEB, &[net.endpoint()]);
            for (hook, flags, state) in *steps {
                match hook {
                    Ingress => kernel.pass("rule 82", &sent(net, *proto, *flags), net.endpoint()),
                    Egress => answer(kernel, "rule 82", net, *proto, *flags),
                }
                for tuple in [forward(net, *proto), reply(net, *proto)] {
                    let entry = kernel.flows.get(tuple).unwrap();
                    let found = State::of((*proto).into(), entry.flags);
                    assert_eq!(found, *state, "{} {hook:?} {flags:#x} {entry:?}", net.name);
                }
            }
        });
    }
}

/// Two CPUs read the clock on either side of a tick: one finds an entry from its future.
#[test]
fn a_flow_seen_a_moment_ahead_of_the_own_clock_is_not_old() {
    for_each_family(|kernel, net| {
        open_then_change(kernel, net, UDP);
        for tuple in [forward(net, UDP), reply(net, UDP)] {
            kernel.flows.age(tuple, 3u32.wrapping_neg());
        }
        kernel.pass("keeps its endpoint", &sent(net, UDP, 0), net.endpoint());
    });
}

#[test]
fn a_syn_that_nobody_answered_for_minutes_is_a_new_connection() {
    for_each_family(|kernel, net| {
        open_then_change(kernel, net, TCP);
        // Retransmissions of one SYN are at most some 64 seconds apart.
        kernel.flows.age(forward(net, TCP), 200);
        kernel.flows.age(reply(net, TCP), 200);
        kernel.pass("rule 80", &sent(net, TCP, flag::SYN), net.endpoints[1]);
    });
}

#[test]
fn a_reply_entry_that_was_evicted_comes_back_with_the_next_packet_of_a_later_tick() {
    for_each_family(|kernel, net| {
        for proto in [TCP, UDP] {
            kernel.serve(net.vip, WEB, &[net.endpoint()]);
            kernel.pass("opens", &sent(net, proto, flag::SYN), net.endpoint());
            kernel.flows.evict(reply(net, proto));
            kernel.flows.age(forward(net, proto), 1);
            kernel.pass("a tick later", &sent(net, proto, flag::ACK), net.endpoint());
            answer(kernel, "as before", net, proto, flag::ACK);
        }
    });
}

#[test]
fn a_packet_with_which_nothing_is_known_opens_a_flow_whatever_its_flags() {
    for_each_family(|kernel, net| {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.pass(
            "rule 61",
            &sent(net, TCP, flag::ACK | flag::PSH),
            net.endpoint(),
        );
        answer(kernel, "rule 61", net, TCP, flag::ACK);
    });
}
