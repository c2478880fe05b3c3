//! ICMP errors about packets of a service, in both directions, with all checksums (rule 97).

use lb_common::verdict::Verdict;

use crate::{
    kernel::{Becomes, Egress, Hook, Ingress, Kernel, Untouched},
    packet::{Frame, Net, TCP, UDP, both, flag},
};

const WEB: u32 = 6;

/// Embedded transport bytes: eight, as of old; up to the checksum; with it; all.
const KEPT: [usize; 4] = [8, 16, 18, usize::MAX];

/// Opens a TCP and a UDP flow to the VIP.
#[track_caller]
fn open(kernel: &mut Kernel, net: &Net) {
    kernel.serve(net.vip, WEB, &[net.endpoint()]);
    for proto in [TCP, UDP] {
        let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
        kernel.pass("opens", &sent, net.endpoint());
    }
}

/// Each kind of error, protocol and length of the embedded packet.
fn rows(net: &Net) -> impl Iterator<Item = (&'static str, (u8, u8), u8, usize)> {
    net.icmp_errors().iter().flat_map(|(shows, kind)| {
        [TCP, UDP]
            .into_iter()
            .flat_map(|proto| KEPT.map(|keep| (*shows, *kind, proto, keep)))
    })
}

#[test]
fn an_error_from_a_router_tells_the_client_about_the_packet_it_sent() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        for (shows, kind, proto, keep) in rows(&net) {
            let sent = Frame::of(proto, net.client, net.vip, flag::ACK);
            let delivered = sent.clone().to(net.endpoint());
            let error = |about| Frame::icmp(net.router, net.client.ip(), kind, about, keep);
            let (before, after) = (error(&delivered), error(&sent));
            kernel.check(
                shows,
                Egress,
                &before,
                Becomes(&after, Verdict::IcmpToClient),
            );
        }
    }
}

#[test]
fn an_error_from_the_endpoint_reaches_the_client_from_the_vip() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        for (shows, kind, proto, keep) in rows(&net) {
            let sent = Frame::of(proto, net.client, net.vip, flag::ACK).with_extras();
            let delivered = sent.clone().to(net.endpoint());
            let before = Frame::icmp(net.endpoint().ip(), net.client.ip(), kind, &delivered, keep);
            let after = Frame::icmp(net.vip.ip(), net.client.ip(), kind, &sent, keep);
            let (before, after) = (before.tagged(&[0x8100]), after.tagged(&[0x8100]));
            kernel.check(
                shows,
                Egress,
                &before,
                Becomes(&after, Verdict::IcmpToClient),
            );
        }
    }
}

#[test]
fn an_error_from_the_client_reaches_the_endpoint_about_the_packet_it_sent() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        for (shows, kind, proto, keep) in rows(&net) {
            let sent = Frame::of(proto, net.endpoint(), net.client, flag::ACK);
            let delivered = sent.clone().from(net.vip);
            let before = Frame::icmp(net.client.ip(), net.vip.ip(), kind, &delivered, keep);
            let after = Frame::icmp(net.client.ip(), net.endpoint().ip(), kind, &sent, keep);
            let (before, after) = (before.with_extras(), after.with_extras());
            kernel.check(
                shows,
                Ingress,
                &before,
                Becomes(&after, Verdict::IcmpToEndpoint),
            );
        }
    }
}

#[test]
fn an_error_about_a_flow_whose_port_was_moved_names_the_port_each_side_knows() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        kernel.serve(net.other_vip, WEB, &[net.endpoint()]);
        let sent = Frame::udp(net.client, net.other_vip);
        kernel.run(Ingress, &sent.bytes());
        let flow = kernel.flows.get((net.client, net.other_vip, UDP)).unwrap();
        let mut moved = net.client;
        moved.set_port(flow.client_port);
        assert_ne!(moved, net.client, "rule 99");
        let (_, kind) = net.icmp_errors()[0];

        let delivered = sent.clone().from(moved).to(net.endpoint());
        let error = |about| Frame::icmp(net.router, net.client.ip(), kind, about, 8);
        let (before, after) = (error(&delivered), error(&sent));
        kernel.check(
            "to client",
            Egress,
            &before,
            Becomes(&after, Verdict::IcmpToClient),
        );

        let answer = Frame::udp(net.endpoint(), moved);
        let told = Frame::udp(net.other_vip, net.client);
        let before = Frame::icmp(net.client.ip(), net.other_vip.ip(), kind, &told, 8);
        let after = Frame::icmp(net.client.ip(), net.endpoint().ip(), kind, &answer, 8);
        kernel.check(
            "to endpoint",
            Ingress,
            &before,
            Becomes(&after, Verdict::IcmpToEndpoint),
        );
    }
}

