//! Flows that would answer by one tuple: each gets a port of its own (rule 99), with or without a VIP.

use std::{collections::HashSet, net::SocketAddr};

use lb_common::{flow::Flow, verdict::Verdict};

use crate::{
    kernel::{Becomes, Dropped, Egress, Ingress, Kernel, SMALL, Untouched},
    packet::{Frame, Net, TCP, UDP, both, flag},
    state::Tuple,
};

const WEB: u32 = 8;
const MAIL: u32 = 9;

/// `client` as the endpoint sees it in the flow with forward tuple `forward`.
#[track_caller]
fn client_of(kernel: &Kernel, forward: Tuple) -> SocketAddr {
    let flow = kernel.flows.get(forward).expect("a flow");
    SocketAddr::new(forward.0.ip(), flow.client_port)
}

/// A packet to `vip` and an answer, the endpoint knowing the client as `client`.
#[track_caller]
fn talk(kernel: &mut Kernel, shows: &str, net: &Net, (vip, client, proto): Tuple, flags: u8) {
    let sent = Frame::of(proto, net.client, vip, flags);
    let delivered = sent.clone().from(client).to(net.endpoint());
    kernel.check(shows, Ingress, &sent, Becomes(&delivered, Verdict::Dnat));
    let answer = Frame::of(proto, net.endpoint(), client, flags & flag::SYN | flag::ACK);
    let told = answer.clone().from(vip).to(net.client);
    kernel.check(shows, Egress, &answer, Becomes(&told, Verdict::RevNat));
}

/// A packet from the client straight to the endpoint.
fn direct(net: &Net, flags: u8) -> Frame {
    Frame::tcp(net.client, net.endpoint(), flags)
}

/// Opens and confirms a TCP flow through the VIP.
#[track_caller]
fn open(kernel: &mut Kernel, net: &Net) {
    kernel.serve(net.vip, WEB, &[net.endpoint()]);
    talk(kernel, "opens", net, (net.vip, net.client, TCP), flag::SYN);
    talk(kernel, "opens", net, (net.vip, net.client, TCP), flag::ACK);
}

/// Ends it from both sides.
#[track_caller]
fn close(kernel: &mut Kernel, net: &Net) {
    let fin = flag::FIN | flag::ACK;
    talk(kernel, "closes", net, (net.vip, net.client, TCP), fin);
    let answer = Frame::tcp(net.endpoint(), net.client, fin);
    let told = answer.clone().from(net.vip);
    kernel.check("closes", Egress, &answer, Becomes(&told, Verdict::RevNat));
}

#[test]
fn flows_of_one_client_port_through_several_vips_to_one_endpoint_are_told_apart() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        for proto in [TCP, UDP] {
            let vips: Vec<_> = (80..86)
                .map(|port| SocketAddr::new(net.vip.ip(), port))
                .chain([net.other_vip])
                .collect();
            let mut seen = HashSet::new();
            for vip in &vips {
                kernel.serve(*vip, MAIL, &[net.endpoint()]);
                let sent = Frame::of(proto, net.client, *vip, flag::SYN);
                assert_eq!(
                    kernel.run(Ingress, &sent.bytes()).verdict,
                    Some(Verdict::Dnat)
                );
                let client = client_of(&kernel, (net.client, *vip, proto));
                assert!(seen.insert(client), "{}: {client} twice", net.name);
            }
            assert!(seen.contains(&net.client), "the first keeps its port");
            for flags in [flag::SYN, flag::ACK, flag::ACK | flag::PSH] {
                for vip in &vips {
                    let client = client_of(&kernel, (net.client, *vip, proto));
                    talk(&mut kernel, "rule 99", &net, (*vip, client, proto), flags);
                }
            }
        }
    }
}

#[test]
fn the_tuple_of_a_finished_flow_is_free_for_the_next() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        close(&mut kernel, &net);
        kernel.serve(net.other_vip, MAIL, &[net.endpoint()]);
        let flow = (net.other_vip, net.client, TCP);
        talk(&mut kernel, "port kept", &net, flow, flag::SYN);
        // The first flow's last packets must not take the tuple back.
        let last = Frame::tcp(net.client, net.vip, flag::ACK);
        kernel.flows.age((net.client, net.vip, TCP), 1);
        kernel.pass("a late packet", &last, net.endpoint());
        talk(&mut kernel, "still its own", &net, flow, flag::ACK);
    }
}

