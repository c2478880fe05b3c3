//! Clients that get an address of the node, because answers to their own would go past it (SNAT).
//!
//! A packet passes the node as in life: in by one device (`Ingress`), out by another (`Egress`), with the answer
//! the other way round; both are the test run's one device here, which has an address.

mod ports;

use std::net::SocketAddr;

use duolb::datapath::object::Settings;
use lb_common::{
    flow::Flow,
    tables::{Device, Endpoint},
    verdict::Verdict,
};

use crate::{
    kernel::{Becomes, Dropped, Egress, Ingress, Kernel, Untouched, settings},
    packet::{Frame, Net, TCP, UDP, both, flag},
    tables::READY,
};

const WEB: u32 = 2;
const HERE: u16 = READY | Endpoint::<()>::HERE;

/// The node's addresses.
fn nodes() -> [std::net::IpAddr; 2] {
    both().map(|net| net.router)
}

/// Loads the programs on a node behind whose device the rest of the world is.
fn load(settings: &Settings) -> Option<Kernel> {
    let mut kernel = Kernel::load_with(settings)?;
    kernel.set_device(Device::UPLINK, nodes());
    Some(kernel)
}

/// What the endpoint knows the client by.
#[track_caller]
fn node_side(kernel: &Kernel, net: &Net, client: SocketAddr, proto: u8) -> SocketAddr {
    let snat = kernel.flows.get((client, net.endpoint(), proto));
    snat.expect("an SNAT entry").peer
}

/// A packet from `client` to the VIP all the way to the endpoint, without a look at it.
fn send(
    kernel: &mut Kernel,
    net: &Net,
    client: SocketAddr,
    proto: u8,
    flags: u8,
) -> Option<Verdict> {
    let sent = Frame::of(proto, client, net.vip, flags);
    kernel.run(Ingress, &sent.bytes());
    let inside = sent.to(net.endpoint());
    kernel.run(Egress, &inside.bytes()).verdict
}

/// A packet and its answer, each through both hooks, to the byte.
#[track_caller]
fn talk(kernel: &mut Kernel, shows: &str, net: &Net, client: SocketAddr, proto: u8, flags: u8) {
    let sent = Frame::of(proto, client, net.vip, flags);
    kernel.pass(shows, &sent, net.endpoint());
    let inside = sent.to(net.endpoint());
    if kernel
        .flows
        .get((client, net.endpoint(), proto))
        .unwrap()
        .peer
        .port()
        == 0
    {
        kernel.run(Egress, &inside.bytes());
    }
    let node = node_side(kernel, net, client, proto);
    assert_eq!(node.ip(), net.router, "{shows}");
    assert!((11_000..30_000).contains(&node.port()), "{shows}: {node}");
    let left = inside.clone().from(node);
    kernel.check(shows, Egress, &inside, Becomes(&left, Verdict::Snat));

    let answer = Frame::of(proto, net.endpoint(), node, flags | flag::ACK);
    let inside = answer.clone().to(client);
    kernel.check(shows, Ingress, &answer, Becomes(&inside, Verdict::Unsnat));
    let told = inside.clone().from(net.vip);
    kernel.check(shows, Egress, &inside, Becomes(&told, Verdict::RevNat));
}

#[test]
fn a_client_of_outside_gets_an_address_of_the_node_and_back() {
    let Some(mut kernel) = load(&settings()) else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            for client in [net.client, net.neighbour] {
                for flags in [flag::SYN, flag::ACK, flag::ACK | flag::PSH, flag::FIN] {
                    talk(&mut kernel, "in, out, back", &net, client, proto, flags);
                }
            }
        }
    }
}

#[test]
fn whoever_answers_through_this_node_anyway_sees_the_client_itself() {
    let Some(mut kernel) = load(&settings()) else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let passes = |kernel: &mut Kernel, shows: &str, client: SocketAddr| {
            let sent = Frame::tcp(client, net.vip, flag::SYN);
            kernel.pass(shows, &sent, net.endpoint());
            kernel.check(shows, Egress, &sent.to(net.endpoint()), Untouched);
        };
        kernel.tables.set_state(WEB, net.endpoint(), HERE);
        passes(&mut kernel, "the endpoint is here", net.client);
        kernel.tables.set_state(WEB, net.endpoint(), READY);
        kernel.set_device(Device::PODS, nodes());
        passes(&mut kernel, "the client is here", net.neighbour);
        kernel.set_device(Device::UPLINK, nodes());
    }
}

#[test]
fn a_pod_that_calls_itself_sees_the_node_rule_57() {
    let Some(mut kernel) = load(&settings()) else {
        return;
    };
    kernel.set_device(Device::PODS, nodes());
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.tables.set_state(WEB, net.endpoint(), HERE);
        let client = SocketAddr::new(net.endpoint().ip(), 50_000);
        for proto in [TCP, UDP] {
            for flags in [flag::SYN, flag::ACK] {
                talk(&mut kernel, "hairpin", &net, client, proto, flags);
            }
        }
    }
}

#[test]
fn every_client_of_a_cluster_ip_sees_the_node_where_that_is_wished_rule_56() {
    let all = Settings {
        masquerade_all: true,
        ..settings()
    };
    let Some(mut kernel) = load(&all) else {
        return;
    };
    kernel.set_device(Device::PODS, nodes());
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.tables.set_state(WEB, net.endpoint(), HERE);
        talk(&mut kernel, "all", &net, net.client, TCP, flag::SYN);
    }
}

