//! Random slices against the naive reference: which endpoints a service port knows and which it uses.
//!
//! Nodes, zones and policies matter to the desired state alone, so that no maps are needed here.

use std::{collections::BTreeSet, net::SocketAddr};

use duolb::{
    control::{
        desired::{DesiredEndpoint, List, find_desired},
        index::Index,
    },
    model::{
        Conditions, EndpointSlice, Hints, Node, NodeAddress, ObjectKey, Protocol, Service,
        ServicePort, SliceEndpoint, SlicePort, TrafficPolicy,
    },
    source::{Event, Kind},
};
use lb_common::{
    address::{Address, Family, V4},
    tables::{Endpoint, Frontend},
};
use proptest::{collection::vec, prelude::*, sample::select};

use crate::{NODE, meaning::WORDS, reference};

fn endpoint() -> impl Strategy<Value = SliceEndpoint> {
    let names = |names: [&'static str; 3]| {
        // Most have a hint, or topology would hardly ever apply.
        prop_oneof![
            1 => Just(Vec::new()),
            4 => vec(select(names.to_vec()).prop_map(str::to_owned), 1..3),
        ]
    };
    let node = prop::option::of(select(vec![NODE, "there"]).prop_map(str::to_owned));
    let conditions = prop_oneof![
        3 => Just((true, true, false)),
        2 => any::<(bool, bool, bool)>(),
    ];
    let hints = (
        names([NODE, "there", "beyond"]),
        names(["east", "west", "north"]),
    );
    (1..8u8, conditions, node, hints).prop_map(|(host, conditions, node, (nodes, zones))| {
        let (ready, serving, terminating) = conditions;
        SliceEndpoint {
            address: [10, 0, 0, host].into(),
            conditions: Conditions {
                ready,
                serving,
                terminating,
            },
            node,
            hints: Hints { nodes, zones },
        }
    })
}

fn slices() -> impl Strategy<Value = Vec<EndpointSlice>> {
    let ports = vec![("http", 8080), ("http", 8081), ("admin", 8080)];
    vec((vec(select(ports), 1..3), vec(endpoint(), 0..5)), 0..4).prop_map(|slices| {
        let slices = slices.into_iter().zip(0..);
        let slice = |((ports, endpoints), i): ((Vec<(&str, u16)>, _), i32)| EndpointSlice {
            key: ObjectKey::new("default", format!("web-{i}")),
            service: "web".into(),
            family: Family::V4,
            ports: ports
                .into_iter()
                .map(|(name, port)| SlicePort {
                    name: name.into(),
                    protocol: Protocol::Tcp,
                    port,
                })
                .collect(),
            endpoints,
            triggered: None,
        };
        slices.map(slice).collect()
    })
}

fn service() -> impl Strategy<Value = Service> {
    let policy = || select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let port = |name: &str, port| ServicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port,
        node_port: 0,
    };
    (policy(), policy(), 0..5u8).prop_map(move |(internal_policy, external_policy, outside)| {
        let mut service = Service {
            key: ObjectKey::new("default", "web"),
            ip_families: vec![Family::V4],
            cluster_ips: vec![[10, 96, 0, 1].into()],
            ports: vec![port("http", 80), port("admin", 81)],
            internal_policy,
            external_policy,
            ..Service::default()
        };
        match outside {
            0 => service.ports[1].node_port = 30080,
            1 => service.external_ips = vec![[203, 0, 113, 1].into()],
            2 => {
                service.load_balancer_ips = vec![[203, 0, 113, 2].into()];
                service.external_ips = vec![[203, 0, 113, 2].into()];
                service.source_ranges = vec!["192.168.0.0/16".parse().unwrap()];
            }
            // Of the other family: nothing of ours (rules 22 and 23).
            3 => service.load_balancer_ips = vec!["2001:db8::1".parse().unwrap()],
            _ => {}
        }
        service
    })
}

fn with(endpoints: &[DesiredEndpoint<V4>], state: u16) -> BTreeSet<SocketAddr> {
    let set = endpoints.iter().filter(|e| e.state & state != 0);
    set.map(|e| SocketAddr::new(e.addr.to_ip(), u16::from_be(e.port)))
        .collect()
}

