//! Objects that come, change and go, with plans in between wherever the bytes say so: in the end the maps mean what
//! they mean to an agent that has never known anything else, and another agent finds nothing to write.
//!
//! Every [`STEP`] bytes are a step.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use duolb::{
    control::{
        maps::fake::{FakeFamily, FakeMaps},
        reconcile::Reconciler,
    },
    model::{
        Conditions, EndpointSlice, Hints, IpFamilyPolicy, NodeAddress, ObjectKey, Protocol,
        Service, ServiceKind, ServicePort, SliceEndpoint, SlicePort, TrafficPolicy,
    },
    source::{Event, Kind},
};
use lb_common::{
    address::{Address, Family},
    tables::endpoint_index,
};

/// Bytes of a step.
pub const STEP: usize = 5;

const NODE: &str = "here";

type Agent = Reconciler<FakeMaps>;

pub fn run(data: &[u8]) {
    let mut now = Instant::now();
    let mut world = BTreeMap::new();
    let mut agent = listed(Agent::new(maps(), NODE), &world, &mut now);
    for step in data.chunks_exact(STEP).take(60) {
        match step[0] % 8 {
            0..=2 => apply(&mut agent, &mut world, Event::ApplyService(service(step))),
            3..=5 => apply(&mut agent, &mut world, Event::ApplySlice(slice(step))),
            6 => {
                let names: Vec<_> = world.keys().cloned().collect();
                if let Some(name) = names.get(usize::from(step[1]) % names.len().max(1)) {
                    let event = match world.remove(name) {
                        Some(Event::ApplyService(it)) => Event::DeleteService(it.key),
                        Some(Event::ApplySlice(it)) => Event::DeleteSlice(it.key),
                        other => panic!("{other:?}"),
                    };
                    agent.handle(event);
                }
            }
            _ => settle(&mut agent, &mut now),
        }
    }
    settle(&mut agent, &mut now);
    let fresh = listed(Agent::new(maps(), NODE), &world, &mut now);
    assert_eq!(meaning(agent.maps()), meaning(fresh.maps()));
    let mut maps = agent.into_maps();
    let before = maps.take_calls();
    let mut next = listed(Agent::new(maps, NODE), &world, &mut now);
    let after = next.maps_mut().take_calls();
    assert_eq!(
        after.total(),
        0,
        "after {before:?} there is nothing to write"
    );
}

fn maps() -> FakeMaps {
    FakeMaps::new(128, 256, 1_024)
}

fn apply(agent: &mut Agent, world: &mut BTreeMap<String, Event>, event: Event) {
    let key = match &event {
        Event::ApplyService(it) => &it.key,
        Event::ApplySlice(it) => &it.key,
        other => panic!("{other:?}"),
    };
    world.insert(key.to_string(), event.clone());
    agent.handle(event);
}

/// An agent that has listed all there is.
fn listed(mut agent: Agent, world: &BTreeMap<String, Event>, now: &mut Instant) -> Agent {
    let addresses = ["192.168.0.1", "fd02::1"].map(|ip| NodeAddress {
        ip: ip.parse().expect("an address"),
    });
    agent.handle(Event::NodeAddresses(addresses.into()));
    let events = Kind::ALL.map(Event::Init).into_iter();
    let events = events.chain(world.values().cloned());
    for event in events.chain(Kind::ALL.map(Event::InitDone)) {
        agent.handle(event);
    }
    settle(&mut agent, now);
    agent
}

fn settle(agent: &mut Agent, now: &mut Instant) {
    for _ in 0..1_000 {
        let report = agent.sync(*now);
        assert_eq!(report.problems, [], "there is room, and nothing is wrong");
        match report.next_retry {
            Some(at) if at < *now + Duration::from_secs(1) => *now = at,
            _ => return,
        }
    }
    panic!("it does not come to rest");
}

