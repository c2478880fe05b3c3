//! The programs for sockets of the node's own processes: what each kind of frontend is to them.
//!
//! The kernel has no test run for these (BPF_PROG_TEST_RUN knows no `cgroup_sock_addr`). So they are attached as the
//! agent does it, to the root of the cgroups, and told of a network namespace that the test has for itself: nobody
//! else's sockets are concerned. In it, endpoints are addresses of the loopback device, and no packet leaves it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use duolb::datapath::{cgroup, netns, object::Settings, pins::Pins};
use lb_common::{
    address::V4,
    tables::{Frontend, VipRange},
    verdict::Verdict,
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};

use crate::{
    kernel::{Kernel, settings},
    packet::{Net, both},
    tables::{LEAVING, READY, SILENT},
    unknown::cidr,
};

const WEB: u32 = 5;

/// The programs, attached, in a namespace of the test's own.
struct Node {
    kernel: Kernel,
    pins: Pins,
    /// Of all endpoints, IPv4 first.
    listeners: [Vec<UdpSocket>; 2],
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.pins.remove(); // The links go with it.
    }
}

/// Runs `work` on a thread in a namespace of its own, with the addresses of all endpoints.
fn on_node(name: &str, settings: &Settings, work: impl FnOnce(&mut Node) + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                eprintln!("skipped: a network namespace takes root");
                return;
            }
            ip("link set lo up");
            for endpoint in both().iter().flat_map(|net| net.endpoints) {
                let address = endpoint.ip();
                let nodad = if address.is_ipv6() { "nodad" } else { "" };
                ip(&format!("addr add {address} dev lo {nodad}"));
            }
            let settings = Settings {
                netns_cookie: netns::cookie().unwrap(),
                ..*settings
            };
            let Some(mut kernel) = Kernel::load_with(&settings) else {
                return;
            };
            let pins = Pins::new(format!("/sys/fs/bpf/duolb-{}-{name}", std::process::id()));
            pins.ensure().unwrap();
            let mut node = match cgroup::attach(&mut kernel.object, &pins, None) {
                Ok(_) => Node {
                    kernel,
                    pins,
                    listeners: both().map(|net| net.endpoints.map(listen).into()),
                },
                Err(error) => panic!("{error:?}"),
            };
            work(&mut node);
        });
        inside.join().unwrap();
    });
}

fn ip(line: &str) {
    let words = line.split_whitespace();
    let status = Command::new("ip").args(words).status().unwrap();
    assert!(status.success(), "ip {line}: {status}");
}

fn listen(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A socket that is connected to `to`, or why not.
fn connect(to: SocketAddr) -> Result<UdpSocket, Errno> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap());
    socket.connect(to).map_err(errno)?;
    Ok(socket)
}

impl Node {
    /// Which of the endpoints, of which each listens, gets what is sent to `to`.
    fn reach(&self, net: &Net, to: SocketAddr) -> Result<usize, Errno> {
        let socket = connect(to)?;
        assert_eq!(socket.peer_addr().unwrap(), to, "the process sees the VIP");
        socket.send(b"duolb").unwrap();
        let listeners = &self.listeners[usize::from(net.is_v6)];
        let got = listeners
            .iter()
            .position(|listener| listener.recv(&mut [0; 16]).is_ok());
        Ok(got.unwrap_or_else(|| panic!("nobody got what was sent to {to}")))
    }

    /// Checks what becomes of a connect to `to`, and that it is counted once.
    #[track_caller]
    fn check(&self, shows: &str, net: &Net, to: SocketAddr, fate: Result<usize, (Errno, Verdict)>) {
        let before = self.kernel.verdicts();
        let reached = self.reach(net, to);
        assert_eq!(
            reached,
            fate.map_err(|(errno, _)| errno),
            "{shows}: {}",
            net.name
        );
        let verdict = fate.map_or_else(|(_, verdict)| verdict, |_| Verdict::Socket);
        let after = self.kernel.verdicts();
        for (at, verdict_at) in Verdict::ALL.iter().enumerate() {
            let counted = after[at] - before[at];
            let expected = u64::from(*verdict_at == verdict);
            assert_eq!(counted, expected, "{shows}: {}: {verdict_at:?}", net.name);
        }
    }
}

/// The addresses by which a host calls itself: the loopback one, and none in particular.
fn this_host(net: &Net) -> [IpAddr; 2] {
    if net.is_v6 {
        [Ipv6Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()]
    } else {
        [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::UNSPECIFIED.into()]
    }
}