fn words(flags: u32) -> Vec<&'static str> {
    let words = WORDS.iter().filter(|(flag, _)| flags & flag != 0);
    words.map(|(_, word)| *word).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn the_desired_state_is_what_the_rules_say_29_to_41(
        service in service(), slices in slices(), zone in prop::option::of(select(vec!["east", "west"])),
    ) {
        let mut index = Index::new(NODE);
        for slice in &slices {
            index.apply(Event::ApplySlice(slice.clone()));
        }
        index.apply(Event::ApplyService(service.clone()));
        let ip = |text: &str| NodeAddress { ip: text.parse().unwrap() };
        let addresses = ["127.0.0.1", "192.168.0.1", "169.254.1.1", "fd02::1"].map(ip);
        index.apply(Event::NodeAddresses(addresses.to_vec()));
        // Last, so that what was known before must be seen in another light.
        index.apply(Event::ApplyNode(Node {
            name: NODE.into(),
            zone: zone.map(str::to_owned),
            ..Node::default()
        }));
        for kind in Kind::ALL {
            index.apply(Event::InitDone(kind));
        }
        let desired = find_desired(&index, &service.key).unwrap().unwrap();
        let all: Vec<&EndpointSlice> = slices.iter().collect();
        let mut lacking = (false, false);
        for (port, desired) in service.ports.iter().zip(&desired.ports) {
            let family = desired.v4.as_ref().unwrap();
            prop_assert!(desired.v6.is_none());
            let lists = reference::lists(&service, port, Family::V4, &all, NODE, zone);
            let endpoints = &family.endpoints;
            prop_assert_eq!(with(endpoints, Endpoint::<V4>::KNOWN), lists.known);
            prop_assert_eq!(with(endpoints, Endpoint::<V4>::CLUSTER), lists.cluster.clone());
            prop_assert_eq!(with(endpoints, Endpoint::<V4>::LOCAL), lists.local.clone());
            prop_assert_eq!(with(endpoints, Endpoint::<V4>::HERE), lists.here);
            let usable = Endpoint::<V4>::CLUSTER | Endpoint::<V4>::LOCAL;
            let stay = with(endpoints, Endpoint::<V4>::SERVING);
            prop_assert!(with(endpoints, usable).is_subset(&stay));
            let in_order = endpoints.is_sorted_by_key(|e| (e.addr.to_ip(), u16::from_be(e.port)));
            prop_assert!(in_order);

            let is_local = service.internal_policy == TrafficPolicy::Local;
            let frontend = family.frontends[0];
            prop_assert_eq!(frontend.list, if is_local { List::Local } else { List::Cluster });
            let drop = is_local && lists.local.is_empty() && lists.has_any;
            prop_assert_eq!(frontend.drop, drop);
            let outside = reference::outside(&service, port, Family::V4, &addresses);
            let frontends = family.frontends[1..].iter().filter(|it| it.list != List::None);
            let found: Vec<_> = frontends
                .map(|it| (it.key.addr.to_ip(), u16::from_be(it.key.port), words(it.flags)))
                .collect();
            let sorted = |mut all: Vec<_>| {
                all.sort();
                all
            };
            prop_assert_eq!(sorted(found), sorted(outside));
            let external_is_local = service.external_policy == TrafficPolicy::Local;
            for frontend in family.frontends.iter().filter(|it| it.flags & Frontend::EXTERNAL != 0) {
                let list = if external_is_local { List::Split } else { List::Cluster };
                prop_assert_eq!(frontend.list, list);
                let drop = external_is_local && lists.local.is_empty() && lists.has_any;
                prop_assert_eq!(frontend.drop, drop);
                // Rule 100: what is dropped outside has somewhere to go inside.
                prop_assert!(!frontend.drop || !lists.cluster.is_empty());
            }
            let lacks = lists.has_any && lists.local.is_empty();
            lacking.0 |= lacks && is_local;
            let external = service.external_policy == TrafficPolicy::Local && lists.is_external;
            lacking.1 |= lacks && external;
        }
        prop_assert_eq!((desired.lacks_local.internal, desired.lacks_local.external), lacking);
        let marks = desired.ports.iter().flat_map(|port| &port.v4.as_ref().unwrap().frontends);
        prop_assert_eq!(marks.filter(|frontend| frontend.list == List::None).count(), 1);
    }
}
