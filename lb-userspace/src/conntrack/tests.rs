//! Flows joined, over, filtered, counted; and how large their table is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use lb_common::{
    address::{Address as _, V4},
    flow::{
        Flow, FlowKey,
        state::{DEFAULT_TIMEOUTS, State, Timeouts},
    },
};
use proptest::prelude::*;

use super::{
    filter::{Filter, Socket},
    kin::{Entry, assemble, is_forward},
    sizing::{Machine, flow_entries},
    top::Counts,
    view::FlowView,
};
use crate::config::ConnectionLimit;

type Table = BTreeMap<FlowKey<V4>, Flow<V4>>;

const NOW: u32 = 1_000_000;
const TICKS: Timeouts = DEFAULT_TIMEOUTS.in_ticks(250);

fn at(text: &str) -> (V4, u16) {
    let socket: SocketAddr = text.parse().unwrap();
    (V4::from_ip(socket.ip()).unwrap(), socket.port().to_be())
}

/// A TCP connection with SNAT, as the programs make it: all four entries.
fn with_snat(client: &str, flags: u16) -> [Entry<V4>; 4] {
    let ((client, sport), (vip, dport)) = (at(client), at("10.96.0.1:80"));
    let ((endpoint, ep), (node, np)) = (at("10.244.1.2:8080"), at("172.18.0.2:12345"));
    let key = FlowKey {
        src: client,
        dst: vip,
        sport,
        dport,
        proto: 6,
    };
    let forward = Flow {
        peer: endpoint,
        peer_port: ep,
        client_port: sport,
        traffic: 4,
        endpoint: 1,
        seen: NOW,
        mac: [0; 3],
        flags: flags | Flow::<V4>::MASQUERADED,
    };
    let (reply_key, reply) = (forward.reply_key(&key), forward.reply_entry(&key));
    let snat_key = reply_key.reversed();
    let snat = Flow {
        peer: node,
        peer_port: np,
        client_port: ep,
        traffic: Flow::<V4>::NO_SERVICE,
        endpoint: 0,
        flags: flags | Flow::<V4>::SNAT,
        ..forward
    };
    let (undo_key, undo) = (snat.undo_key(&snat_key), snat.undo_entry(&snat_key));
    [
        (key, forward),
        (reply_key, reply),
        (snat_key, snat),
        (undo_key, undo),
    ]
}

const CLIENT: &str = "192.0.2.7:40000";
const OPENED: u16 = Flow::<V4>::OPENED;

#[test]
fn from_each_of_its_entries_all_of_a_flow_is_found() {
    let all = with_snat(CLIENT, OPENED);
    let table = Table::from(all);
    for entry in all {
        let kin = assemble(entry, |key| table.get(key).copied());
        assert_eq!(kin.entries().count(), 4, "{entry:?}");
        assert_eq!(kin.forward, Some(all[0]));
        assert_eq!(kin.undo, Some(all[3]));
        assert_eq!(
            kin.entries().last(),
            Some(&all[0]),
            "the forward entry goes last"
        );
        let view = FlowView::of(&kin, NOW, &TICKS).unwrap();
        assert_eq!(view.client, CLIENT.parse().unwrap());
        assert_eq!(view.vip, "10.96.0.1:80".parse().ok());
        assert_eq!(view.endpoint, "10.244.1.2:8080".parse().unwrap());
        assert_eq!(view.snat, "172.18.0.2:12345".parse().ok());
        assert_eq!((view.moved_port, view.traffic), (None, Some(4)));
        assert_eq!(view.state, State::Established);
        assert!(!view.is_orphan);
    }
}

#[test]
fn what_is_left_of_a_flow_is_told_once_whatever_was_evicted() {
    let all = with_snat(CLIENT, OPENED);
    for left in 1u32..16 {
        let is_left = |at: usize| left & 1 << at != 0;
        let table: Table = (0..4).filter(|at| is_left(*at)).map(|at| all[at]).collect();
        let told = table.iter().filter(|(key, flow)| {
            let kin = assemble((**key, **flow), |key| table.get(key).copied());
            is_forward(flow) || kin.is_orphaned_by(key)
        });
        // An undo entry alone with the forward one has no way to find it: both are told.
        let expected = if left & 0b0011 == 0b0001 && left & 0b0100 == 0 && left & 0b1000 != 0 {
            2
        } else if left & 0b0011 == 0b0001 && left & 0b0100 != 0 {
            // Without the reply entry, an SNAT entry does not know its VIP.
            2
        } else {
            1
        };
        assert_eq!(told.count(), expected, "{left:04b}");
    }
}

#[test]
fn entries_of_another_flow_by_the_same_tuple_are_passed_over() {
    let all = with_snat(CLIENT, OPENED);
    let mut table = Table::from(all);
    let (reply_key, mut reply) = all[1];
    // Another VIP's flow has taken the reply tuple meanwhile.
    reply.peer = at("10.96.0.9:80").0;
    table.insert(reply_key, reply);
    let kin = assemble(all[0], |key| table.get(key).copied());
    assert_eq!(kin.reply, None);
    let kin = assemble((reply_key, reply), |key| table.get(key).copied());
    assert_eq!(kin.forward, None);
}

