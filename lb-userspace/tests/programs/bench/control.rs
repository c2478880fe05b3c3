//! What the control plane costs with the kernel's maps behind it: the first sync, a change, a restart, in one thread and
//! without whatever a source costs. Beside it: the same writes by themselves.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use duolb::{
    control::{
        maps::{FamilyMaps, Maps as _},
        reconcile::Reconciler,
    },
    datapath::{
        object::{self, Settings, Sizes},
        tables::KernelMaps,
    },
    model::{
        Conditions, EndpointSlice, Hints, ObjectKey, Protocol, Service, ServiceKind, ServicePort,
        SliceEndpoint, SlicePort,
    },
    source::{Event, Kind},
};
use lb_common::address::{Family, V4};
use serde_json::{Value, json};

use super::calls::Counter;
use crate::kernel::{SMALL, settings};

/// As large as slices of real clusters are at most.
const SLICE: u32 = 100;
/// Changes that are timed.
const CHANGES: u32 = 200;
/// Changes of which calls are counted.
const COUNTED: u32 = 5;

/// A cluster of services alike.
#[derive(Clone, Copy)]
struct Cluster {
    services: u32,
    endpoints: u32,
}

impl Cluster {
    fn service(number: u32) -> Service {
        Service {
            key: ObjectKey::new("bench", format!("s-{number}")),
            kind: ServiceKind::ClusterIp,
            ip_families: vec![Family::V4],
            cluster_ips: vec![after([10, 96, 0, 1], number)],
            ports: vec![ServicePort {
                name: "http".into(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: 0,
            }],
            ..Service::default()
        }
    }

    /// The slices of a service; none of its endpoints is another's, nor one of another `generation`.
    fn slices(self, number: u32, generation: u32) -> impl Iterator<Item = EndpointSlice> {
        let first = (generation * self.services + number) * self.endpoints;
        let part = move |from: u32| {
            let until = (from + SLICE).min(self.endpoints);
            EndpointSlice {
                key: ObjectKey::new("bench", format!("s-{number}-{from}")),
                service: format!("s-{number}"),
                family: Family::V4,
                ports: vec![SlicePort {
                    name: "http".into(),
                    protocol: Protocol::Tcp,
                    port: 8080,
                }],
                endpoints: (from..until).map(|at| endpoint(first + at)).collect(),
                triggered: None,
            }
        };
        (0..self.endpoints).step_by(SLICE as usize).map(part)
    }

    fn events(self) -> Vec<Event> {
        let of_kind = |wrap: fn(Kind) -> Event| Kind::ALL.into_iter().map(wrap);
        let objects = (0..self.services).flat_map(move |number| {
            let slices = self.slices(number, 0).map(Event::ApplySlice);
            std::iter::once(Event::ApplyService(Self::service(number))).chain(slices)
        });
        of_kind(Event::Init)
            .chain(objects)
            .chain(of_kind(Event::InitDone))
            .collect()
    }

    /// Maps that hold it, with room for changes.
    fn maps(self) -> KernelMaps {
        let sizes = Sizes {
            services: self.services + 1,
            slots: (self.services * self.endpoints) * 2 + 1024,
            ..SMALL
        };
        let settings = Settings {
            sizes,
            ..settings()
        };
        KernelMaps::take(&mut object::load(&settings, None).unwrap()).unwrap()
    }
}

fn after(first: [u8; 4], number: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::from(first)) + number).into()
}

fn endpoint(number: u32) -> SliceEndpoint {
    SliceEndpoint {
        address: after([16, 0, 0, 0], number),
        conditions: Conditions::default(),
        node: None,
        hints: Hints::default(),
    }
}

/// An agent that has taken in `events`, how many seconds that took, and how many operations.
fn sync(maps: KernelMaps, events: Vec<Event>) -> (Reconciler<KernelMaps>, f64, usize) {
    let mut agent = Reconciler::new(maps, "node-1");
    let start = Instant::now();
    events.into_iter().for_each(|event| agent.handle(event));
    let report = agent.sync(Instant::now());
    let took = start.elapsed().as_secs_f64();
    assert!(report.in_sync && report.problems.is_empty(), "{report:?}");
    (agent, took, report.ops)
}