fn service(step: &[u8]) -> Service {
    let [_, number, addresses, ports, policy] = *step else {
        panic!("a step has {STEP} bytes");
    };
    let number = number % 6;
    // One of two addresses that no other Service has.
    let vip = 1 + 2 * number + addresses % 2;
    let both: [IpAddr; 2] = [
        [10, 96, 0, vip].into(),
        [0xfd00, 0, 0, 0, 0, 0, 0, vip.into()].into(),
    ];
    let is_served = addresses & 0b1_1100 != 0;
    let cluster_ips: Vec<IpAddr> = match (addresses >> 5) & 3 {
        _ if !is_served => vec![],
        0 => vec![both[0]],
        1 => vec![both[1]],
        _ => both.into(),
    };
    let is_local = |bit| match policy & bit {
        0 => TrafficPolicy::Cluster,
        _ => TrafficPolicy::Local,
    };
    let is_external = is_served && addresses & 128 != 0;
    let all = [
        ("http", Protocol::Tcp, 80),
        ("web", Protocol::Tcp, 81),
        ("dns", Protocol::Udp, 80),
    ];
    let chosen = all
        .iter()
        .zip(0u16..)
        .filter(|(_, bit)| ports >> bit & 1 != 0);
    Service {
        key: ObjectKey::new("default", format!("s{number}")),
        kind: match (is_served, is_external) {
            (false, _) => ServiceKind::Headless,
            (true, false) => ServiceKind::ClusterIp,
            (true, true) => ServiceKind::LoadBalancer,
        },
        ip_family_policy: Some(IpFamilyPolicy::PreferDualStack),
        ip_families: cluster_ips.iter().map(Family::of).collect(),
        cluster_ips,
        ports: chosen
            .map(|((name, protocol, port), bit)| ServicePort {
                name: (*name).into(),
                protocol: *protocol,
                port: *port,
                node_port: if is_external {
                    30_000 + 10 * u16::from(number) + bit
                } else {
                    0
                },
            })
            .collect(),
        internal_policy: is_local(1),
        external_policy: if is_external {
            is_local(2)
        } else {
            TrafficPolicy::Cluster
        },
        affinity: (policy & 4 != 0).then_some(u32::from(policy)),
        external_ips: vec![],
        load_balancer_ips: match is_external {
            true => vec![[203, 0, 113, 1 + number].into()],
            false => vec![],
        },
        source_ranges: match policy & 8 {
            0 => vec![],
            _ => vec!["10.0.0.0/8".parse().expect("a network")],
        },
        health_check_node_port: None,
    }
}

fn slice(step: &[u8]) -> EndpointSlice {
    let [_, number, ports, hosts, conditions] = *step else {
        panic!("a step has {STEP} bytes");
    };
    let is_v6 = number & 1 != 0;
    let port = |name: &str, protocol, port| SlicePort {
        name: name.into(),
        protocol,
        port,
    };
    let all = [
        port("http", Protocol::Tcp, 8_080),
        port("web", Protocol::Tcp, 8_081),
        port("dns", Protocol::Udp, 8_080),
    ];
    let chosen = all
        .into_iter()
        .zip(0..)
        .filter(|(_, bit)| ports >> bit & 1 != 0);
    EndpointSlice {
        key: ObjectKey::new("default", format!("slice-{}-{}", number % 8, ports >> 6)),
        service: format!("s{}", (number >> 1) % 6),
        family: if is_v6 { Family::V6 } else { Family::V4 },
        ports: chosen.map(|(port, _)| port).collect(),
        endpoints: (1..=8u8)
            .filter(|host| hosts >> (host - 1) & 1 != 0)
            .map(|host| SliceEndpoint {
                address: match is_v6 {
                    true => [0xfd01, 0, 0, 0, 0, 0, 0, host.into()].into(),
                    false => [10, 0, 0, host].into(),
                },
                conditions: Conditions {
                    ready: conditions.rotate_left(host.into()) & 1 == 0,
                    serving: conditions.rotate_left(host.into()) & 2 == 0,
                    terminating: conditions.rotate_left(host.into()) & 4 != 0,
                },
                node: (host % 2 == 0).then(|| NODE.to_owned()),
                hints: Hints::default(),
            })
            .collect(),
        triggered: None,
    }
}

/// What maps mean, whatever ids and slots they say it with: a line for each frontend and record, sorted.
fn meaning(maps: &FakeMaps) -> Vec<String> {
    let name = |id: u32| {
        let record = &maps.services[&id];
        format!("{record:?}")
    };
    let mut lines: Vec<String> = maps.services.keys().map(|id| name(*id)).collect();
    lines.extend(of_family(&maps.v4, &name));
    lines.extend(of_family(&maps.v6, &name));
    lines.sort_unstable();
    lines
}

fn of_family<A: Address>(maps: &FakeFamily<A>, name: &impl Fn(u32) -> String) -> Vec<String> {
    let list = |base: u32, count: u32| {
        let ids = (base..base + count).map(|slot| maps.slots[slot as usize]);
        let mut all: Vec<_> = ids
            .map(|id| {
                let endpoint = &maps.endpoints[endpoint_index(id) as usize];
                assert_eq!(endpoint.id, id, "the slot's endpoint is another one");
                (endpoint.addr.to_ip(), endpoint.port, endpoint.state)
            })
            .collect();
        all.sort_unstable();
        all
    };
    let frontends = maps.frontends.iter().map(|(key, it)| {
        let of = if key.is_mark() {
            String::new()
        } else {
            name(it.service)
        };
        format!(
            "{key:?} {of} {} {} {:?} {:?}",
            it.flags,
            it.affinity,
            list(it.slot_base, it.slot_count),
            list(it.inner_base, it.inner_count)
        )
    });
    let sources = maps.sources.iter().map(|range| {
        format!(
            "{} {:?} {}",
            name(range.source.service),
            range.source.addr,
            range.prefix
        )
    });
    frontends.chain(sources).collect()
}
