//! The ports that clients get: never the same twice, given back, and none that the node itself has.

use std::{
    collections::HashSet,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use duolb::datapath::{object::Settings, snat_ports::SnatPorts};
use lb_common::verdict::Verdict;

use super::{WEB, load, node_side, send};
use crate::{
    kernel::{Dropped, Egress, settings},
    namespace::enter,
    packet::{Frame, TCP, UDP, both, flag},
};

fn ports(count: u16) -> SnatPorts {
    SnatPorts {
        first: 20_000,
        last: 20_000 + count - 1,
    }
}

#[test]
fn no_two_clients_share_a_port_and_closed_connections_give_theirs_back() {
    const CLIENTS: u16 = 400;
    let few = Settings {
        snat_ports: ports(512),
        ..settings()
    };
    let Some(mut kernel) = load(&few) else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for round in 0..3 {
            let mut seen = HashSet::new();
            let clients = (0..CLIENTS)
                .map(|number| SocketAddr::new(net.client.ip(), 1_024 + round * CLIENTS + number));
            let mut missed = 0;
            for client in clients.clone() {
                match send(&mut kernel, &net, client, TCP, flag::SYN) {
                    Some(Verdict::Snat) => {
                        let node = node_side(&kernel, &net, client, TCP);
                        assert!(seen.insert(node), "{}: {node} twice", net.name);
                    }
                    // With three in four ports taken some find none.
                    Some(Verdict::NoSnatPort) => missed += 1,
                    other => panic!("{}: {other:?}", net.name),
                }
            }
            assert!(
                missed < CLIENTS / 40,
                "{}: {missed} in round {round}",
                net.name
            );
            for client in clients {
                send(&mut kernel, &net, client, TCP, flag::RST);
            }
        }
    }
}

#[test]
fn without_a_free_port_the_packet_is_dropped_and_counted() {
    let one = Settings {
        snat_ports: ports(1),
        ..settings()
    };
    let Some(mut kernel) = load(&one) else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        assert_eq!(
            send(&mut kernel, &net, net.client, UDP, 0),
            Some(Verdict::Snat)
        );
        let sent = Frame::udp(net.neighbour, net.vip);
        kernel.pass("opens", &sent, net.endpoint());
        let inside = sent.to(net.endpoint());
        kernel.check("taken", Egress, &inside, Dropped(Verdict::NoSnatPort));
        // Once the first flow is forgotten, the port is the second's, and the first would get another.
        let undo = (net.endpoint(), SocketAddr::new(net.router, 20_000), UDP);
        kernel.flows.age(undo, 181);
        assert_eq!(
            kernel.run(Egress, &inside.bytes()).verdict,
            Some(Verdict::Snat)
        );
        let first = (net.client, net.endpoint(), UDP);
        assert_eq!(kernel.flows.get(first), None, "{}", net.name);
    }
}

#[test]
fn a_port_that_a_socket_of_the_node_has_is_left_alone() {
    let one = Settings {
        snat_ports: ports(1),
        ..settings()
    };
    let Some(mut kernel) = load(&one) else {
        return;
    };
    enter(&["link set lo up"], "lo");
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let at = SocketAddr::new(net.router, 20_000);
        for proto in [TCP, UDP] {
            let held: Box<dyn std::any::Any> = match proto {
                TCP => Box::new(TcpListener::bind(at).unwrap()),
                _ => Box::new(UdpSocket::bind(at).unwrap()),
            };
            let mut ask = || send(&mut kernel, &net, net.client, proto, flag::SYN);
            assert_eq!(ask(), Some(Verdict::NoSnatPort), "{}", net.name);
            drop(held);
            assert_eq!(ask(), Some(Verdict::Snat), "{}", net.name);
        }
    }
}
