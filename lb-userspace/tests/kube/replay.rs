//! Any order in which events of different kinds arrive, and any pause between them, ends in the same maps.

use duolb::{
    model::{
        Conditions, EndpointSlice, Hints, IpFamilyPolicy, Node, ObjectKey, Protocol, Service,
        ServiceCidr, ServicePort, SliceEndpoint, SlicePort,
    },
    source::{Event, Kind},
};
use lb_common::address::Family;
use proptest::prelude::*;

use crate::{
    agent::{control_plane, settle},
    meaning::Meaning,
    objects::NODE,
};

/// The history of one kind, in the order in which its watch tells it.
type History = Vec<Event>;

fn services() -> impl Strategy<Value = History> {
    let step = (0..3u8, 0..4u16).prop_map(|(number, port)| {
        let key = ObjectKey::new("default", format!("s{number}"));
        if port == 0 {
            return Event::DeleteService(key);
        }
        Event::ApplyService(Service {
            key,
            ip_family_policy: Some(IpFamilyPolicy::SingleStack),
            ip_families: vec![Family::V4],
            // Addresses do not move: which of two claims is newer does depend on the order (rule 90).
            cluster_ips: vec![[10, 96, 0, number].into()],
            ports: vec![ServicePort {
                name: "http".to_owned(),
                protocol: Protocol::Tcp,
                port: 80 + port,
                node_port: 0,
            }],
            ..Service::default()
        })
    });
    prop::collection::vec(step, 0..8)
}

fn slices() -> impl Strategy<Value = History> {
    let endpoint = (
        1..6u8,
        prop::bool::weighted(0.8),
        prop::sample::select(vec![0, 1, 1, 2, 2, 2u8]),
    );
    let endpoint = endpoint.prop_map(|(host, ready, zone)| SliceEndpoint {
        address: [10, 0, 0, host].into(),
        conditions: Conditions {
            ready,
            serving: true,
            terminating: !ready,
        },
        node: Some(NODE.to_owned()),
        hints: Hints {
            nodes: Vec::new(),
            zones: (zone > 0)
                .then(|| format!("zone-{zone}"))
                .into_iter()
                .collect(),
        },
    });
    let step = (
        0..5u8,
        0..4u8,
        prop::option::of(prop::collection::vec(endpoint, 0..4)),
    );
    let step = step.prop_map(|(number, service, endpoints)| {
        let key = ObjectKey::new("default", format!("slice-{number}"));
        let Some(endpoints) = endpoints else {
            return Event::DeleteSlice(key);
        };
        Event::ApplySlice(EndpointSlice {
            key,
            service: format!("s{service}"),
            family: Family::V4,
            ports: vec![SlicePort {
                name: "http".to_owned(),
                protocol: Protocol::Tcp,
                port: 8080,
            }],
            endpoints,
            triggered: None,
        })
    });
    prop::collection::vec(step, 0..10)
}

fn nodes() -> impl Strategy<Value = History> {
    let step = prop::option::weighted(0.8, 1..3u8).prop_map(|zone| match zone {
        None => Event::DeleteNode(NODE.to_owned()),
        Some(zone) => Event::ApplyNode(Node {
            name: NODE.to_owned(),
            zone: Some(format!("zone-{zone}")),
            ..Node::default()
        }),
    });
    prop::collection::vec(step, 0..10)
}

fn service_cidrs() -> impl Strategy<Value = History> {
    let step = (0..2u8, any::<bool>()).prop_map(|(number, exists)| {
        let name = format!("cidr-{number}");
        if !exists {
            return Event::DeleteServiceCidr(name);
        }
        Event::ApplyServiceCidr(ServiceCidr {
            name,
            cidrs: vec![
                format!("10.{}.0.0/16", 96 + number)
                    .parse()
                    .expect("a range"),
            ],
        })
    });
    prop::collection::vec(step, 0..4)
}

/// All histories as one, in an order that `random` says; where each kind's first `listed` events are, it is
/// listed.
fn interleave(histories: &[History; 4], listed: [usize; 4], random: &[u8]) -> Vec<Event> {
    let mut queues: Vec<Vec<Event>> = Vec::new();
    for ((history, listed), kind) in histories.iter().zip(listed).zip(Kind::ALL) {
        let listed = listed.min(history.len());
        let mut queue = vec![Event::Init(kind)];
        queue.extend(history[..listed].iter().cloned());
        queue.push(Event::InitDone(kind));
        queue.extend(history[listed..].iter().cloned());
        queue.reverse();
        queues.push(queue);
    }
    let mut random = random.iter().cycle();
    let mut events = Vec::new();
    while !queues.is_empty() {
        let choice = usize::from(*random.next().expect("it is not empty")) % queues.len();
        events.extend(queues[choice].pop());
        if queues[choice].is_empty() {
            queues.remove(choice);
        }
    }
    events
}

/// What the maps say after `events`, with a plan after each that `plans` is true for.
fn play(events: Vec<Event>, plans: &[bool]) -> Meaning {
    let mut reconciler = control_plane(NODE);
    for (event, plan) in events.into_iter().zip(plans.iter().cycle()) {
        reconciler.handle(event);
        if *plan {
            settle(&mut reconciler);
        }
    }
    settle(&mut reconciler);
    Meaning::of(reconciler.maps())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_that_ends_in_the_same_objects_ends_in_the_same_maps(
        histories in (services(), slices(), nodes(), service_cidrs()),
        listed in any::<[(u8, u8); 4]>(),
        random in prop::collection::vec(any::<u8>(), 64),
        plans in prop::collection::vec(any::<bool>(), 1..16),
    ) {
        let histories = [histories.0, histories.1, histories.2, histories.3];
        let some = listed.map(|(some, _)| usize::from(some % 4));
        let others = listed.map(|(_, others)| usize::from(others % 4));
        let one = interleave(&histories, some, &random);
        // All kinds one after another, listed as they are in the end.
        let other = interleave(&histories, others, &[0]);
        prop_assert_eq!(play(one, &plans), play(other, &[false]));
    }
}
