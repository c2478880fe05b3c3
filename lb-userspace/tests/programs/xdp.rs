//! Packets between outside and another node, sent on by XDP; all others it leaves to TC as they came.
//!
//! In a namespace with one uplink, on which clients and endpoints are; test runs claim to come in by the loopback
//! device.

use std::net::{IpAddr, SocketAddr};

use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use duolb::datapath::object::{Sizes, loaded_xdp};
use lb_common::{
    address::{Address as _, V4, V6},
    tables::{Device, Endpoint, Frontend},
    verdict::Verdict,
};

use crate::{
    kernel::{Becomes, Egress, Ingress, Kernel, LOOPBACK, SMALL},
    namespace::{enter, ip},
    packet::{Frame, Net, TCP, UDP, both, flag},
    tables::READY,
};

const WEB: u32 = 2;
const HERE: u16 = READY | Endpoint::<()>::HERE;

/// enum xdp_action (uapi/linux/bpf.h).
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// The uplink's MAC, the clients', the endpoints'.
pub const OWN: (&str, [u8; 6]) = ("02:00:00:00:00:0a", [2, 0, 0, 0, 0, 0xa]);
const CLIENT: (&str, [u8; 6]) = ("02:00:00:00:00:0c", [2, 0, 0, 0, 0, 0xc]);
pub const ENDPOINT: (&str, [u8; 6]) = ("02:00:00:00:00:0e", [2, 0, 0, 0, 0, 0xe]);

/// A node with one uplink whose program runs in the driver.
pub fn load() -> Option<Kernel> {
    load_on(Device::XDP_NATIVE, SMALL)
}

/// A node with one uplink that has the program attached in this way, or not, and tables of these sizes.
pub fn load_on(attached: u32, sizes: Sizes) -> Option<Kernel> {
    let mut kernel = Kernel::load_sized(sizes)?;
    loaded_xdp(&mut kernel.object).expect("the program loads");
    let index = enter(
        &[
            "link set lo up",
            &format!("link add up0 address {} type veth peer name far", OWN.0),
            "link set far up",
            "link set up0 up",
        ],
        "up0",
    );
    let [v4, v6] = both().map(|net| net.router);
    let device = Device {
        attached,
        role: Device::UPLINK,
        v4: V4::from_ip(v4).unwrap(),
        v6: V6::from_ip(v6).unwrap(),
        ..Device::default()
    };
    kernel.devices.put(index, &device).unwrap();
    kernel.devices.put(LOOPBACK, &device).unwrap();
    for net in both() {
        learn(net.client.ip(), CLIENT.0);
        learn(net.endpoint().ip(), ENDPOINT.0);
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
    }
    Some(kernel)
}

pub fn learn(whom: IpAddr, mac: &str) {
    ip(&format!(
        "neigh replace {whom} lladdr {mac} dev up0 nud permanent"
    ));
}

fn forget(whom: IpAddr) {
    ip(&format!("neigh del {whom} dev up0"));
}

/// What the program returns for a frame, what it leaves of it, and what it counts.
fn run(kernel: &mut Kernel, frame: &[u8]) -> (u32, Vec<u8>, Vec<Verdict>) {
    let before = kernel.verdicts();
    let mut out = vec![0; frame.len()];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ..TestRunOptions::new()
    };
    let program = kernel.object.program_mut("xdp_ingress").unwrap();
    let program: &mut Xdp = program.try_into().unwrap();
    let result = program.test_run(options).unwrap();
    let after = kernel.verdicts();
    let counted = (Verdict::ALL.iter().zip(before).zip(after))
        .flat_map(|((verdict, before), after)| (before..after).map(|_| *verdict));
    (result.return_value, out, counted.collect())
}

#[track_caller]
fn passes(kernel: &mut Kernel, shows: &str, frame: &[u8]) {
    let outcome = run(kernel, frame);
    assert_eq!(outcome, (PASS, frame.to_vec(), vec![]), "{shows}");
}

/// `frame` a hop further, from the uplink to `to`.
fn sent_on(frame: &Frame, to: [u8; 6]) -> Vec<u8> {
    let mut bytes = frame.bytes();
    bytes[..6].copy_from_slice(&to);
    bytes[6..12].copy_from_slice(&OWN.1);
    let hops = if frame.src.is_ipv4() { 22 } else { 21 };
    bytes[hops] -= 1;
    if frame.src.is_ipv4() {
        bytes[24..26].copy_from_slice(&[0, 0]);
        let sum = bytes[14..34].chunks(2).fold(0u32, |sum, pair| {
            sum + u32::from(u16::from_be_bytes([pair[0], pair[1]]))
        });
        let [.., high, low] = (!((sum & 0xffff) + (sum >> 16))).to_be_bytes();
        bytes[24..26].copy_from_slice(&[high, low]);
    }
    bytes
}