#[test]
fn a_flow_is_over_when_all_its_entries_are() {
    let day = TICKS.of(State::Established);
    let over = |ages: [u32; 4], flags: u16| {
        let mut all = with_snat(CLIENT, flags);
        for ((_, flow), age) in all.iter_mut().zip(ages) {
            flow.seen = NOW.wrapping_sub(age);
        }
        let table = Table::from(all);
        let kin = assemble(all[0], |key| table.get(key).copied());
        kin.is_over(NOW, &TICKS)
    };
    let old = day + 1;
    assert!(over([old; 4], OPENED));
    assert!(!over([day; 4], OPENED));
    for young in 0..4 {
        let mut ages = [old; 4];
        ages[young] = day;
        assert!(!over(ages, OPENED), "entry {young} was used");
    }
    assert!(over([130; 4], 0), "nobody answered the SYN");
    assert!(!over([130; 4], OPENED));
    let closed = OPENED | Flow::<V4>::FIN_CLIENT | Flow::<V4>::FIN_ENDPOINT;
    assert!(over([130; 4], closed));
    assert!(!over([130; 4], OPENED | Flow::<V4>::FIN_CLIENT));
    // Two CPUs read the clock on either side of a tick.
    assert!(!over([1u32.wrapping_neg(); 4], OPENED));
}

fn view(client: &str, traffic: Option<u32>) -> FlowView {
    let all = with_snat(client, OPENED);
    let table = Table::from(all);
    let kin = assemble(all[0], |key| table.get(key).copied());
    FlowView {
        traffic,
        ..FlowView::of(&kin, NOW, &TICKS).unwrap()
    }
}

#[test]
fn a_filter_admits_what_agrees_with_all_that_is_said() {
    let flow = view(CLIENT, Some(4));
    let socket = |text: &str| Some(text.parse::<Socket>().unwrap());
    let none = Filter::default;
    let cases = [
        (none(), true),
        (
            Filter {
                client: "192.0.2.0/24".parse().ok(),
                ..none()
            },
            true,
        ),
        (
            Filter {
                client: "192.0.3.0/24".parse().ok(),
                ..none()
            },
            false,
        ),
        (
            Filter {
                vip: socket("10.96.0.1"),
                ..none()
            },
            true,
        ),
        (
            Filter {
                vip: socket("10.96.0.1:80"),
                ..none()
            },
            true,
        ),
        (
            Filter {
                vip: socket("10.96.0.1:81"),
                ..none()
            },
            false,
        ),
        (
            Filter {
                vip: socket("10.244.1.2"),
                ..none()
            },
            false,
        ),
        (
            Filter {
                endpoint: socket("10.244.1.2:8080"),
                ..none()
            },
            true,
        ),
        (
            Filter {
                endpoint: socket("10.244.1.3"),
                ..none()
            },
            false,
        ),
        (
            Filter {
                protocol: Some(6),
                ..none()
            },
            true,
        ),
        (
            Filter {
                protocol: Some(17),
                ..none()
            },
            false,
        ),
        (
            Filter {
                state: Some(State::Established),
                ..none()
            },
            true,
        ),
        (
            Filter {
                state: Some(State::Closed),
                ..none()
            },
            false,
        ),
        (
            Filter {
                service: Some(BTreeSet::from([4, 5])),
                ..none()
            },
            true,
        ),
        (
            Filter {
                service: Some(BTreeSet::from([6])),
                ..none()
            },
            false,
        ),
        (
            Filter {
                client: "192.0.2.7/32".parse().ok(),
                state: Some(State::Closed),
                ..none()
            },
            false,
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(filter.admits(&flow), expected, "{filter:?}");
    }
    let of_nobody = view(CLIENT, None);
    let service = Some(BTreeSet::from([4]));
    assert!(!Filter { service, ..none() }.admits(&of_nobody));
    assert!(none().is_empty() && "10.96.0.1:x".parse::<Socket>().is_err());
}

#[test]
fn the_top_begins_with_most_and_is_in_order() {
    let mut counts = Counts::default();
    for (key, count) in [("b", 2), ("a", 2), ("c", 5), ("d", 1)] {
        (0..count).for_each(|_| counts.add(key));
    }
    assert_eq!(counts.clone().top(3), [("c", 5), ("a", 2), ("b", 2)]);
    assert_eq!(counts.top(9).len(), 4);
}

#[test]
fn the_flow_table_is_kube_proxys_connections_twice_as_far_as_memory_goes() {
    const GIB: u64 = 1 << 30;
    let default = ConnectionLimit {
        per_core: 32_768,
        min: 131_072,
    };
    let machine = |cores, gib: u64, limit| Machine {
        cores,
        memory: Some(gib * GIB),
        limit,
    };
    for (limit, machine, expected) in [
        (default, machine(2, 24, None), 262_144),
        (default, machine(8, 64, None), 524_288),
        (default, machine(128, 512, None), 2_097_152),
        // A small node; a small share of a large one.
        (default, machine(2, 1, None), 116_508),
        (default, machine(8, 64, Some(GIB / 4)), 233_016),
        (default, machine(1, 0, None), 16_384),
        (
            ConnectionLimit {
                per_core: 0,
                min: 0,
            },
            machine(8, 64, None),
            16_384,
        ),
        (
            ConnectionLimit {
                per_core: 0,
                min: 300_000,
            },
            machine(8, 64, None),
            600_000,
        ),
    ] {
        assert_eq!(
            flow_entries(limit, machine),
            expected,
            "{limit:?} {machine:?}"
        );
    }
}

proptest! {
    #[test]
    fn a_flow_is_over_just_when_nothing_is_left_of_its_time(ages in prop::array::uniform4(0u32..200_000), flags in any::<u16>()) {
        let mut all = with_snat(CLIENT, flags & lb_common::flow::state::STATE_FLAGS);
        for ((_, flow), age) in all.iter_mut().zip(ages) {
            flow.seen = NOW.wrapping_sub(age);
        }
        let table = Table::from(all);
        let kin = assemble(all[0], |key| table.get(key).copied());
        if kin.is_over(NOW, &TICKS) {
            prop_assert_eq!(kin.remaining(NOW, &TICKS), 0);
        }
        prop_assert_eq!(kin.idle(NOW), *ages.iter().min().unwrap());
    }
}
