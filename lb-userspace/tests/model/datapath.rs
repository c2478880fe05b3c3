//! The programs, and the maps that the real planner fills.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use aya::{
    Pod,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues},
    programs::{TestRun as _, TestRunOptions, Xdp},
    util::nr_cpus,
};
use duolb::{
    control::reconcile::Reconciler,
    datapath::{
        Object,
        object::{self, Settings, Sizes, loaded_xdp},
        tables::{DeviceMap, KernelMaps},
    },
    source::Event,
};
use lb_common::{
    address::{Address as _, V4, V6},
    tables::{Affinity, AffinityKey, Device},
    verdict::Verdict,
};

use crate::{
    cast, coverage,
    state::{Flows, Tuple},
    world::{NODE, beginning},
};

/// Where a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Xdp,
    Ingress,
    Egress,
}

/// Jiffies a second, as the programs are told: so many that a tick of the flow clock takes a month, and time passes
/// only by [`Datapath::wait`].
const SLOW: u32 = 1 << 31;

/// ifindex of the loopback device, on which test runs take place.
const LOOPBACK: u32 = 1;

pub struct Datapath {
    object: Object,
    agent: Reconciler<KernelMaps>,
    devices: DeviceMap,
    flows: Flows,
    affinity: (AffinityMap<V4>, AffinityMap<V6>),
    moved: Array<MapData, u32>,
    rejects: PerCpuArray<MapData, u64>,
    verdicts: PerCpuArray<MapData, u64>,
    role: Option<u32>,
    now: Instant,
}

type AffinityMap<A> = HashMap<MapData, AffinityKey<A>, Affinity>;

/// One address of each family, of which the flow tables are asked for theirs.
fn families() -> [SocketAddr; 2] {
    [false, true].map(|is_v6| SocketAddr::new(cast::node(is_v6), 0))
}

impl Datapath {
    /// `None`, saying why, if loading takes rights that we do not have.
    pub fn load() -> Option<Self> {
        if fs::metadata("/proc/self").map_or(true, |own| own.uid() != 0) {
            eprintln!("skipped: loading BPF programs takes root");
            return None;
        }
        let settings = Settings {
            sizes: Sizes {
                services: 256,
                slots: 8_192,
                flows: 65_536,
                affinity: 4_096,
                sockets: 64,
                sources: 256,
                ..Sizes::default()
            },
            hz: SLOW,
            seed: 42,
            ..Settings::default()
        };
        let mut object = object::load(&settings, None).expect("the programs load");
        loaded_xdp(&mut object).expect("the XDP program loads");
        let maps = KernelMaps::take(&mut object).expect("the maps");
        let mut agent = Reconciler::new(maps, NODE);
        let now = Instant::now();
        beginning()
            .into_iter()
            .for_each(|event| agent.handle(event));
        assert!(
            agent.sync(now).in_sync,
            "the maps take what the agent writes"
        );
        let mut take = |name| object.take_map(name).expect(name);
        Some(Self {
            affinity: (
                take("AFFINITY_V4").try_into().expect("a table"),
                take("AFFINITY_V6").try_into().expect("a table"),
            ),
            moved: take("MOVED").try_into().expect("an array"),
            rejects: take("REJECTS").try_into().expect("an array"),
            verdicts: take("VERDICTS").try_into().expect("an array"),
            agent,
            devices: DeviceMap::take(&mut object).expect("the devices"),
            flows: Flows::take(&mut object),
            object,
            role: None,
            now,
        })
    }

    /// The agent hears of this and brings the maps up to date.
    pub fn tell(&mut self, events: Vec<Event>) {
        for event in events {
            self.agent.handle(event);
        }
        let mut report = self.agent.sync(self.now);
        while let Some(at) = report
            .next_retry
            .filter(|at| *at < self.now + Duration::from_secs(1))
        {
            self.now = at;
            report = self.agent.sync(self.now);
        }
        assert_eq!(report.problems, [], "there is room, and nothing is wrong");
        assert!(report.in_sync);
    }

