//! Which endpoint a socket keeps, for how long, and whose name it is told.

use std::{net::TcpListener, thread, time::Duration};

use duolb::datapath::object::Settings;
use lb_common::flow::state::Timeouts;
use socket2::{Domain, Protocol, Socket, Type};

use super::{WEB, connect, on_node, unconnected};
use crate::{
    kernel::settings,
    packet::both,
    tables::{LEAVING, SILENT},
};

#[test]
fn a_connected_socket_that_names_its_peer_with_each_datagram_keeps_its_endpoint() {
    on_node("named", &settings(), |node| {
        for net in both() {
            node.kernel.serve(net.vip, WEB, &net.endpoints);
            let socket = connect(net.vip).unwrap();
            let (first, _) = node.exchange(&net, &socket, net.vip);
            for _ in 0..10 {
                // From any other it would hear nothing.
                assert_eq!(
                    node.exchange(&net, &socket, net.vip),
                    (first, net.vip),
                    "{}",
                    net.name
                );
            }
        }
    });
}

#[test]
fn answers_of_an_endpoint_are_its_own_once_it_is_called_itself() {
    on_node("itself", &settings(), |node| {
        for net in both() {
            let endpoint = net.endpoints[3];
            node.kernel.serve(net.vip, WEB, &[endpoint]);
            let socket = unconnected(&net);
            for to in [net.vip, endpoint, net.vip] {
                assert_eq!(node.exchange(&net, &socket, to), (3, to), "{}", net.name);
            }
        }
    });
}

#[test]
fn a_socket_keeps_an_endpoint_that_serves_till_it_has_rested_or_the_endpoint_leaves() {
    let short = Settings {
        timeouts: Timeouts::new(1, 1, 1, 1),
        ..settings()
    };
    on_node("rested", &short, |node| {
        let sockets = both().map(|net| {
            node.kernel.serve(net.vip, WEB, &net.endpoints[..1]);
            let socket = unconnected(&net);
            assert_eq!(node.exchange(&net, &socket, net.vip).0, 0, "{}", net.name);
            // Rule 73: no new flows go there, but it answers.
            node.kernel.tables.set_state(WEB, net.endpoints[0], LEAVING);
            node.kernel.serve(net.vip, WEB, &net.endpoints[1..2]);
            assert_eq!(node.exchange(&net, &socket, net.vip).0, 0, "{}", net.name);
            socket
        });
        thread::sleep(Duration::from_secs(4));
        for (net, socket) in both().iter().zip(&sockets) {
            assert_eq!(node.exchange(net, socket, net.vip).0, 1, "{}", net.name);
            node.kernel.serve(net.vip, WEB, &net.endpoints[2..3]);
            node.kernel.tables.set_state(WEB, net.endpoints[1], SILENT);
            assert_eq!(node.exchange(net, socket, net.vip).0, 2, "{}", net.name);
        }
    });
}

#[test]
fn sockets_of_multipath_tcp_are_served_by_their_subflows() {
    on_node("multipath", &settings(), |node| {
        for net in both() {
            let endpoint = net.endpoints[5];
            node.kernel.serve(net.vip, WEB, &[endpoint]);
            let _listener = TcpListener::bind(endpoint).unwrap();
            let domain = Domain::for_address(net.vip);
            /// IPPROTO_MPTCP of linux/in.h.
            const MPTCP: i32 = 262;
            let Ok(socket) = Socket::new(domain, Type::STREAM, Some(Protocol::from(MPTCP))) else {
                eprintln!("skipped: a kernel without multipath TCP");
                return;
            };
            socket.connect(&net.vip.into()).expect(net.name);
            // That the VIP is not what it is told here is the kernel's way: it asks about the subflow when it
            // connects, and about another socket when the process asks.
            let told = socket.peer_addr().unwrap().as_socket();
            assert_eq!(told, Some(endpoint), "{}", net.name);
        }
    });
}
