//! Session affinity: a client's new flows stay with one endpoint (rules 68 to 72).

use std::{collections::BTreeSet, net::SocketAddr};

use lb_common::{
    tables::{Endpoint, Frontend},
    verdict::Verdict,
};

use crate::{
    kernel::{Ingress, Kernel},
    packet::{Frame, Net, SCTP, TCP, UDP, both, flag},
    tables::{GONE, LEAVING, READY},
};

const WEB: u32 = 3;
const OTHER: u32 = 4;

/// An affinity's timeout, in seconds; at 250 jiffies a second 97.7 ticks.
const TIMEOUT: u32 = 100;

/// Opens a flow from that port to `vip`; gives its endpoint.
#[track_caller]
fn open(kernel: &mut Kernel, net: &Net, vip: SocketAddr, proto: u8, port: u16) -> SocketAddr {
    let client = SocketAddr::new(net.client.ip(), port);
    let sent = Frame::of(proto, client, vip, flag::SYN);
    let outcome = kernel.run(Ingress, &sent.bytes());
    assert_eq!(outcome.verdict, Some(Verdict::Dnat), "{}", net.name);
    kernel.flows.get((client, vip, proto)).unwrap().peer
}

/// The endpoints of 32 new flows from as many ports, from `ports` on.
#[track_caller]
fn spread(kernel: &mut Kernel, net: &Net, vip: SocketAddr, ports: u16) -> BTreeSet<SocketAddr> {
    (ports..ports + 32)
        .map(|port| open(kernel, net, vip, TCP, port))
        .collect()
}

fn each(test: impl Fn(&mut Kernel, &Net)) {
    for net in both() {
        let Some(mut kernel) = Kernel::load() else {
            return;
        };
        kernel.stick(net.vip, WEB, &net.endpoints, TIMEOUT);
        test(&mut kernel, &net);
    }
}

#[test]
fn all_flows_of_a_client_go_to_one_endpoint_and_those_of_others_to_theirs() {
    each(|kernel, net| {
        for proto in [TCP, UDP, SCTP] {
            let endpoints: BTreeSet<_> = (1..33)
                .map(|port| open(kernel, net, net.vip, proto, port))
                .collect();
            assert_eq!(endpoints.len(), 1, "{} protocol {proto}", net.name);
        }
        // One that by its port alone would go elsewhere.
        let first = open(kernel, net, net.vip, TCP, 50);
        kernel.serve(net.vip, WEB, &net.endpoints);
        let port = (51..)
            .find(|port| open(kernel, net, net.vip, TCP, *port) != first)
            .unwrap();
        kernel.stick(net.vip, WEB, &net.endpoints, TIMEOUT);
        let other = Net {
            client: net.neighbour,
            ..*net
        };
        open(kernel, &other, net.vip, TCP, port);
        let (ours, theirs) = (net.client.ip(), net.neighbour.ip());
        assert_eq!(
            kernel.tables.affinity(ours, WEB),
            Some(kernel.tables.id(WEB, first))
        );
        assert!(kernel.tables.affinity(theirs, WEB).is_some());
    });
}

#[test]
fn two_vips_of_one_service_port_share_it_and_another_service_has_its_own() {
    each(|kernel, net| {
        let first = open(kernel, net, net.vip, TCP, 1);
        kernel.stick(net.other_vip, WEB, &net.endpoints, TIMEOUT);
        let others = spread(kernel, net, net.other_vip, 100);
        assert_eq!(others, [first].into(), "rule 68, {}", net.name);
        kernel.stick(net.stranger, OTHER, &net.endpoints, TIMEOUT);
        open(kernel, net, net.stranger, TCP, 1);
        let client = net.client.ip();
        assert_ne!(
            kernel.tables.affinity(client, WEB),
            kernel.tables.affinity(client, OTHER),
            "another service's endpoints have other ids"
        );
    });
}