#[test]
fn node_ports_are_there_by_every_address_of_the_node_and_by_loopback() {
    on_node("node-ports", &settings(), |node| {
        for net in both() {
            let [loopback, none] = this_host(&net);
            // By an address of the node that it does not name (rule 62), or one that packets may use as well.
            for (ip, flags) in [
                (loopback, Frontend::HOST_ONLY),
                (net.endpoints[7].ip(), 0),
                (net.endpoints[6].ip(), Frontend::HOST_ONLY),
            ] {
                let at = SocketAddr::new(ip, 30_080);
                let flags = flags | Frontend::NODE_PORT;
                node.kernel.serve_as(at, WEB, &[net.endpoints[2]], 0, flags);
                node.check("a node port", &net, at, Ok(2));
            }
            // Who calls no address in particular calls this host, and is told so.
            let socket = connect(SocketAddr::new(none, 30_080)).unwrap();
            assert_eq!(socket.peer_addr().unwrap().ip(), loopback, "{}", net.name);
            socket.send(b"duolb").unwrap();
            let listener = &node.listeners[usize::from(net.is_v6)][2];
            listener.recv(&mut [0; 16]).expect(net.name);
        }
    });
}

#[test]
fn external_policies_do_not_bind_the_node_rules_42_and_45() {
    on_node("policies", &settings(), |node| {
        for net in both() {
            let (local, cluster) = (net.endpoints[0], net.endpoints[1]);
            let empty = Err((Errno::ECONNREFUSED, Verdict::NoEndpoint));
            let cases: [(&str, &[_], &[_], u32, _); 4] = [
                ("the cluster list", &[local], &[cluster], 0, Ok(1)),
                (
                    "outside it is dropped",
                    &[],
                    &[cluster],
                    Frontend::DROP,
                    Ok(1),
                ),
                ("nobody anywhere (rule 40)", &[], &[], 0, empty),
                ("nobody anywhere (rule 40)", &[], &[], Frontend::DROP, empty),
            ];
            for (shows, outer, inner, flags, fate) in cases {
                let flags = flags | Frontend::LOCAL | Frontend::LOAD_BALANCER;
                node.kernel.serve_split(net.vip, WEB, (outer, inner), flags);
                node.check(shows, &net, net.vip, fate);
            }
        }
    });
}

#[test]
fn without_endpoints_it_is_refused_or_where_the_rules_say_drop_not_permitted() {
    on_node("empty", &settings(), |node| {
        for net in both() {
            node.kernel.serve(net.vip, WEB, &[]);
            let fate = Err((Errno::ECONNREFUSED, Verdict::NoEndpoint));
            node.check("rule 40", &net, net.vip, fate);
            let flags = Frontend::DROP | Frontend::LOCAL;
            node.kernel.serve_as(net.vip, WEB, &[], 0, flags);
            let fate = Err((Errno::EPERM, Verdict::NoLocalEndpoint));
            node.check("rule 41", &net, net.vip, fate);
        }
    });
}

#[test]
fn ports_and_addresses_without_a_service_are_refused_only_where_vips_are() {
    on_node("unknown", &settings(), |node| {
        for net in both() {
            let (first, bits) = cidr(&net);
            let flags = VipRange::<V4>::VIPS | VipRange::<V4>::SERVICE_CIDR;
            node.kernel.tables.write_ranges(&[(first, bits, flags)]);
            node.kernel.tables.mark(net.vip.ip());
            let unknown = SocketAddr::new(net.vip.ip(), 81);
            let fate = Err((Errno::ECONNREFUSED, Verdict::UnknownPort));
            node.check("rule 49", &net, unknown, fate);
            let fate = Err((Errno::EPERM, Verdict::Unallocated));
            node.check("rule 50", &net, net.other_vip, fate);
            // Rule 51: what is no VIP is its owner's.
            let before = node.kernel.verdicts();
            assert_eq!(node.reach(&net, net.endpoints[3]), Ok(3), "{}", net.name);
            assert_eq!(node.kernel.verdicts(), before, "{}", net.name);
        }
    });
}

#[test]
fn source_ranges_bind_the_node_as_well_rule_47() {
    on_node("sources", &settings(), |node| {
        for net in both() {
            let ranges = Frontend::LOAD_BALANCER | Frontend::SOURCE_RANGES;
            let endpoints = &net.endpoints[4..5];
            node.kernel.serve_as(net.vip, WEB, endpoints, 0, ranges);
            node.check("one of its addresses is in a range", &net, net.vip, Ok(4));
            let denied = ranges | Frontend::NODE_DENIED;
            let fate = Err((Errno::EPERM, Verdict::SourceDenied));
            // Rule 48: whether or not there are endpoints.
            for endpoints in [endpoints, &[]] {
                node.kernel.serve_as(net.vip, WEB, endpoints, 0, denied);
                node.check("none of its addresses is", &net, net.vip, fate);
            }
        }
    });
}

