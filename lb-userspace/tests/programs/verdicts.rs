//! Every verdict there is, reached by a packet, or the reason why none can reach it.

use std::net::SocketAddr;

use lb_common::{
    tables::{Frontend, VipRange},
    verdict::Verdict,
};

use crate::{
    kernel::{Egress, Hook, Ingress, Kernel},
    packet::{Frame, Net, both, flag},
    unreached,
};

/// How a verdict is reached.
enum Way {
    /// By this packet, after a SYN to the VIP with an endpoint.
    By(Hook, Frame),
    /// In a test of its own.
    Elsewhere(&'static str),
    /// Not at all by a test run.
    None(&'static str),
}

fn way(verdict: Verdict, net: &Net) -> Way {
    let (_, kind) = net.icmp_errors()[0];
    let sent = Frame::tcp(net.client, net.vip, flag::SYN);
    let delivered = sent.clone().to(net.endpoint());
    let answer = Frame::tcp(net.endpoint(), net.client, flag::SYN | flag::ACK);
    let told = answer.clone().from(net.vip);
    match verdict {
        Verdict::Dnat => Way::By(Ingress, sent),
        Verdict::RevNat => Way::By(Egress, answer),
        Verdict::PortMoved => Way::By(Ingress, delivered),
        Verdict::IcmpToClient => {
            let error = Frame::icmp(net.router, net.client.ip(), kind, &delivered, 8);
            Way::By(Egress, error)
        }
        Verdict::IcmpToEndpoint => {
            let error = Frame::icmp(net.client.ip(), net.vip.ip(), kind, &told, 8);
            Way::By(Ingress, error)
        }
        Verdict::NoEndpoint => Way::By(Ingress, sent.to(net.other_vip)),
        Verdict::Fragment => Way::By(Ingress, sent.fragment(7, true)),
        Verdict::NoPort => {
            Way::Elsewhere("collisions::without_a_free_port_a_new_flow_is_dropped_and_counted")
        }
        Verdict::BadSlot => {
            Way::Elsewhere("slots::a_frontend_whose_slots_do_not_exist_drops_and_counts")
        }
        Verdict::RejectLimited => {
            Way::Elsewhere("refusals::refusals_beyond_the_limit_are_dropped_and_counted")
        }
        Verdict::Unanswered => Way::By(Ingress, Frame::tcp(net.client, net.other_vip, flag::RST)),
        Verdict::FlowTableFull | Verdict::NotWritable => {
            Way::None(unreached::reason(verdict).expect("a reason"))
        }
        Verdict::NoLocalEndpoint => Way::By(Ingress, sent.to(net.stranger)),
        Verdict::UnknownPort => {
            let port = SocketAddr::new(net.vip.ip(), 81);
            Way::By(Ingress, sent.to(port))
        }
        Verdict::Unallocated => Way::By(Ingress, sent.to(SocketAddr::new(net.router, 80))),
        Verdict::EndpointGone => Way::Elsewhere(
            "left::a_tcp_connection_to_an_endpoint_that_is_gone_is_reset_where_that_is_wanted",
        ),
        Verdict::Snat | Verdict::Unsnat => {
            Way::Elsewhere("snat::a_client_of_outside_gets_an_address_of_the_node_and_back")
        }
        Verdict::NoSnatAddress => {
            Way::Elsewhere("snat::without_an_address_of_the_device_the_packet_is_dropped")
        }
        Verdict::NoSnatPort => {
            Way::Elsewhere("snat::without_a_free_port_the_packet_is_dropped_and_counted")
        }
        Verdict::SourceDenied => {
            Way::Elsewhere("external::clients_outside_of_the_source_ranges_are_dropped")
        }
        Verdict::XdpToEndpoint | Verdict::XdpToClient => {
            Way::Elsewhere("xdp::a_known_flow_to_another_node_is_sent_on_both_ways")
        }
        Verdict::Echo => Way::By(Ingress, Frame::echo(net.client.ip(), net.vip.ip())),
        Verdict::Socket => Way::Elsewhere("namespace tests: a test run has no sockets"),
    }
}

#[test]
fn every_verdict_is_reached_by_a_packet_or_has_a_reason_why_not() {
    for net in both() {
        for verdict in Verdict::ALL {
            let Some(mut kernel) = Kernel::load() else {
                return;
            };
            kernel.serve(net.vip, 1, &[net.endpoint()]);
            kernel.serve(net.other_vip, 2, &[]);
            kernel.serve_as(net.stranger, 3, &[], 0, Frontend::DROP);
            kernel.tables.mark(net.vip.ip());
            let whole = if net.is_v6 { 128 } else { 32 };
            kernel.tables.write_ranges(&[
                (net.vip.ip(), whole, VipRange::<()>::VIPS),
                (net.router, whole, VipRange::<()>::SERVICE_CIDR),
            ]);
            let opens = Frame::tcp(net.client, net.vip, flag::SYN);
            kernel.pass("opens", &opens, net.endpoint());
            match way(*verdict, &net) {
                Way::By(hook, packet) => {
                    let outcome = kernel.run(hook, &packet.bytes());
                    assert_eq!(outcome.verdict, Some(*verdict), "{}", net.name);
                }
                Way::Elsewhere(test) => println!("{}: {test}", verdict.label()),
                Way::None(reason) => println!("{}: not reached: {reason}", verdict.label()),
            }
        }
    }
}
