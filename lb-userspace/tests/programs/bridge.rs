//! A client on a bridge and an endpoint on the same one: the frame is addressed to the endpoint's MAC.
//!
//! In a network namespace of the test thread's own, with a bridge that a test run's packets claim to come
//! in by; the routing table and the neighbours are the kernel's.

use std::net::SocketAddr;

use lb_common::{tables::Device, verdict::Verdict};

use crate::{
    kernel::{Ingress, Kernel, LOOPBACK},
    namespace::{enter, ip},
    packet::{Frame, Net, TCP, UDP, both, flag},
};

const WEB: u32 = 1;

/// The endpoint's MAC.
const MAC: &str = "02:00:00:00:00:21";
const MAC_BYTES: [u8; 6] = [2, 0, 0, 0, 0, 0x21];

/// Moves the thread to a new namespace with a bridge that routes for both families and has the MAC that
/// the tests' frames are sent to; loads the programs there and tells them that packets come in by it.
fn load_on_bridge() -> Option<Kernel> {
    let mut kernel = Kernel::load()?;
    let links = [
        "link set lo up",
        "link add br0 address 02:00:00:00:00:01 type bridge",
        "link add port type veth peer name far",
        "link set port master br0",
        "link set far up",
        "link set port up",
        "link set br0 up",
    ];
    let index = enter(&links, "br0");
    let device = Device {
        bridge: index,
        ..Device::default()
    };
    kernel.devices.put(LOOPBACK, &device).unwrap();
    Some(kernel)
}

fn learn(endpoint: SocketAddr) {
    ip(&format!(
        "neigh replace {} lladdr {MAC} dev br0 nud permanent",
        endpoint.ip()
    ));
}

/// The packet arrives at the endpoint, with its MAC or with the bridge's.
#[track_caller]
fn check(kernel: &mut Kernel, shows: &str, net: &Net, sent: &Frame, is_switched: bool) {
    let mut expected = sent.clone().to(net.endpoint()).bytes();
    if is_switched {
        expected[..6].copy_from_slice(&MAC_BYTES);
    }
    let outcome = kernel.run(Ingress, &sent.bytes());
    assert_eq!(outcome.verdict, Some(Verdict::Dnat), "{} {shows}", net.name);
    assert_eq!(outcome.bytes, expected, "{} {shows}", net.name);
}

#[test]
fn packets_for_an_endpoint_on_the_same_bridge_are_switched_to_it() {
    let Some(mut kernel) = load_on_bridge() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        learn(net.endpoint());
        for proto in [TCP, UDP] {
            for flags in [flag::SYN, flag::ACK, flag::FIN | flag::ACK] {
                let sent = Frame::of(proto, net.client, net.vip, flags);
                check(&mut kernel, "every packet", &net, &sent, true);
            }
        }
    }
}

#[test]
fn until_its_neighbour_is_known_an_endpoint_is_left_to_the_stack() {
    let Some(mut kernel) = load_on_bridge() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = |flags| Frame::tcp(net.client, net.vip, flags);
        check(&mut kernel, "the first", &net, &sent(flag::SYN), false);
        check(&mut kernel, "the second", &net, &sent(flag::SYN), false);
        learn(net.endpoint());
        check(&mut kernel, "known now", &net, &sent(flag::ACK), true);
        check(&mut kernel, "and stays so", &net, &sent(flag::ACK), true);
    }
}

#[test]
fn an_endpoint_elsewhere_is_routed() {
    let Some(mut kernel) = load_on_bridge() else {
        return;
    };
    for net in both() {
        let away: SocketAddr = if net.is_v6 {
            "[fd00:77::1]:80"
        } else {
            "10.77.0.1:80"
        }
        .parse()
        .unwrap();
        kernel.serve(net.vip, WEB, &[away]);
        for flags in [flag::SYN, flag::ACK] {
            kernel.pass("no route", &Frame::tcp(net.client, net.vip, flags), away);
        }
    }
}

#[test]
fn a_client_that_is_its_own_endpoint_is_routed() {
    let Some(mut kernel) = load_on_bridge() else {
        return;
    };
    for net in both() {
        let own = SocketAddr::new(net.client.ip(), 8_080);
        kernel.serve(net.vip, WEB, &[own]);
        learn(own);
        for flags in [flag::SYN, flag::ACK] {
            kernel.pass("hairpin", &Frame::tcp(net.client, net.vip, flags), own);
        }
    }
}