#[test]
fn a_cni_that_masquerades_first_is_not_in_the_way() {
    let Some(mut kernel) = load(&settings()) else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = Frame::tcp(net.client, net.vip, flag::SYN);
        kernel.pass("opens", &sent, net.endpoint());
        let by_cni = SocketAddr::new(net.router, 20_000);
        let left = sent.to(net.endpoint()).from(by_cni);
        kernel.check("the CNI's", Egress, &left, Untouched);
        let answer = Frame::tcp(net.endpoint(), by_cni, flag::SYN | flag::ACK);
        kernel.check("conntrack's", Ingress, &answer, Untouched);
        let inside = answer.to(net.client);
        let told = inside.clone().from(net.vip);
        kernel.check("ours", Egress, &inside, Becomes(&told, Verdict::RevNat));
    }
}

#[test]
fn without_an_address_of_the_device_the_packet_is_dropped() {
    let Some(mut kernel) = load(&settings()) else {
        return;
    };
    kernel.set_device(Device::UPLINK, [[0; 4].into(), [0u16; 8].into()]);
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = Frame::tcp(net.client, net.vip, flag::SYN);
        kernel.pass("opens", &sent, net.endpoint());
        let inside = sent.to(net.endpoint());
        kernel.check(
            "no address",
            Egress,
            &inside,
            Dropped(Verdict::NoSnatAddress),
        );
    }
}

#[test]
fn entries_that_the_table_lost_are_made_again_with_the_same_port() {
    let Some(mut kernel) = load(&settings()) else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        talk(&mut kernel, "opens", &net, net.client, TCP, flag::SYN);
        let node = node_side(&kernel, &net, net.client, TCP);
        let (forward, snat, undo) = (
            (net.client, net.vip, TCP),
            (net.client, net.endpoint(), TCP),
            (net.endpoint(), node, TCP),
        );
        for lost in [&[snat][..], &[undo], &[snat, undo]] {
            for tuple in lost {
                kernel.flows.evict(*tuple);
            }
            // They are looked for once a tick.
            kernel.flows.age(forward, 1);
            if kernel.flows.get(snat).is_some() {
                kernel.flows.age(snat, 1);
            }
            talk(&mut kernel, "again", &net, net.client, TCP, flag::ACK);
            assert_eq!(
                node_side(&kernel, &net, net.client, TCP),
                node,
                "{}",
                net.name
            );
        }
    }
}

#[test]
fn a_syn_to_such_a_port_is_no_answer() {
    let Some(mut kernel) = load(&settings()) else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        talk(&mut kernel, "opens", &net, net.client, TCP, flag::SYN);
        let node = node_side(&kernel, &net, net.client, TCP);
        let syn = Frame::tcp(net.endpoint(), node, flag::SYN);
        kernel.check("the node's own", Ingress, &syn, Untouched);
    }
}

#[test]
fn icmp_errors_about_either_side_are_translated_at_both_hooks_rule_97() {
    let Some(mut kernel) = load(&settings()) else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let (_, kind) = net.icmp_errors()[0];
        let router = net.stranger.ip();
        for proto in [TCP, UDP] {
            talk(&mut kernel, "opens", &net, net.client, proto, flag::SYN);
            let node = node_side(&kernel, &net, net.client, proto);
            for keep in [8, usize::MAX] {
                let sent = Frame::of(proto, net.client, net.vip, flag::ACK);
                let inside = sent.clone().to(net.endpoint());
                let left = inside.clone().from(node);
                let about_left = Frame::icmp(router, net.router, kind, &left, keep);
                let about_inside = Frame::icmp(router, net.client.ip(), kind, &inside, keep);
                // Not by the router's own name: it may be the next hop.
                let about_sent = Frame::icmp(net.vip.ip(), net.client.ip(), kind, &sent, keep);
                let to_client = Verdict::IcmpToClient;
                kernel.check(
                    "in",
                    Ingress,
                    &about_left,
                    Becomes(&about_inside, to_client),
                );
                kernel.check(
                    "out",
                    Egress,
                    &about_inside,
                    Becomes(&about_sent, to_client),
                );

                let answer = Frame::of(proto, net.endpoint(), node, flag::ACK);
                let inside = answer.clone().to(net.client);
                let told = inside.clone().from(net.vip);
                for who in [net.client.ip(), router] {
                    let about_told = Frame::icmp(who, net.vip.ip(), kind, &told, keep);
                    let about_inside = Frame::icmp(who, net.endpoint().ip(), kind, &inside, keep);
                    let about_answer =
                        Frame::icmp(net.router, net.endpoint().ip(), kind, &answer, keep);
                    let to_endpoint = Verdict::IcmpToEndpoint;
                    let entered = Becomes(&about_inside, to_endpoint);
                    kernel.check("in", Ingress, &about_told, entered);
                    let left = Becomes(&about_answer, to_endpoint);
                    kernel.check("out", Egress, &about_inside, left);
                }
            }
        }
    }
}

#[test]
fn both_entries_know_when_the_connection_is_over() {
    let Some(mut kernel) = load(&settings()) else {
        return;
    };
    let is_closed = |flags: u16| {
        let fins = Flow::<()>::FIN_CLIENT | Flow::<()>::FIN_ENDPOINT;
        flags & fins == fins
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        talk(&mut kernel, "opens", &net, net.client, TCP, flag::SYN);
        let node = node_side(&kernel, &net, net.client, TCP);
        talk(
            &mut kernel,
            "ends",
            &net,
            net.client,
            TCP,
            flag::FIN | flag::ACK,
        );
        for tuple in [
            (net.client, net.endpoint(), TCP),
            (net.endpoint(), node, TCP),
        ] {
            let entry = kernel.flows.get(tuple).unwrap();
            assert!(is_closed(entry.flags), "{}: {entry:?}", net.name);
        }
    }
}
