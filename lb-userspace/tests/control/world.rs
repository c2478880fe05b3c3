//! Random small worlds of Services and slices, and the way from one to the next.
//!
//! The pools are tiny, so that addresses, names and slots change hands all the time. Within one world no
//! two Services claim the same address; on the way from one to the next they may.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::Range,
    time::{Duration, Instant},
};

use duolb::{
    control::{
        maps::{Maps, faulty::FaultyMaps},
        reconcile::{Reconciler, SyncReport},
    },
    model::{
        Conditions, EndpointSlice, IpFamilyPolicy, NodeAddress, ObjectKey, Protocol, Service,
        ServiceKind, ServicePort, SliceEndpoint, SlicePort, TrafficPolicy,
    },
    source::{Event, Kind},
};
use ipnet::IpNet;
use lb_common::address::Family;
use proptest::{option, prelude::*, sample::subsequence};

use crate::{audit::AuditedMaps, meaning::Meaning, reference};

#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) services: BTreeMap<ObjectKey, Service>,
    pub(crate) slices: BTreeMap<ObjectKey, EndpointSlice>,
    /// The node's own.
    pub(crate) addresses: Vec<NodeAddress>,
}

impl World {
    pub(crate) fn meaning(&self) -> Meaning {
        reference::meaning(
            self.services.values(),
            &self.slices.values().collect::<Vec<_>>(),
            &self.addresses,
        )
    }

    /// All objects, in an order that follows from `seed`.
    pub(crate) fn objects(&self, seed: u64) -> Vec<Event> {
        let mut events = Self::default().events_to(self, seed);
        events.insert(0, Event::NodeAddresses(self.addresses.clone()));
        events
    }

    /// What a source says when this world becomes `next`, in an order that follows from `seed`.
    pub(crate) fn events_to(&self, next: &Self, seed: u64) -> Vec<Event> {
        let mut events = Vec::new();
        let gone = self
            .services
            .keys()
            .filter(|key| !next.services.contains_key(key));
        events.extend(gone.map(|key| Event::DeleteService(key.clone())));
        let gone = self
            .slices
            .keys()
            .filter(|key| !next.slices.contains_key(key));
        events.extend(gone.map(|key| Event::DeleteSlice(key.clone())));
        let new = next
            .services
            .iter()
            .filter(|(key, new)| self.services.get(key) != Some(new));
        events.extend(new.map(|(_, service)| Event::ApplyService(service.clone())));
        let new = next
            .slices
            .iter()
            .filter(|(key, new)| self.slices.get(key) != Some(new));
        events.extend(new.map(|(_, slice)| Event::ApplySlice(slice.clone())));
        if self.addresses != next.addresses {
            events.push(Event::NodeAddresses(next.addresses.clone()));
        }
        let mut random = seed;
        for at in (1..events.len()).rev() {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            events.swap(at, (random >> 33) as usize % (at + 1));
        }
        events
    }
}

/// A world from its parts; later services and slices of the same name count.
pub(crate) fn world() -> impl Strategy<Value = World> {
    let vips = Just((1..=6u8).collect::<Vec<_>>()).prop_shuffle();
    let services = (0..5u8, 0..4u8, ports(), outside());
    let services = prop::collection::vec(option::weighted(0.7, services), 4);
    let slices = prop::collection::vec(option::weighted(0.7, slice()), 6);
    (vips, services, slices, addresses()).prop_map(|(vips, services, slices, addresses)| {
        let services = services.into_iter().zip(vips).zip(0..);
        let services = services.filter_map(|((service, vip), i)| {
            let (kind, stack, ports, outside) = service?;
            let mut service = make_service(i, vip, kind, stack, ports);
            if kind > 1 {
                go_outside(&mut service, vip, kind, outside);
            }
            Some(service)
        });
        let slices = slices.into_iter().zip(0..).filter_map(|(slice, i)| {
            let key = ObjectKey::new("default", format!("slice-{i}"));
            Some(EndpointSlice { key, ..slice? })
        });
        World {
            services: services
                .map(|service| (service.key.clone(), service))
                .collect(),
            slices: slices.map(|slice| (slice.key.clone(), slice)).collect(),
            addresses,
        }
    })
}

