//! Flows whose endpoint has left: UDP goes on to another at once (rules 73 to 75), connections stay (rules 77
//! and 78) unless they are to be reset.

use duolb::datapath::object::Settings;
use lb_common::{tables::Frontend, verdict::Verdict};

use crate::{
    kernel::{Becomes, Dropped, Egress, Ingress, Kernel, settings},
    packet::{Frame, Net, SCTP, TCP, UDP, both, flag},
    tables::{GONE, LEAVING, SILENT},
};

const DNS: u32 = 5;
/// Of the same name, made anew.
const AGAIN: u32 = 6;

fn sent(net: &Net, proto: u8, flags: u8) -> Frame {
    Frame::of(proto, net.client, net.vip, flags)
}

/// For each family and protocol, with a flow to the first endpoint of two.
fn with_flow(settings: &Settings, protocols: &[u8], test: impl Fn(&mut Kernel, &Net, u8)) {
    for net in both() {
        for proto in protocols {
            let Some(mut kernel) = Kernel::load_with(settings) else {
                return;
            };
            kernel.serve(net.vip, DNS, &[net.endpoint()]);
            kernel.pass("opens", &sent(&net, *proto, flag::SYN), net.endpoint());
            kernel.pass("goes on", &sent(&net, *proto, flag::ACK), net.endpoint());
            test(&mut kernel, &net, *proto);
        }
    }
}

/// A row: what happens to the first endpoint, after which a new flow goes to the second.
type Change = (&'static str, fn(&mut Kernel, &Net));

const CHANGES: &[Change] = &[
    ("it no longer answers", |kernel, net| {
        kernel.serve(net.vip, DNS, &[net.endpoints[1]]);
        kernel.tables.set_state(DNS, net.endpoint(), SILENT);
    }),
    ("it has left every slice", |kernel, net| {
        kernel.serve(net.vip, DNS, &[net.endpoints[1]]);
        kernel.tables.set_state(DNS, net.endpoint(), GONE);
    }),
    ("its place is another's", |kernel, net| {
        kernel.tables.replace(DNS, net.endpoint(), net.endpoints[1]);
        kernel.serve(net.vip, DNS, &[net.endpoints[1]]);
    }),
    ("scaled to zero and back (rule 75)", |kernel, net| {
        kernel.serve(net.vip, DNS, &[]);
        kernel.tables.set_state(DNS, net.endpoint(), GONE);
        kernel.serve(net.vip, DNS, &[net.endpoints[1]]);
    }),
    (
        "the Service is deleted and made again (rule 75)",
        |kernel, net| {
            kernel.withdraw(net.vip);
            kernel.tables.set_state(DNS, net.endpoint(), GONE);
            kernel.serve(net.vip, AGAIN, &[net.endpoints[1]]);
        },
    ),
    ("the VIP is another Service's (rule 90)", |kernel, net| {
        kernel.serve(net.vip, AGAIN, &[net.endpoints[1]]);
    }),
];

#[test]
fn a_udp_flow_goes_on_to_another_endpoint_at_once() {
    for (shows, change) in CHANGES {
        with_flow(&settings(), &[UDP], |kernel, net, proto| {
            change(kernel, net);
            let sent = sent(net, proto, 0);
            kernel.pass(shows, &sent, net.endpoints[1]);
            kernel.pass("and stays there", &sent, net.endpoints[1]);
            let answer = Frame::udp(net.endpoints[1], net.client);
            let told = answer.clone().from(net.vip);
            kernel.check(shows, Egress, &answer, Becomes(&told, Verdict::RevNat));
            let flows = kernel.traffic(DNS, net.vip).flows + kernel.traffic(AGAIN, net.vip).flows;
            assert_eq!(flows, 2, "{} {shows}", net.name);
        });
    }
}

#[test]
fn a_connection_keeps_its_endpoint() {
    for (shows, change) in CHANGES {
        with_flow(&settings(), &[TCP, SCTP], |kernel, net, proto| {
            change(kernel, net);
            kernel.pass(shows, &sent(net, proto, flag::ACK), net.endpoint());
            let answer = Frame::of(proto, net.endpoint(), net.client, flag::ACK);
            let told = answer.clone().from(net.vip);
            kernel.check(shows, Egress, &answer, Becomes(&told, Verdict::RevNat));
            let anew = sent(net, proto, flag::SYN);
            kernel.pass("rule 80: a new one does not", &anew, net.endpoints[1]);
        });
    }
}

#[test]
fn a_udp_flow_stays_with_an_endpoint_that_answers_while_it_leaves() {
    with_flow(&settings(), &[UDP], |kernel, net, proto| {
        kernel.serve(net.vip, DNS, &[net.endpoints[1]]);
        kernel.tables.set_state(DNS, net.endpoint(), LEAVING);
        kernel.pass("rule 74", &sent(net, proto, 0), net.endpoint());
    });
}

#[test]
fn a_udp_flow_whose_endpoint_comes_back_goes_there_as_a_new_one() {
    with_flow(&settings(), &[UDP], |kernel, net, proto| {
        let before = kernel.flows.get((net.client, net.vip, proto)).unwrap();
        kernel.tables.set_state(DNS, net.endpoint(), GONE);
        kernel.serve(net.vip, DNS, &[net.endpoint()]);
        kernel.pass("rule 75", &sent(net, proto, 0), net.endpoint());
        let after = kernel.flows.get((net.client, net.vip, proto)).unwrap();
        assert_ne!(before.endpoint, after.endpoint, "{}", net.name);
        assert_eq!(kernel.traffic(DNS, net.vip).flows, 2, "{}", net.name);
    });
}

#[test]
fn where_no_endpoint_is_left_udp_is_refused_and_connections_go_on() {
    for (flags, verdict) in [
        (0, Verdict::NoEndpoint),
        (Frontend::DROP, Verdict::NoLocalEndpoint),
    ] {
        with_flow(&settings(), &[UDP, TCP, SCTP], |kernel, net, proto| {
            kernel.serve_as(net.vip, DNS, &[], 0, flags);
            kernel.tables.set_state(DNS, net.endpoint(), GONE);
            let known = sent(net, proto, flag::ACK);
            if proto == UDP {
                let outcome = kernel.run(Ingress, &known.bytes());
                assert_eq!(outcome.verdict, Some(verdict), "{}", net.name);
            } else {
                kernel.pass("rule 53", &known, net.endpoint());
            }
            let anew = kernel.run(Ingress, &sent(net, proto, flag::SYN).bytes());
            assert_eq!(anew.verdict, Some(verdict), "{} {proto}", net.name);
        });
    }
}

#[test]
fn a_local_policy_without_a_local_endpoint_drops_what_would_open_a_flow() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve_as(net.vip, DNS, &[], 0, Frontend::DROP | Frontend::LOCAL);
        for proto in [TCP, UDP, SCTP] {
            for packet in [
                sent(&net, proto, flag::SYN),
                sent(&net, proto, flag::ACK),
                sent(&net, proto, flag::SYN).fragment(0, true),
            ] {
                let dropped = Dropped(Verdict::NoLocalEndpoint);
                kernel.check("rule 41", Ingress, &packet, dropped);
            }
        }
        assert_eq!(kernel.flows.tuples(net.vip), [], "{}", net.name);
    }
}