#[test]
fn the_node_sticks_to_an_endpoint_while_that_is_on_the_list_rules_68_and_70() {
    on_node("affinity", &settings(), |node| {
        for net in both() {
            let all = &net.endpoints[..4];
            node.kernel.stick(net.vip, WEB, all, 600);
            let first = node.reach(&net, net.vip).unwrap();
            for _ in 0..10 {
                node.check("the same one", &net, net.vip, Ok(first));
            }
            // By another VIP, and by the cluster list of one that has two (rule 70).
            let flags = Frontend::LOCAL | Frontend::LOAD_BALANCER;
            node.kernel
                .serve_split_stuck(net.other_vip, WEB, (&[], all), flags, 600);
            node.check("by another VIP", &net, net.other_vip, Ok(first));
            node.kernel
                .tables
                .set_state(WEB, net.endpoints[first], LEAVING);
            let rest: Vec<_> = (0..4).filter(|at| *at != first).map(|at| all[at]).collect();
            node.kernel.stick(net.vip, WEB, &rest, 600);
            let second = node.reach(&net, net.vip).unwrap();
            assert_ne!(second, first, "{}", net.name);
            node.check("and then that one", &net, net.vip, Ok(second));
            node.kernel
                .tables
                .set_state(WEB, net.endpoints[first], READY);
        }
    });
}

#[test]
fn a_kernel_without_bpf_set_retval_says_not_permitted() {
    let old = Settings {
        set_retval: false,
        ..settings()
    };
    on_node("retval", &old, |node| {
        for net in both() {
            node.kernel.serve(net.vip, WEB, &[]);
            let fate = Err((Errno::EPERM, Verdict::NoEndpoint));
            node.check("before 5.18", &net, net.vip, fate);
        }
    });
}

#[test]
fn processes_of_another_network_namespace_are_none_of_the_nodes() {
    on_node("strangers", &settings(), |node| {
        for net in both() {
            node.kernel.serve(net.vip, WEB, &[]);
        }
        let before = node.kernel.verdicts();
        let stranger = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            both().map(|net| connect(net.vip).unwrap_err())
        };
        let errors = thread::scope(|scope| scope.spawn(stranger).join().unwrap());
        // It has no route there, which is not what the node's own are told.
        assert_eq!(errors, [Errno::ENETUNREACH; 2]);
        assert_eq!(node.kernel.verdicts(), before);
    });
}

#[test]
fn an_endpoint_that_is_a_vip_itself_is_not_translated_again() {
    on_node("chain", &settings(), |node| {
        for net in both() {
            let (first, second) = (net.endpoints[0], net.endpoints[1]);
            node.kernel.serve(net.vip, WEB, &[first]);
            node.kernel.serve(first, WEB + 1, &[second]);
            node.check("the first one's endpoint", &net, net.vip, Ok(0));
            node.check("the second one's", &net, first, Ok(1));
        }
    });
}

impl Node {
    /// The endpoint that gets what is sent to `to` by a socket that is not connected, and whom its answer is from.
    fn exchange(&self, net: &Net, socket: &UdpSocket, to: SocketAddr) -> (usize, SocketAddr) {
        socket.send_to(b"duolb", to).unwrap();
        let listeners = &self.listeners[usize::from(net.is_v6)];
        for (number, listener) in listeners.iter().enumerate() {
            if let Ok((_, client)) = listener.recv_from(&mut [0; 16]) {
                listener.send_to(b"duolb", client).unwrap();
                let (_, from) = socket.recv_from(&mut [0; 16]).unwrap();
                return (number, from);
            }
        }
        panic!("nobody got what was sent to {to}");
    }
}

/// A socket that is not connected.
fn unconnected(net: &Net) -> UdpSocket {
    let [_, any] = this_host(net);
    UdpSocket::bind((any, 0)).unwrap()
}

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
        udp_timeout_seconds: 1,
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
fn a_new_object_takes_the_links_over_and_leaves_one_of_each() {
    on_node("handover", &settings(), |node| {
        let settings = Settings {
            netns_cookie: netns::cookie().unwrap(),
            ..settings()
        };
        let mut next = Kernel::load_with(&settings).unwrap();
        for net in both() {
            node.kernel.serve(net.vip, WEB, &net.endpoints[..1]);
            next.serve(net.vip, WEB, &net.endpoints[1..2]);
            node.check("the first object's tables", &net, net.vip, Ok(0));
        }
        cgroup::attach(&mut next.object, &node.pins, None).unwrap();
        assert!(cgroup::is_attached(&node.pins));
        let before = node.kernel.verdicts();
        let first = std::mem::replace(&mut node.kernel, next);
        for net in both() {
            node.check("the next one's", &net, net.vip, Ok(1));
        }
        assert_eq!(first.verdicts(), before, "the first one is asked no more");
    });
}

#[test]
fn sockets_of_multipath_tcp_are_served_by_their_subflows() {
    use socket2::{Domain, Protocol, Socket, Type};
    on_node("multipath", &settings(), |node| {
        for net in both() {
            let endpoint = net.endpoints[5];
            node.kernel.serve(net.vip, WEB, &[endpoint]);
            let _listener = std::net::TcpListener::bind(endpoint).unwrap();
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