/// Worlds that follow one another; often only the Services or only the slices change.
pub(crate) fn worlds(count: Range<usize>) -> impl Strategy<Value = Vec<World>> {
    prop::collection::vec((world(), 0..4u8), count).prop_map(|steps| {
        let mut worlds: Vec<World> = Vec::new();
        for (mut world, kept) in steps {
            match (worlds.last(), kept) {
                (Some(last), 0) => world.services = last.services.clone(),
                (Some(last), 1 | 2) => world.slices = last.slices.clone(),
                _ => {}
            }
            worlds.push(world);
        }
        worlds
    })
}

fn make_service(i: u32, vip: u8, kind: u8, stack: u8, ports: Vec<ServicePort>) -> Service {
    let (v4, v6) = (
        [10, 96, 0, vip].into(),
        [0xfd00, 0, 0, 0, 0, 0, 0, vip.into()].into(),
    );
    let kind = if kind == 0 {
        ServiceKind::Headless
    } else {
        ServiceKind::ClusterIp
    };
    let cluster_ips = match stack {
        _ if kind == ServiceKind::Headless => vec![],
        0 => vec![v4],
        1 => vec![v6],
        2 => vec![v4, v6],
        _ => vec![v6, v4],
    };
    Service {
        key: ObjectKey::new("default", format!("s{i}")),
        kind,
        ip_family_policy: Some(IpFamilyPolicy::PreferDualStack),
        ip_families: cluster_ips.iter().map(Family::of).collect(),
        cluster_ips,
        ports,
        ..Service::default()
    }
}

/// Which of the node's addresses there are.
fn addresses() -> impl Strategy<Value = Vec<NodeAddress>> {
    let all = [
        "127.0.0.1",
        "192.168.0.1",
        "192.168.7.2",
        "fe80::1",
        "fd02::1",
    ];
    let all = all.map(|ip| NodeAddress {
        ip: ip.parse().expect("an address"),
    });
    subsequence(all.to_vec(), 0..=5)
}

/// How a Service is reached from outside: under the Local policy, also by external addresses, and from which of
/// some networks its load balancer's addresses.
fn outside() -> impl Strategy<Value = (bool, bool, Vec<IpNet>)> {
    let nets = [
        "10.0.0.0/8",
        "192.168.0.0/24",
        "0.0.0.0/0",
        "fd00::/8",
        "fd02::/64",
    ];
    let nets = nets.map(|net| net.parse().expect("a network"));
    (
        any::<bool>(),
        any::<bool>(),
        subsequence(nets.to_vec(), 0..=3),
    )
}

/// Makes it a NodePort Service or one with a load balancer, with addresses that no other Service has.
fn go_outside(
    service: &mut Service,
    vip: u8,
    kind: u8,
    (is_local, has_external, source_ranges): (bool, bool, Vec<IpNet>),
) {
    let addresses = |number: u16| -> Vec<IpAddr> {
        let low = u8::try_from(number).expect("a small one");
        vec![
            [203, 0, 113, low].into(),
            [0x2001, 0xdb8, 0, 0, 0, 0, 0, number].into(),
        ]
    };
    service.kind = ServiceKind::NodePort;
    for (port, at) in service.ports.iter_mut().zip(0..) {
        port.node_port = 30_000 + 10 * u16::from(vip) + at;
    }
    if is_local {
        service.external_policy = TrafficPolicy::Local;
    }
    if has_external {
        service.external_ips = addresses(100 + u16::from(vip));
    }
    if kind > 3 {
        service.kind = ServiceKind::LoadBalancer;
        service.load_balancer_ips = addresses(200 + u16::from(vip));
        service.source_ranges = source_ranges;
        // One is both.
        service
            .external_ips
            .extend(service.load_balancer_ips.first());
    }
}