    /// Runs a program on a frame that passes a device of that role; gives what it returned and left.
    pub fn run(&mut self, hook: Hook, role: u32, frame: &[u8]) -> (u32, Vec<u8>) {
        if self.role != Some(role) {
            let device = Device {
                role,
                v4: V4::from_ip(cast::node(false)).expect("IPv4"),
                v6: V6::from_ip(cast::node(true)).expect("IPv6"),
                ..Device::default()
            };
            self.devices.put(LOOPBACK, &device).expect("room");
            self.role = Some(role);
        }
        let mut out = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result = match hook {
            Hook::Xdp => {
                let program = self.object.program_mut("xdp_ingress").expect("it");
                let program: &mut Xdp = program.try_into().expect("XDP");
                program.test_run(options)
            }
            Hook::Ingress => object::program(&mut self.object, "tc_ingress")
                .expect("it")
                .test_run(options),
            Hook::Egress => object::program(&mut self.object, "tc_egress")
                .expect("it")
                .test_run(options),
        };
        let result = result.unwrap_or_else(|why| panic!("{why:?}: {hook:?} {frame:02x?}"));
        out.truncate(usize::try_from(result.data_size_out).expect("a length"));
        (result.return_value, out)
    }

    /// How often a verdict was given.
    pub fn count(&self, verdict: Verdict) -> u64 {
        let values = self
            .verdicts
            .get(&(verdict as u32), 0)
            .expect("it is there");
        values.iter().sum()
    }

    pub fn counts(&self) -> Vec<u64> {
        Verdict::ALL.iter().map(|it| self.count(*it)).collect()
    }

    /// All flow entries of both families.
    pub fn tuples(&self) -> Vec<Tuple> {
        let all = families().map(|family| self.flows.tuples(family));
        all.concat()
    }

    /// So many seconds pass.
    pub fn wait(&mut self, seconds: u32) {
        for tuple in self.tuples() {
            self.flows.age(tuple, seconds);
        }
        let (v4, v6) = &mut self.affinity;
        age(v4, seconds);
        age(v6, seconds);
        let last = self.moved.get(&0, 0).expect("one entry");
        if last != 0 {
            let aged = last.wrapping_sub(seconds) | 1;
            self.moved.set(0, aged, 0).expect("one entry");
        }
        self.now += Duration::from_secs(seconds.into());
        self.refuse_more();
    }

    /// A new second, as far as the limit of refusals goes.
    pub fn refuse_more(&mut self) {
        let cpus = nr_cpus().expect("some");
        let zero = PerCpuValues::try_from(vec![0; cpus]).expect("one for each");
        self.rejects.set(0, zero, 0).expect("one entry");
    }

    /// Forgets all flows.
    pub fn forget(&mut self) {
        for tuple in self.tuples() {
            self.flows.evict(tuple);
        }
        let (v4, v6) = &mut self.affinity;
        clear(v4);
        clear(v6);
        self.moved.set(0, 0, 0).expect("one entry");
        self.refuse_more();
    }

    /// What the flow table says of a tuple, for the reader.
    pub fn entry(&self, tuple: Tuple) -> String {
        format!("{:?}", self.flows.get(tuple))
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        coverage::leave(&self.counts());
    }
}

fn age<A: lb_common::address::Address>(map: &mut AffinityMap<A>, seconds: u32)
where
    AffinityKey<A>: Pod,
{
    let all: Vec<_> = map.iter().filter_map(Result::ok).collect();
    for (key, mut value) in all {
        value.seen = value.seen.wrapping_sub(seconds);
        map.insert(key, value, 0).expect("it was there");
    }
}

fn clear<A: lb_common::address::Address>(map: &mut AffinityMap<A>)
where
    AffinityKey<A>: Pod,
{
    let all: Vec<_> = map.keys().filter_map(Result::ok).collect();
    for key in all {
        map.remove(&key).expect("it was there");
    }
}

/// The addresses and ports of a frame without tags, options and extension headers.
pub fn read(frame: &[u8]) -> (SocketAddr, SocketAddr) {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).expect("four"));
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).expect("sixteen"));
    if frame[12..14] == [0x08, 0x00] {
        return (
            SocketAddr::new(v4(26), port(34)),
            SocketAddr::new(v4(30), port(36)),
        );
    }
    (
        SocketAddr::new(v6(22), port(54)),
        SocketAddr::new(v6(38), port(56)),
    )
}