#[test]
fn it_ends_when_the_client_opened_nothing_for_so_long() {
    each(|kernel, net| {
        // Each time alone in its range, so that where an unbound flow goes is known.
        kernel.stick(net.vip, WEB, &net.endpoints[..1], TIMEOUT);
        assert_eq!(open(kernel, net, net.vip, TCP, 1), net.endpoint());
        kernel.stick(net.vip, WEB, &net.endpoints[1..2], TIMEOUT);
        kernel.tables.age_affinity(net.client.ip(), WEB, 96);
        let in_time = open(kernel, net, net.vip, TCP, 2);
        assert_eq!(in_time, net.endpoint(), "rule 69, {}", net.name);
        kernel.tables.age_affinity(net.client.ip(), WEB, 96);
        let again = open(kernel, net, net.vip, TCP, 3);
        assert_eq!(again, net.endpoint(), "the new flow refreshed it");
        kernel.tables.age_affinity(net.client.ip(), WEB, 99);
        let late = open(kernel, net, net.vip, TCP, 4);
        assert_eq!(late, net.endpoints[1], "expired, {}", net.name);
        let id = kernel.tables.id(WEB, net.endpoints[1]);
        assert_eq!(kernel.tables.affinity(net.client.ip(), WEB), Some(id));
    });
}

#[test]
fn packets_within_a_flow_do_not_keep_it_young() {
    for proto in [TCP, UDP, SCTP] {
        each(|kernel, net| {
            kernel.stick(net.vip, WEB, &net.endpoints[..1], TIMEOUT);
            open(kernel, net, net.vip, proto, 1);
            kernel.stick(net.vip, WEB, &net.endpoints[1..2], TIMEOUT);
            kernel.tables.age_affinity(net.client.ip(), WEB, 99);
            let client = SocketAddr::new(net.client.ip(), 1);
            for flags in [flag::SYN, flag::ACK] {
                let sent = Frame::of(proto, client, net.vip, flags);
                kernel.pass("rules 69 and 79", &sent, net.endpoint());
            }
            let late = open(kernel, net, net.vip, proto, 2);
            assert_eq!(late, net.endpoints[1], "{} {proto}", net.name);
        });
    }
}

#[test]
fn an_endpoint_that_takes_no_new_flows_is_replaced_for_good() {
    for state in [LEAVING, GONE] {
        each(|kernel, net| {
            kernel.stick(net.vip, WEB, &net.endpoints[..1], TIMEOUT);
            open(kernel, net, net.vip, TCP, 1);
            kernel.stick(net.vip, WEB, &net.endpoints[1..2], TIMEOUT);
            kernel.tables.set_state(WEB, net.endpoint(), state);
            let next = open(kernel, net, net.vip, TCP, 2);
            assert_eq!(next, net.endpoints[1], "rule 70, {}", net.name);
            // The first is back, and it makes no difference.
            kernel.stick(net.vip, WEB, &net.endpoints[..1], TIMEOUT);
            let later = open(kernel, net, net.vip, TCP, 3);
            assert_eq!(later, net.endpoints[1], "stored, {}", net.name);
        });
    }
}

#[test]
fn an_endpoint_whose_place_is_another_service_s_is_not_taken_for_it() {
    each(|kernel, net| {
        kernel.stick(net.vip, WEB, &net.endpoints[..1], TIMEOUT);
        open(kernel, net, net.vip, TCP, 1);
        kernel.tables.replace(WEB, net.endpoint(), net.endpoints[5]);
        kernel.stick(net.vip, WEB, &net.endpoints[1..2], TIMEOUT);
        let next = open(kernel, net, net.vip, TCP, 2);
        assert_eq!(next, net.endpoints[1], "{}", net.name);
    });
}

#[test]
fn turned_off_it_is_off_with_the_next_flow() {
    each(|kernel, net| {
        let bound = spread(kernel, net, net.vip, 100);
        assert_eq!(bound.len(), 1, "{}", net.name);
        kernel.serve(net.vip, WEB, &net.endpoints);
        let free = spread(kernel, net, net.vip, 200);
        assert!(free.len() > 1, "rule 71, {}: {free:?}", net.name);
    });
}

#[test]
fn under_a_local_policy_only_a_local_endpoint_is_stuck_to() {
    each(|kernel, net| {
        kernel.stick(net.vip, WEB, &net.endpoints[..1], TIMEOUT);
        open(kernel, net, net.vip, TCP, 1);
        let local = &net.endpoints[1..2];
        kernel.serve_as(net.other_vip, WEB, local, TIMEOUT, Frontend::LOCAL);
        let is_local = READY | Endpoint::<()>::LOCAL;
        kernel.tables.set_state(WEB, net.endpoints[1], is_local);
        let next = open(kernel, net, net.other_vip, TCP, 2);
        assert_eq!(next, net.endpoints[1], "rule 70, {}", net.name);
        let cluster = open(kernel, net, net.vip, TCP, 3);
        assert_eq!(cluster, net.endpoints[1], "it is in the cluster list too");
    });
}