fn ports() -> impl Strategy<Value = Vec<ServicePort>> {
    let port = |name: &str, port, protocol| ServicePort {
        name: name.into(),
        protocol,
        port,
        node_port: 0,
    };
    let http = prop::sample::select(vec![
        port("http", 80, Protocol::Tcp),
        port("web", 80, Protocol::Tcp),
        port("http", 81, Protocol::Tcp),
    ]);
    let udp = prop::sample::select(vec![port("http", 80, Protocol::Udp)]);
    (http, option::of(udp))
        .prop_map(|(http, udp)| [Some(http), udp].into_iter().flatten().collect())
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let port = |name: &str, port, protocol| SlicePort {
        name: name.into(),
        protocol,
        port,
    };
    let ports = vec![
        port("http", 8080, Protocol::Tcp),
        port("http", 8081, Protocol::Tcp),
        port("web", 8080, Protocol::Tcp),
        port("http", 8080, Protocol::Udp),
    ];
    let endpoint = (1..6u8, any::<(bool, bool, bool)>(), any::<bool>());
    let endpoints = prop::collection::vec(endpoint, 0..4);
    (0..5u8, any::<bool>(), subsequence(ports, 0..=4), endpoints).prop_map(
        |(service, is_v6, ports, endpoints)| EndpointSlice {
            key: ObjectKey::new("default", ""),
            service: format!("s{service}"),
            family: if is_v6 { Family::V6 } else { Family::V4 },
            ports,
            endpoints: endpoints
                .into_iter()
                .map(
                    |(host, (ready, serving, terminating), is_here)| SliceEndpoint {
                        address: if is_v6 {
                            [0xfd01, 0, 0, 0, 0, 0, 0, host.into()].into()
                        } else {
                            [10, 0, 0, host].into()
                        },
                        conditions: Conditions {
                            ready,
                            serving,
                            terminating,
                        },
                        node: is_here.then(|| crate::NODE.to_owned()),
                        hints: duolb::model::Hints::default(),
                    },
                )
                .collect(),
            triggered: None,
        },
    )
}

/// Maps with an [`AuditedMaps`] at the bottom.
pub(crate) trait Audited: Maps {
    fn audited(&mut self) -> &mut AuditedMaps;
}

impl Audited for AuditedMaps {
    fn audited(&mut self) -> &mut AuditedMaps {
        self
    }
}

impl Audited for FaultyMaps<AuditedMaps> {
    fn audited(&mut self) -> &mut AuditedMaps {
        &mut self.inner
    }
}

/// Lets the agent work until it has nothing to do soon; the report of all its plans together.
pub(crate) fn sync<M: Audited>(agent: &mut Reconciler<M>, now: &mut Instant) -> SyncReport {
    let mut ops = 0;
    for _ in 0..10_000 {
        agent.maps_mut().audited().begin_plan();
        let report = agent.sync(*now);
        ops += report.ops;
        match report.next_retry {
            Some(at) if !report.in_sync || at < *now + Duration::from_secs(1) => *now = at,
            _ => return SyncReport { ops, ..report },
        }
    }
    panic!("it does not come to rest: {:?}", agent.sync(*now));
}

/// Another agent takes over the maps, some time later.
pub(crate) fn restart<M: Audited>(agent: Reconciler<M>) -> Reconciler<M> {
    let mut maps = agent.into_maps();
    maps.audited().begin_plan();
    maps.audited().begin_plan();
    Reconciler::new(maps, crate::NODE)
}

/// Tells the agent of a complete listing.
pub(crate) fn list<M: Maps>(agent: &mut Reconciler<M>, objects: Vec<Event>) {
    for kind in Kind::ALL {
        agent.handle(Event::Init(kind));
    }
    objects.into_iter().for_each(|event| agent.handle(event));
    for kind in Kind::ALL {
        agent.handle(Event::InitDone(kind));
    }
}
