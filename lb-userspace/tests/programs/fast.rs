//! Packets that skip the stack (`--host-routing=bpf`): translated and sent to another device, both ways or neither.
//!
//! In a namespace of its own, whose one device has routes to clients and endpoints; test runs claim to come in by the
//! loopback device.

use std::net::SocketAddr;

use duolb::datapath::object::Settings;
use lb_common::{tables::Device, verdict::Verdict};

use crate::{
    kernel::{Becomes, Egress, Ingress, Kernel, Outcome, REDIRECT, Untouched, settings},
    namespace::{enter, ip},
    packet::{Frame, Net, TCP, UDP, both, flag},
};

const WEB: u32 = 2;

fn load() -> Option<Kernel> {
    let fast = Settings {
        host_routing: true,
        ..settings()
    };
    let kernel = Kernel::load_with(&fast)?;
    let links = [
        "link set lo up",
        "link add up0 type veth peer name far",
        "link set far up",
        "link set up0 up",
    ];
    enter(&links, "up0");
    Some(kernel)
}

/// Who is on no network of the node's.
fn away(net: &Net) -> SocketAddr {
    let ip = if net.is_v6 {
        "[fd00:77::1]:80"
    } else {
        "10.77.0.1:80"
    };
    ip.parse().unwrap()
}

#[track_caller]
fn skips(kernel: &mut Kernel, shows: &str, before: &Frame, after: &Frame, verdict: Verdict) {
    let expected = Outcome {
        returned: REDIRECT,
        bytes: after.bytes(),
        verdict: Some(verdict),
    };
    assert_eq!(kernel.run(Ingress, &before.bytes()), expected, "{shows}");
}

#[test]
fn packets_of_a_flow_skip_the_stack_in_both_directions() {
    let Some(mut kernel) = load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        for proto in [TCP, UDP] {
            for flags in [flag::SYN, flag::ACK, flag::FIN] {
                let sent = Frame::of(proto, net.client, net.vip, flags);
                let delivered = sent.clone().to(net.endpoint());
                skips(&mut kernel, "there", &sent, &delivered, Verdict::Dnat);
                let answer = Frame::of(proto, net.endpoint(), net.client, flags | flag::ACK);
                let told = answer.clone().from(net.vip);
                skips(&mut kernel, "back", &answer, &told, Verdict::RevNat);
            }
        }
    }
}

#[test]
fn without_a_way_back_a_flow_goes_by_the_stack_both_ways() {
    let Some(mut kernel) = load() else {
        return;
    };
    for net in both() {
        let client = away(&net);
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = |flags| Frame::tcp(client, net.vip, flags);
        kernel.pass("there", &sent(flag::SYN), net.endpoint());
        // Not even when there is one later.
        let via = if net.is_v6 {
            "-6 route add fd00:77::/64"
        } else {
            "route add 10.77.0.0/16"
        };
        ip(&format!("{via} dev up0"));
        kernel.pass("there", &sent(flag::ACK), net.endpoint());
        let answer = Frame::tcp(net.endpoint(), client, flag::ACK);
        kernel.check("by the stack", Ingress, &answer, Untouched);
        let told = answer.clone().from(net.vip);
        kernel.check("back", Egress, &answer, Becomes(&told, Verdict::RevNat));
    }
}

#[test]
fn who_needs_another_address_goes_by_the_stack() {
    let Some(mut kernel) = load() else {
        return;
    };
    kernel.set_device(Device::UPLINK, both().map(|net| net.router));
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = Frame::tcp(net.client, net.vip, flag::SYN);
        kernel.pass("SNAT", &sent, net.endpoint());
    }
}

#[test]
fn a_reply_entry_that_the_table_lost_skips_the_stack_again() {
    let Some(mut kernel) = load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        let sent = Frame::udp(net.client, net.vip);
        let delivered = sent.clone().to(net.endpoint());
        skips(&mut kernel, "opens", &sent, &delivered, Verdict::Dnat);
        kernel.flows.evict((net.endpoint(), net.client, UDP));
        kernel.flows.age((net.client, net.vip, UDP), 1);
        skips(&mut kernel, "makes it", &sent, &delivered, Verdict::Dnat);
        let answer = Frame::udp(net.endpoint(), net.client);
        let told = answer.clone().from(net.vip);
        skips(&mut kernel, "back", &answer, &told, Verdict::RevNat);
    }
}