#[test]
fn a_silent_flow_that_lost_its_tuple_speaks_again_by_another_one() {
    const TWO_DAYS: u32 = 2 * 86_400;
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        for flags in [flag::ACK, flag::ACK | flag::PSH, flag::SYN] {
            open(&mut kernel, &net);
            let silent = (net.client, net.vip, TCP);
            kernel.flows.age(silent, TWO_DAYS);
            kernel
                .flows
                .age((net.endpoint(), net.client, TCP), TWO_DAYS);
            kernel.serve(net.other_vip, MAIL, &[net.endpoint()]);
            let other = (net.other_vip, net.client, TCP);
            talk(&mut kernel, "gets the port", &net, other, flag::SYN);
            talk(&mut kernel, "and has it", &net, other, flag::ACK);

            let sent = Frame::tcp(net.client, net.vip, flags);
            let verdict = kernel.run(Ingress, &sent.bytes()).verdict;
            assert_eq!(verdict, Some(Verdict::Dnat), "{}: {flags}", net.name);
            let client = client_of(&kernel, silent);
            assert_ne!(client, net.client, "{}: {flags}", net.name);
            talk(
                &mut kernel,
                "speaks again",
                &net,
                (net.vip, client, TCP),
                flags,
            );
            talk(&mut kernel, "undisturbed", &net, other, flag::ACK);
            // The next time, both begin anew.
            for tuple in kernel.flows.tuples(net.vip) {
                kernel.flows.evict(tuple);
            }
        }
    }
}

#[test]
fn without_a_free_port_a_new_flow_is_dropped_and_counted() {
    let sizes = duolb::datapath::object::Sizes {
        flows: 1 << 18,
        ..SMALL
    };
    let Some(mut kernel) = Kernel::load_sized(sizes) else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        let live = kernel.flows.get((net.endpoint(), net.client, TCP)).unwrap();
        for port in 0x8000..=u16::MAX {
            let client = SocketAddr::new(net.client.ip(), port);
            kernel.flows.put((net.endpoint(), client, TCP), &live);
        }
        kernel.serve(net.other_vip, MAIL, &[net.endpoint()]);
        let sent = Frame::tcp(net.client, net.other_vip, flag::SYN);
        kernel.check("rule 99", Ingress, &sent, Dropped(Verdict::NoPort));
        let sent = direct(&net, flag::SYN);
        kernel.check("without a VIP", Ingress, &sent, Dropped(Verdict::NoPort));
    }
}

#[test]
fn a_direct_connection_on_the_port_of_a_finished_flow_passes_untouched_both_ways() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        close(&mut kernel, &net);
        let reply = (net.endpoint(), net.client, TCP);
        assert!(kernel.flows.get(reply).is_some(), "the stale entry");
        kernel.check("opens", Ingress, &direct(&net, flag::SYN), Untouched);
        assert_eq!(kernel.flows.get(reply), None, "{}: gone", net.name);
        let answer = Frame::tcp(net.endpoint(), net.client, flag::SYN | flag::ACK);
        kernel.check("is answered", Egress, &answer, Untouched);

        // The old flow's client says its last word, in a later tick.
        kernel.flows.age((net.client, net.vip, TCP), 1);
        let last = Frame::tcp(net.client, net.vip, flag::ACK);
        kernel.pass("the old flow's last ACK", &last, net.endpoint());
        kernel.check("goes on", Ingress, &direct(&net, flag::ACK), Untouched);
        kernel.check("is answered", Egress, &answer, Untouched);
    }
}

