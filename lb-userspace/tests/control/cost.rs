//! What a change costs, counted in calls to the maps.

use std::time::Instant;

use duolb::{
    control::{
        maps::fake::{Calls, FakeMaps},
        reconcile::Reconciler,
    },
    model::{
        Conditions, EndpointSlice, NodeAddress, ObjectKey, Protocol, Service, ServiceKind,
        ServicePort, SliceEndpoint, SlicePort,
    },
    source::Event,
};
use lb_common::address::Family;

use crate::world::list;

pub(crate) fn service(i: u16) -> Service {
    let [high, low] = i.to_be_bytes();
    Service {
        key: ObjectKey::new("default", format!("s{i}")),
        kind: ServiceKind::ClusterIp,
        ip_family_policy: None,
        ip_families: vec![Family::V4],
        cluster_ips: vec![[10, 96, high, low].into()],
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 0,
        }],
        ..Service::default()
    }
}

pub(crate) fn slice(i: u16, endpoints: u8) -> EndpointSlice {
    let [high, low] = i.to_be_bytes();
    let address = |host| [10, high, low, host].into();
    let conditions = Conditions::default();
    EndpointSlice {
        key: ObjectKey::new("default", format!("s{i}-1")),
        service: format!("s{i}"),
        family: Family::V4,
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: (0..endpoints)
            .map(|host| SliceEndpoint {
                address: address(host),
                conditions,
                node: None,
                hints: duolb::model::Hints::default(),
            })
            .collect(),
        triggered: None,
    }
}

fn agent_with(services: u16, endpoints: u8) -> Reconciler<FakeMaps> {
    let mut agent = Reconciler::new(FakeMaps::new(20_000, 40_000, 2_000_000), crate::NODE);
    let objects = (0..services).flat_map(|i| {
        [
            Event::ApplyService(service(i)),
            Event::ApplySlice(slice(i, endpoints)),
        ]
    });
    list(&mut agent, objects.collect());
    assert_eq!(agent.sync(Instant::now()).problems, []);
    agent
}

#[test]
fn one_changed_endpoint_costs_the_same_among_ten_and_among_ten_thousand_services() {
    let cost = |services| {
        let mut agent = agent_with(services, 3);
        agent.maps_mut().take_calls();
        agent.handle(Event::ApplySlice(slice(7, 4)));
        agent.sync(Instant::now());
        agent.maps_mut().take_calls()
    };
    let expected = Calls {
        put_endpoints: 1,
        endpoints: 1,
        write_slots: 1,
        slots: 4,
        put_frontend: 1,
        ..Calls::default()
    };
    assert_eq!(cost(10), expected);
    assert_eq!(cost(10_000), expected);
}

#[test]
fn a_slice_whose_endpoints_are_all_replaced_costs_four_calls_however_many_ports_and_services() {
    let with_ports = |i: u16, endpoints: std::ops::Range<u8>| {
        let mut of = (service(i), slice(i, 0));
        for (name, port) in [("http", 80), ("admin", 81), ("metrics", 82)] {
            if name != "http" {
                of.0.ports.push(ServicePort {
                    name: name.into(),
                    port,
                    ..of.0.ports[0].clone()
                });
                of.1.ports.push(SlicePort {
                    name: name.into(),
                    port: port + 8000,
                    ..of.1.ports[0].clone()
                });
            }
        }
        of.1.endpoints = slice(i, endpoints.end).endpoints[usize::from(endpoints.start)..].to_vec();
        of
    };
    let cost = |services| {
        let mut agent = agent_with(services, 3);
        let (service, slice) = with_ports(7, 0..50);
        agent.handle(Event::ApplyService(service));
        agent.handle(Event::ApplySlice(slice));
        agent.sync(Instant::now());
        // Slots that are not side by side any more.
        agent.handle(Event::ApplySlice(with_ports(7, 0..60).1));
        agent.sync(Instant::now());
        agent.maps_mut().take_calls();
        agent.handle(Event::ApplySlice(with_ports(7, 60..110).1));
        agent.sync(Instant::now());
        agent.maps_mut().take_calls()
    };
    let expected = Calls {
        put_endpoints: 2,
        endpoints: 3 * (50 + 60),
        write_slots: 1,
        slots: 3 * 50,
        put_frontend: 1,
        ..Calls::default()
    };
    assert_eq!(cost(10), expected);
    assert_eq!(cost(10_000), expected);
}

#[test]
fn a_changed_address_of_the_node_costs_in_proportion_to_node_ports_and_a_changed_endpoint_what_it_ever_did()
 {
    let address = |last| NodeAddress {
        ip: [192, 168, 0, last].into(),
    };
    let cost = |services| {
        let mut agent = agent_with(services, 3);
        agent.handle(Event::NodeAddresses(vec![address(1)]));
        for i in 0..5 {
            let mut service = service(i);
            service.kind = ServiceKind::NodePort;
            service.ports[0].node_port = 30_000 + i;
            agent.handle(Event::ApplyService(service));
        }
        agent.sync(Instant::now());
        let mut costs = Vec::new();
        for event in [
            Event::NodeAddresses(vec![address(1), address(2)]),
            Event::NodeAddresses(vec![address(2)]),
            Event::NodeAddresses(vec![address(2)]),
            Event::ApplySlice(slice(3, 4)),
        ] {
            agent.maps_mut().take_calls();
            agent.handle(event);
            let ops = agent.sync(Instant::now()).ops;
            costs.push((ops, agent.maps_mut().take_calls()));
        }
        costs
    };
    let few = cost(10);
    let puts = Calls {
        put_frontend: 1,
        ..Calls::default()
    };
    let removals = Calls {
        remove_frontend: 5,
        ..Calls::default()
    };
    let endpoint = Calls {
        put_endpoints: 1,
        endpoints: 1,
        write_slots: 1,
        slots: 4,
        put_frontend: 1,
        ..Calls::default()
    };
    assert_eq!(few[..3], [(5, puts), (5, removals), (0, Calls::default())]);
    // The cluster IP, the node port on its address and on loopback.
    assert_eq!(few[3], (2 + 3, endpoint));
    assert_eq!(cost(10_000), few);
}

#[test]
fn a_cold_start_goes_out_in_few_large_calls() {
    let mut agent = agent_with(10_000, 3);
    let calls = agent.maps_mut().take_calls();
    assert_eq!(calls.slots, 30_000, "each slot is written once");
    assert!(calls.total() < 30, "{calls:?}");
}

#[test]
fn an_event_that_changes_nothing_costs_nothing() {
    let mut agent = agent_with(10, 3);
    agent.maps_mut().take_calls();
    agent.handle(Event::ApplyService(service(7)));
    agent.handle(Event::ApplySlice(slice(7, 3)));
    // A condition that changes no list of endpoints.
    let mut unready = slice(7, 3);
    unready.endpoints[0].conditions.serving = false;
    agent.handle(Event::ApplySlice(unready));
    assert_eq!(agent.sync(Instant::now()).ops, 0);
    assert_eq!(agent.maps().calls, Calls::default());
}