#[test]
fn redirects_and_echoes_are_left_alone_even_when_they_embed_a_known_flow() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        let delivered = Frame::tcp(net.client, net.endpoint(), flag::ACK);
        let told = Frame::tcp(net.vip, net.client, flag::ACK);
        for (shows, kind) in net.icmp_others() {
            let to_client = Frame::icmp(net.router, net.client.ip(), *kind, &delivered, 8);
            kernel.check(shows, Egress, &to_client, Untouched);
            let to_vip = Frame::icmp(net.client.ip(), net.vip.ip(), *kind, &told, 8);
            kernel.check(shows, Ingress, &to_vip, Untouched);
        }
    }
}

#[test]
fn errors_about_unknown_flows_are_left_alone() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        let (_, kind) = net.icmp_errors()[0];
        let (client, vip) = (net.client.ip(), net.vip.ip());
        let mut other_port = net.client;
        other_port.set_port(1);
        let error = |src, dst, about: Frame| Frame::icmp(src, dst, kind, &about, 8);
        let ack = flag::ACK;
        let rows = [
            (
                "another port",
                error(
                    net.router,
                    client,
                    Frame::tcp(other_port, net.endpoint(), ack),
                ),
            ),
            (
                "no service",
                error(net.router, client, Frame::udp(net.client, net.stranger)),
            ),
            (
                "another endpoint",
                error(client, vip, Frame::udp(net.endpoints[3], net.client)),
            ),
            (
                "the client's own packet to the VIP",
                error(net.router, client, Frame::udp(net.client, net.vip)),
            ),
            (
                "not to who sent it",
                error(client, net.router, Frame::udp(net.vip, net.client)),
            ),
        ];
        for (shows, packet) in rows {
            for hook in Hook::BOTH {
                kernel.check(shows, hook, &packet, Untouched);
            }
        }
    }
}

/// What there is of it is translated, down to the ports (RFC 792 wants eight bytes). Of seven bytes of UDP, half a checksum
/// is there, which nobody can look at.
#[test]
fn an_error_with_less_than_it_should_embed_is_translated_if_it_has_the_ports() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        let (_, kind) = net.icmp_errors()[0];
        for proto in [TCP, UDP] {
            for keep in 0..7 {
                let sent = Frame::of(proto, net.client, net.vip, flag::ACK).with_extras();
                let delivered = sent.clone().to(net.endpoint());
                let error = |about| Frame::icmp(net.router, net.client.ip(), kind, about, keep);
                let (before, after) = (error(&delivered), error(&sent));
                let fate = if keep < 4 {
                    Untouched
                } else {
                    Becomes(&after, Verdict::IcmpToClient)
                };
                kernel.check("a short one", Egress, &before, fate);
            }
        }
    }
}

#[test]
fn an_error_about_a_first_piece_is_translated_and_one_about_a_later_piece_left_alone() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        open(&mut kernel, &net);
        let (_, kind) = net.icmp_errors()[0];
        for proto in [TCP, UDP] {
            for keep in KEPT {
                let sent = Frame::of(proto, net.client, net.vip, flag::ACK).fragment(0, true);
                let delivered = sent.clone().to(net.endpoint());
                let error = |about| Frame::icmp(net.router, net.client.ip(), kind, about, keep);
                let (before, after) = (error(&delivered), error(&sent));
                let becomes = Becomes(&after, Verdict::IcmpToClient);
                kernel.check("the first", Egress, &before, becomes);
                let later = delivered.clone().fragment(3, false);
                let later = error(&later);
                for hook in Hook::BOTH {
                    kernel.check("a later one", hook, &later, Untouched);
                }
            }
        }
    }
}