#[test]
fn a_direct_connection_on_the_port_of_a_live_flow_gets_another_port_and_disturbs_nobody() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        let before = kernel.traffic(WEB, net.vip);
        assert_eq!(
            kernel
                .run(Ingress, &direct(&net, flag::SYN).bytes())
                .verdict,
            Some(Verdict::PortMoved)
        );
        let flow = kernel.flows.get((net.client, net.endpoint(), TCP)).unwrap();
        assert_eq!(flow.traffic, Flow::<()>::NO_SERVICE);
        let moved = SocketAddr::new(net.client.ip(), flow.client_port);
        assert_ne!(moved, net.client);

        for flags in [
            flag::SYN,
            flag::ACK,
            flag::ACK | flag::PSH,
            flag::ACK | flag::FIN,
        ] {
            let sent = direct(&net, flags);
            let delivered = sent.clone().from(moved);
            kernel.check(
                "direct",
                Ingress,
                &sent,
                Becomes(&delivered, Verdict::PortMoved),
            );
            let answer = Frame::tcp(net.endpoint(), moved, flags & flag::SYN | flag::ACK);
            let told = answer.clone().to(net.client);
            kernel.check(
                "direct",
                Egress,
                &answer,
                Becomes(&told, Verdict::PortMoved),
            );
        }
        assert_eq!(
            kernel.traffic(WEB, net.vip),
            before,
            "{}: no service's packets",
            net.name
        );
        for flags in [flag::ACK, flag::FIN | flag::ACK] {
            talk(
                &mut kernel,
                "the VIP's",
                &net,
                (net.vip, net.client, TCP),
                flags,
            );
        }
    }
}

#[test]
fn a_moved_connection_keeps_its_port_when_the_flow_in_its_way_has_ended() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        kernel.run(Ingress, &direct(&net, flag::SYN).bytes());
        let moved = client_of(&kernel, (net.client, net.endpoint(), TCP));
        close(&mut kernel, &net);
        let sent = direct(&net, flag::ACK);
        let delivered = sent.clone().from(moved);
        kernel.check(
            "goes on",
            Ingress,
            &sent,
            Becomes(&delivered, Verdict::PortMoved),
        );
    }
}

#[test]
fn a_new_direct_connection_after_a_moved_one_was_reset_looks_anew_what_is_in_its_way() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        kernel.run(Ingress, &direct(&net, flag::SYN).bytes());
        let moved = client_of(&kernel, (net.client, net.endpoint(), TCP));
        close(&mut kernel, &net);
        let refused = Frame::tcp(net.endpoint(), moved, flag::RST | flag::ACK);
        let told = refused.clone().to(net.client);
        kernel.check(
            "reset",
            Egress,
            &refused,
            Becomes(&told, Verdict::PortMoved),
        );
        kernel.check(
            "nothing in its way",
            Ingress,
            &direct(&net, flag::SYN),
            Untouched,
        );
        let answer = Frame::tcp(net.endpoint(), net.client, flag::SYN | flag::ACK);
        kernel.check("its answer", Egress, &answer, Untouched);
        kernel.check(
            "its further packets",
            Ingress,
            &direct(&net, flag::ACK),
            Untouched,
        );
    }
}

#[test]
fn direct_packets_that_open_nothing_are_left_alone() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        for flags in [
            flag::ACK,
            flag::RST,
            flag::FIN | flag::ACK,
            flag::SYN | flag::ACK,
        ] {
            kernel.check("no SYN", Ingress, &direct(&net, flags), Untouched);
        }
        let mut other = net.client;
        other.set_port(1);
        let sent = Frame::tcp(other, net.endpoint(), flag::SYN);
        kernel.check("another port", Ingress, &sent, Untouched);
    }
}

#[test]
fn a_moved_connection_that_both_sides_are_silent_on_for_too_long_is_over() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        kernel.run(Ingress, &direct(&net, flag::SYN).bytes());
        let forward = (net.client, net.endpoint(), TCP);
        let moved = client_of(&kernel, forward);
        for tuple in [forward, (net.endpoint(), moved, TCP)] {
            kernel.flows.age(tuple, 2 * 86_400);
        }
        // What another one by the same ports says is not sent to the old one's.
        kernel.check("over", Ingress, &direct(&net, flag::ACK), Untouched);
    }
}
