//! Which endpoint a new flow gets.

use std::{collections::BTreeMap, net::SocketAddr};

use lb_common::{tables::Frontend, verdict::Verdict};

use crate::{
    kernel::{Dropped, Ingress, Kernel},
    packet::{Frame, Net, TCP, UDP, both, flag},
};

const WEB: u32 = 1;

/// How many of `flows` new flows each destination gets.
fn spread(kernel: &mut Kernel, net: &Net, proto: u8, flows: u16) -> BTreeMap<SocketAddr, u32> {
    let mut hits = BTreeMap::new();
    for port in 20_000..20_000 + flows {
        let client = SocketAddr::new(net.client.ip(), port);
        let sent = Frame::of(proto, client, net.vip, flag::SYN);
        let outcome = kernel.run(Ingress, &sent.bytes());
        assert_eq!(outcome.verdict, Some(Verdict::Dnat));
        let tuple = (client, net.vip, proto);
        let endpoint = kernel.flows.get(tuple).unwrap().peer;
        assert_eq!(outcome.bytes, sent.to(endpoint).bytes(), "{}", net.name);
        *hits.entry(endpoint).or_default() += 1;
    }
    hits
}

#[test]
fn new_flows_spread_over_all_endpoints_of_the_range_and_over_no_other() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        let [before, ours @ .., after] = &net.endpoints;
        kernel.serve(net.other_vip, 7, &[*before]);
        kernel.serve(net.vip, WEB, ours);
        kernel.serve(net.stranger, 8, &[*after]);
        for proto in [TCP, UDP] {
            let hits = spread(&mut kernel, &net, proto, 600);
            let endpoints: Vec<_> = hits.keys().copied().collect();
            assert_eq!(endpoints, ours, "{}", net.name);
            // 100 each; 5 standard deviations of that are 46.
            assert!(
                hits.values().all(|hits| (54..=146).contains(hits)),
                "{hits:?}"
            );
        }
    }
}

#[test]
fn a_range_of_one_slot_gets_every_flow() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &net.endpoints[..3]);
        kernel.serve(net.vip, WEB, &net.endpoints[3..4]);
        let hits = spread(&mut kernel, &net, TCP, 50);
        assert_eq!(hits, [(net.endpoints[3], 50)].into(), "{}", net.name);
    }
}

#[test]
fn the_same_tuple_finds_the_same_endpoint_again_when_its_flow_was_evicted() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &net.endpoints);
        for proto in [TCP, UDP] {
            for port in 1..50 {
                let client = SocketAddr::new(net.client.ip(), port);
                let sent = Frame::of(proto, client, net.vip, flag::ACK);
                let tuple = (client, net.vip, proto);
                kernel.run(Ingress, &sent.bytes());
                let endpoint = kernel.flows.get(tuple).unwrap().peer;
                kernel.flows.evict(tuple);
                kernel.pass("evicted", &sent, endpoint);
            }
        }
    }
}

#[test]
fn a_frontend_whose_slots_do_not_exist_drops_and_counts() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    let frontend = Frontend {
        slot_base: u32::MAX - 1,
        slot_count: 1,
        service: WEB,
        flags: 0,
        ..Frontend::default()
    };
    for net in both() {
        kernel.tables.put_frontend(net.vip, TCP, &frontend);
        let sent = Frame::tcp(net.client, net.vip, flag::SYN);
        kernel.check("no such slot", Ingress, &sent, Dropped(Verdict::BadSlot));
    }
}

#[test]
fn a_slot_whose_endpoint_has_gone_to_another_generation_drops_and_counts() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for net in both() {
        kernel.serve(net.vip, WEB, &[net.endpoint()]);
        kernel.tables.replace(WEB, net.endpoint(), net.endpoints[1]);
        let sent = Frame::tcp(net.client, net.vip, flag::SYN);
        kernel.check("another's", Ingress, &sent, Dropped(Verdict::BadSlot));
    }
}