#[test]
fn a_tcp_connection_to_an_endpoint_that_is_gone_is_reset_where_that_is_wanted() {
    let resets = Settings {
        tcp_reset_dead: true,
        ..settings()
    };
    for (shows, change) in CHANGES {
        with_flow(&resets, &[TCP, SCTP], |kernel, net, proto| {
            change(kernel, net);
            let is_gone = kernel.tables.id(DNS, net.endpoint()) == 0
                || shows.contains("left")
                || shows.contains("zero")
                || shows.contains("deleted");
            let known = sent(net, proto, flag::ACK);
            if !is_gone || proto == SCTP {
                kernel.pass(shows, &known, net.endpoint());
                return;
            }
            for _ in 0..2 {
                let outcome = kernel.run(Ingress, &known.bytes());
                assert_eq!(outcome.verdict, Some(Verdict::EndpointGone), "{shows}");
                crate::packet::verify(&outcome.bytes).expect(shows);
            }
            let anew = sent(net, proto, flag::SYN);
            kernel.pass("the next one", &anew, net.endpoints[1]);
            kernel.pass("goes on", &sent(net, proto, flag::ACK), net.endpoints[1]);
        });
    }
}

#[test]
fn a_syn_that_a_gone_endpoint_never_answered_is_reset_and_the_next_goes_elsewhere() {
    let resets = Settings {
        tcp_reset_dead: true,
        ..settings()
    };
    for net in both() {
        let Some(mut kernel) = Kernel::load_with(&resets) else {
            return;
        };
        let syn = sent(&net, TCP, flag::SYN);
        kernel.serve(net.vip, DNS, &[net.endpoint()]);
        kernel.pass("opens", &syn, net.endpoint());
        kernel.serve(net.vip, DNS, &[net.endpoints[1]]);
        kernel.tables.set_state(DNS, net.endpoint(), GONE);
        let outcome = kernel.run(Ingress, &syn.bytes());
        assert_eq!(outcome.verdict, Some(Verdict::EndpointGone), "{}", net.name);
        kernel.pass("elsewhere", &syn, net.endpoints[1]);
    }
}
