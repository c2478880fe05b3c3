//! What each kind of frontend is to a process of the node.

use std::{net::SocketAddr, thread};

use duolb::datapath::object::Settings;
use lb_common::{
    address::V4,
    tables::{Frontend, VipRange},
    verdict::Verdict,
};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};

use super::{WEB, connect, ip, on_node, this_host};
use crate::{
    kernel::settings,
    packet::both,
    tables::{LEAVING, READY},
    unknown::cidr,
};

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
