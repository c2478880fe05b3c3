//! What external frontends ask of the datapath besides: who is inside, who may come at all, whom it is for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::{
    tables::{Device, Frontend},
    verdict::Verdict,
};

use crate::{
    kernel::{Dropped, Ingress, Kernel, Untouched},
    packet::{Frame, TCP, UDP, both, flag},
};

const WEB: u32 = 5;
const NO_ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

fn at_port(client: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(client.ip(), port)
}

#[test]
fn clients_inside_get_the_cluster_list_and_others_the_local_one_rule_45() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        let (local, cluster) = (net.endpoints[0], net.endpoints[1]);
        kernel.serve_split(net.vip, WEB, (&[local], &[cluster]), 0);
        for (port, role, endpoint) in [
            (1_000, 0, local),
            (1_001, Device::PODS, cluster),
            (1_002, Device::UPLINK, local),
        ] {
            kernel.set_device(role, NO_ADDRESSES);
            let sent = Frame::tcp(at_port(net.client, port), net.vip, flag::SYN);
            if role & Device::UPLINK == 0 {
                kernel.pass("by its device", &sent, endpoint);
            } else {
                // It needs SNAT as well, which is no matter here.
                let outcome = kernel.run(Ingress, &sent.bytes());
                assert_eq!(outcome.bytes, sent.to(endpoint).bytes(), "{}", net.name);
            }
        }
    }
}

#[test]
fn where_networks_tell_who_is_inside_devices_do_not_rule_59() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    kernel.set_device(Device::PODS, NO_ADDRESSES);
    for net in both() {
        let (local, cluster) = (net.endpoints[0], net.endpoints[1]);
        kernel.serve_split(net.vip, WEB, (&[local], &[cluster]), 0);
        let whole = if net.is_v6 { 128 } else { 32 };
        let others = (net.stranger.ip(), whole);
        kernel
            .tables
            .write_locals(&[others, (net.client.ip(), whole)]);
        let sent = |client| Frame::tcp(client, net.vip, flag::SYN);
        kernel.pass("in one of them", &sent(net.client), cluster);
        kernel.pass("in none of them", &sent(net.neighbour), local);
    }
}

#[test]
fn without_endpoints_here_outside_is_dropped_and_inside_is_served_rules_42_and_100() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        let cluster = net.endpoints[1];
        kernel.serve_split(net.vip, WEB, (&[], &[cluster]), Frontend::DROP);
        for proto in [TCP, UDP] {
            let sent = |client| Frame::of(proto, client, net.vip, flag::SYN);
            kernel.set_device(Device::UPLINK, NO_ADDRESSES);
            let dropped = Dropped(Verdict::NoLocalEndpoint);
            kernel.check("outside", Ingress, &sent(net.client), dropped);
            kernel.set_device(Device::PODS, NO_ADDRESSES);
            kernel.pass("inside", &sent(net.neighbour), cluster);
        }
    }
}

#[test]
fn without_endpoints_anywhere_everybody_is_refused_rule_40() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve_split(net.vip, WEB, (&[], &[]), 0);
        for role in [Device::UPLINK, Device::PODS] {
            kernel.set_device(role, NO_ADDRESSES);
            let sent = Frame::tcp(net.client, net.vip, flag::SYN);
            let outcome = kernel.run(Ingress, &sent.bytes());
            assert_eq!(outcome.verdict, Some(Verdict::NoEndpoint), "{}", net.name);
        }
    }
}

#[test]
fn clients_outside_of_the_source_ranges_are_dropped() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        // Rule 48: whether or not there are endpoints.
        for endpoints in [&[][..], &[net.endpoint()]] {
            let flags = Frontend::LOAD_BALANCER | Frontend::SOURCE_RANGES;
            kernel.serve_as(net.vip, WEB, endpoints, 0, flags);
            for proto in [TCP, UDP] {
                let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
                let denied = Dropped(Verdict::SourceDenied);
                kernel.check("of no range", Ingress, &sent, denied);
            }
        }
        let whole = if net.is_v6 { 128 } else { 32 };
        kernel.tables.allow_source(WEB + 1, net.client.ip(), whole);
        kernel.tables.allow_source(WEB, net.neighbour.ip(), whole);
        let sent = |client| Frame::tcp(client, net.vip, flag::SYN);
        let denied = Dropped(Verdict::SourceDenied);
        kernel.check("another's", Ingress, &sent(net.client), denied);
        kernel.pass("of a range", &sent(net.neighbour), net.endpoint());
        kernel.tables.allow_source(WEB, net.client.ip(), whole - 8);
        kernel.pass("of a wide range", &sent(net.client), net.endpoint());
    }
}

#[test]
fn a_flow_goes_on_when_its_client_leaves_the_ranges_rule_53() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = |flags| Frame::tcp(net.client, net.vip, flags);
        kernel.pass("opens", &sent(flag::SYN), net.endpoint());
        let flags = Frontend::LOAD_BALANCER | Frontend::SOURCE_RANGES;
        kernel.serve_as(net.vip, WEB, &[net.endpoint()], 0, flags);
        kernel.pass("goes on", &sent(flag::ACK), net.endpoint());
    }
}

#[test]
fn what_is_for_the_node_s_own_processes_passes_untouched() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve_as(net.vip, WEB, &[net.endpoint()], 0, Frontend::HOST_ONLY);
        for proto in [TCP, UDP] {
            let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
            kernel.check("none of ours", Ingress, &sent, Untouched);
        }
    }
}

/// Node addresses are in no range of VIPs.
#[test]
fn connections_through_a_node_port_outlive_its_service_rule_53() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        let node = SocketAddr::new(net.router, 30_080);
        kernel.serve(node, WEB, &[net.endpoint()]);
        let sent = |proto, flags| Frame::of(proto, net.client, node, flags);
        for proto in [TCP, UDP] {
            kernel.pass("opens", &sent(proto, flag::SYN), net.endpoint());
        }
        kernel.pass("confirms", &sent(TCP, flag::ACK), net.endpoint());
        kernel.withdraw(node);
        for flags in [flag::ACK, flag::ACK | flag::PSH, flag::FIN | flag::ACK] {
            kernel.pass("goes on", &sent(TCP, flags), net.endpoint());
        }
        kernel.check("is new", Ingress, &sent(TCP, flag::SYN), Untouched);
        kernel.check("rule 75", Ingress, &sent(UDP, 0), Untouched);
        let other = Frame::tcp(net.neighbour, node, flag::ACK);
        kernel.check("another's", Ingress, &other, Untouched);
    }
}