/// A packet to the VIP and its answer; gives what the endpoint knows the client by.
#[track_caller]
pub fn talk(kernel: &mut Kernel, shows: &str, net: &Net, proto: u8, flags: u8) -> SocketAddr {
    let sent = Frame::of(proto, net.client, net.vip, flags);
    let (action, bytes, counted) = run(kernel, &sent.bytes());
    let snat = kernel.flows.get((net.client, net.endpoint(), proto));
    let node = snat.expect("an SNAT entry").peer;
    assert_eq!(node.ip(), net.router, "{shows}");
    let left = sent.from(node).to(net.endpoint());
    let expected = (
        REDIRECT,
        sent_on(&left, ENDPOINT.1),
        vec![Verdict::XdpToEndpoint],
    );
    assert_eq!((action, bytes, counted), expected, "{shows}, {}", net.name);

    let answer = Frame::of(proto, net.endpoint(), node, flags & flag::SYN | flag::ACK);
    let told = answer.clone().from(net.vip).to(net.client);
    let expected = (
        REDIRECT,
        sent_on(&told, CLIENT.1),
        vec![Verdict::XdpToClient],
    );
    assert_eq!(
        run(kernel, &answer.bytes()),
        expected,
        "{shows}, {}",
        net.name
    );
    node
}

#[test]
fn a_known_flow_to_another_node_is_sent_on_both_ways() {
    let Some(mut kernel) = load() else {
        return;
    };
    for net in both() {
        for proto in [TCP, UDP] {
            for flags in [flag::SYN, flag::ACK, flag::ACK | flag::PSH, flag::FIN] {
                talk(&mut kernel, "back and forth", &net, proto, flags);
            }
        }
        let traffic = kernel.traffic(WEB, net.vip);
        let counted = (traffic.flows, traffic.packets_in, traffic.packets_out);
        assert_eq!(counted, (2, 8, 8), "{}", net.name);
        assert_eq!(traffic.bytes_in, traffic.bytes_out, "{}", net.name);
    }
}

#[test]
fn what_tc_has_to_see_to_is_left_as_it_came() {
    let Some(mut kernel) = load() else {
        return;
    };
    for net in both() {
        let here = net.endpoints[1];
        kernel.serve(net.other_vip, WEB, &[here]);
        kernel.tables.set_state(WEB, here, HERE);
        let empty = SocketAddr::new(net.vip.ip(), 81);
        kernel.serve(empty, WEB, &[]);
        let own = SocketAddr::new(net.vip.ip(), 82);
        kernel.serve_as(own, WEB, &[net.endpoint()], 0, Frontend::HOST_ONLY);
        talk(&mut kernel, "opens", &net, TCP, flag::SYN);
        let sent = |to| Frame::tcp(net.client, to, flag::SYN);
        let known = || Frame::tcp(net.client, net.vip, flag::ACK);
        let mut last_hop = known().bytes();
        last_hop[if net.is_v6 { 21 } else { 22 }] = 1;
        for (shows, frame) in [
            ("the endpoint is here", sent(net.other_vip).bytes()),
            ("refused", sent(empty).bytes()),
            ("for the node's own", sent(own).bytes()),
            ("none of ours", sent(net.stranger).bytes()),
            ("a tag", known().tagged(&[0x8100]).bytes()),
            ("a piece", known().fragment(0, true).bytes()),
            ("the last hop", last_hop),
            ("too long", known().payload(&[1; 1_600]).bytes()),
            ("not IP", vec![2; 60]),
            ("SCTP", Frame::sctp(net.client, net.vip, 0).bytes()),
        ] {
            passes(&mut kernel, shows, &frame);
        }
    }
}