/// Seconds that it takes to write what is in `maps` to empty ones of the same size, and nothing else.
fn write_again(cluster: Cluster, maps: &KernelMaps) -> f64 {
    let dump = FamilyMaps::<V4>::dump(maps).unwrap();
    let services = maps.services().unwrap();
    let mut empty = cluster.maps();
    let start = Instant::now();
    empty.put_services(&services).unwrap();
    FamilyMaps::<V4>::put_endpoints(&mut empty, &dump.endpoints).unwrap();
    FamilyMaps::<V4>::write_slots(&mut empty, 0, &dump.slots).unwrap();
    FamilyMaps::<V4>::put_frontends(&mut empty, &dump.frontends).unwrap();
    start.elapsed().as_secs_f64()
}

/// Milliseconds from an event in hand until the maps say so: one endpoint of some service is another.
fn change(cluster: Cluster, agent: &mut Reconciler<KernelMaps>) -> Vec<f64> {
    let times = (0..CHANGES).map(|turn| {
        let number = turn.wrapping_mul(0x9e37_79b1) % cluster.services;
        let slice = cluster.slices(number, 0).next();
        let mut slice = slice.expect("a service with endpoints");
        // The generation after all others, and in it one that has never been.
        let fresh = cluster.services * cluster.endpoints + turn;
        slice.endpoints[0] = endpoint(fresh);
        let start = Instant::now();
        agent.handle(Event::ApplySlice(slice));
        let report = agent.sync(Instant::now());
        let took = start.elapsed().as_secs_f64() * 1e3;
        assert!(report.ops > 0 && report.problems.is_empty(), "{report:?}");
        took
    });
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The `bpf(2)` calls of a change: of one endpoint of a slice, of all of them; at most so many of some.
fn calls(cluster: Cluster, agent: &mut Reconciler<KernelMaps>) -> Result<[u64; 2], String> {
    let counter = Counter::on_bpf()?;
    let count = |work: &mut dyn FnMut()| {
        let before = counter.sum();
        work();
        // Reading the sum is one as well.
        counter.sum() - before - 1
    };
    assert_eq!(count(&mut || {}), 0, "nothing takes no calls");
    let mut most = [0; 2];
    // Endpoints that there has been none of.
    let mut fresh = cluster.services * cluster.endpoints + CHANGES;
    for turn in 0..COUNTED {
        let number = turn.wrapping_mul(0x9e37_79b1) % cluster.services;
        for (all, most) in [false, true].into_iter().zip(&mut most) {
            let slice = cluster.slices(number, 0).next();
            let mut slice = slice.expect("a service with endpoints");
            let changed = if all { slice.endpoints.len() } else { 1 };
            for old in &mut slice.endpoints[..changed] {
                *old = endpoint(fresh);
                fresh += 1;
            }
            agent.handle(Event::ApplySlice(slice));
            let calls = count(&mut || {
                let report = agent.sync(Instant::now());
                assert!(report.ops > 0 && report.problems.is_empty(), "{report:?}");
            });
            *most = calls.max(*most);
        }
    }
    Ok(most)
}

/// A cluster of so many services with so many endpoints each, round by round: seconds of the first sync, of its writes by
/// themselves, of a restart; milliseconds of a change, median and 99th percentile. And the system calls of a change.
pub fn measure(rounds: u32, services: u32, endpoints: u32) -> Value {
    let cluster = Cluster {
        services,
        endpoints,
    };
    let mut all = Vec::new();
    let (mut first_ops, mut counted) = (0, Value::Null);
    for _ in 0..rounds {
        let (agent, first, ops) = sync(cluster.maps(), cluster.events());
        first_ops = ops;
        let raw = write_again(cluster, agent.maps());
        // What is there is read back, and nothing has changed.
        let (mut agent, restart, ops) = sync(agent.into_maps(), cluster.events());
        assert_eq!(ops, 0, "an unchanged world needs no operation");
        let changes = change(cluster, &mut agent);
        let [median, slow] = [changes.len() / 2, changes.len() * 99 / 100].map(|at| changes[at]);
        all.push([first, raw, restart, median, slow]);
        // The same every time.
        if counted.is_null() {
            counted = match calls(cluster, &mut agent) {
                Ok([one, slice]) => json!({"one": one, "slice": slice}),
                Err(why) => json!({"missing": why}),
            };
        }
    }
    json!({"services": services, "endpoints": endpoints, "ops": first_ops, "calls": counted, "rounds": all})
}