#[test]
fn a_flow_that_begins_in_the_stack_stays_there() {
    let Some(mut kernel) = load() else {
        return;
    };
    for net in both() {
        forget(net.endpoint().ip());
        let sent = |flags| Frame::tcp(net.client, net.vip, flags).bytes();
        passes(&mut kernel, "no neighbour", &sent(flag::SYN));
        learn(net.endpoint().ip(), ENDPOINT.0);
        passes(&mut kernel, "nor later", &sent(flag::ACK));
        // Another one may.
        talk(&mut kernel, "a new flow", &net, UDP, 0);
        forget(net.endpoint().ip());
        let datagram = Frame::udp(net.client, net.vip).bytes();
        passes(&mut kernel, "this packet alone", &datagram);
        learn(net.endpoint().ip(), ENDPOINT.0);
        talk(&mut kernel, "goes on", &net, UDP, 0);
    }
}

/// Any single packet may take the stack: one that is too long, or whose checksum looks as if a device had to complete it.
#[test]
fn packets_of_one_flow_may_take_either_way_in_any_order() {
    let Some(mut kernel) = load() else {
        return;
    };
    for net in both() {
        for proto in [TCP, UDP] {
            let node = talk(&mut kernel, "opens", &net, proto, flag::SYN);
            for _ in 0..3 {
                let sent = Frame::of(proto, net.client, net.vip, flag::ACK);
                let inside = sent.clone().to(net.endpoint());
                let left = inside.clone().from(node);
                kernel.check("in", Ingress, &sent, Becomes(&inside, Verdict::Dnat));
                kernel.check("out", Egress, &inside, Becomes(&left, Verdict::Snat));
                let answer = Frame::of(proto, net.endpoint(), node, flag::ACK);
                let inside = answer.clone().to(net.client);
                let told = inside.clone().from(net.vip);
                kernel.check("in", Ingress, &answer, Becomes(&inside, Verdict::Unsnat));
                kernel.check("out", Egress, &inside, Becomes(&told, Verdict::RevNat));
                assert_eq!(talk(&mut kernel, "by XDP", &net, proto, flag::ACK), node);
            }
        }
    }
}

/// The bytes of a packet whose checksum a device was to complete.
fn partial(frame: &Frame) -> Vec<u8> {
    let (l3, l4) = (frame.l3(), frame.l4());
    let mut bytes = frame.bytes();
    let addresses = match frame.src {
        SocketAddr::V4(_) => l3 + 12..l3 + 20,
        SocketAddr::V6(_) => l3 + 8..l3 + 40,
    };
    let length = u32::try_from(bytes.len() - l4).unwrap();
    let start = u32::from(frame.proto()) + length;
    let sum = bytes[addresses].chunks(2).fold(start, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], pair[1]]))
    });
    let [.., high, low] = ((sum & 0xffff) + (sum >> 16)).to_be_bytes();
    let field = l4 + if frame.proto() == TCP { 16 } else { 6 };
    bytes[field..field + 2].copy_from_slice(&[high, low]);
    bytes
}

#[test]
fn a_checksum_that_is_left_to_a_device_is_left_to_the_stack() {
    let Some(mut kernel) = load() else {
        return;
    };
    for net in both() {
        for proto in [TCP, UDP] {
            let sent = Frame::of(proto, net.neighbour, net.vip, flag::SYN);
            passes(&mut kernel, "a client's", &partial(&sent));
            assert_eq!(kernel.flows.get((net.neighbour, net.vip, proto)), None);

            let sent = Frame::of(proto, net.client, net.vip, flag::SYN);
            let (action, ..) = run(&mut kernel, &sent.bytes());
            assert_eq!(action, REDIRECT, "{}", net.name);
            let snat = (net.client, net.endpoint(), proto);
            let node = kernel.flows.get(snat).unwrap().peer;
            let answer = Frame::of(proto, net.endpoint(), node, flag::SYN | flag::ACK);
            passes(&mut kernel, "an endpoint's", &partial(&answer));
            talk(&mut kernel, "whole ones", &net, proto, flag::SYN);
            // From then on one that looks so by chance is sent on.
            let by_chance = Frame::of(proto, net.endpoint(), node, flag::ACK);
            let (action, ..) = run(&mut kernel, &partial(&by_chance));
            assert_eq!(action, REDIRECT, "{}", net.name);
        }
    }
}

#[test]
fn without_xdp_on_the_device_that_it_leaves_by_the_stack_sends_it() {
    let Some(mut kernel) = load_on(0, SMALL) else {
        return;
    };
    for net in both() {
        let sent = Frame::udp(net.client, net.vip).bytes();
        passes(&mut kernel, "nobody would take it", &sent);
    }
}
