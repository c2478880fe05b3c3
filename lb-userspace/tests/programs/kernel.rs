//! The programs and their maps, loaded for one test.

use std::{
    env, fs,
    net::{IpAddr, SocketAddr},
    ops::{Deref, DerefMut},
    os::unix::fs::MetadataExt as _,
    thread,
};

use aya::{
    maps::{MapData, PerCpuArray},
    programs::{TestRun as _, TestRunOptions},
};
use duolb::datapath::{
    Object,
    object::{self, Settings, Sizes},
    tables::DeviceMap,
};
use lb_common::{
    address::{Address as _, Family, V4, V6},
    tables::{Device, Frontend, Traffic, traffic_index},
    verdict::{Action, Verdict},
};

use crate::{
    coverage,
    fragments::notes::Notes,
    packet::{Frame, SCTP, TCP, UDP, verify},
    spare,
    state::Flows,
    tables::Tables,
};

pub use crate::hook::{Egress, Hook, Ingress};

/// ifindex of `lo`, on which test runs take place unless they say otherwise.
pub const LOOPBACK: u32 = 1;

/// TC_ACT_UNSPEC and TC_ACT_SHOT, as a test run returns them.
pub const UNSPEC: u32 = u32::MAX;
pub const SHOT: u32 = 2;
/// `TC_ACT_REDIRECT`: out by the device it came in by.
pub const REDIRECT: u32 = 7;

/// What should become of a packet.
#[derive(Clone, Copy, Debug)]
pub enum Fate<'a> {
    Becomes(&'a Frame, Verdict),
    Dropped(Verdict),
    Untouched,
}
pub use Fate::{Becomes, Dropped, Untouched};

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub returned: u32,
    pub bytes: Vec<u8>,
    pub verdict: Option<Verdict>,
}

/// How much slower than an ordinary machine this one is said to be: under a processor done in software (`cargo xtask vm`),
/// what takes long is done less often.
pub fn slowness() -> usize {
    let text = env::var("DUOLB_TEST_SLOWNESS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// What a test has of the kernel.
pub struct Kernel {
    /// Only ever taken when it is given back.
    loaded: Option<Loaded>,
    /// What it was loaded with, if another test may have it afterwards.
    reusable: Option<String>,
}

/// Programs and maps.
pub struct Loaded {
    pub object: Object,
    pub tables: Tables,
    pub flows: Flows,
    pub notes: Notes,
    pub devices: DeviceMap,
    verdicts: PerCpuArray<MapData, u64>,
    traffic: PerCpuArray<MapData, Traffic>,
    pub maps: spare::Maps,
}

impl Deref for Kernel {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        self.loaded.as_ref().expect("not given back")
    }
}

impl DerefMut for Kernel {
    fn deref_mut(&mut self) -> &mut Loaded {
        self.loaded.as_mut().expect("not given back")
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        coverage::leave(&self.verdicts());
        if let Some(settings) = self.reusable.take()
            && !thread::panicking()
        {
            let loaded = self.loaded.take().expect("not given back");
            spare::give(settings, loaded);
        }
    }
}

/// The sizes most tests get by with. Of an LRU table each CPU takes 128 free places at once before Linux 6.16: a test that
/// is moved to another CPU would lose entries of a smaller one.
pub const SMALL: Sizes = Sizes {
    services: 16,
    slots: 64,
    flows: 4_096,
    affinity: 1_024,
    sockets: 1_024,
    sources: 64,
    fragments: 1_024,
};

/// What most tests load the programs with.
pub fn settings() -> Settings {
    Settings {
        sizes: SMALL,
        hz: 250,
        seed: 42,
        ..Settings::default()
    }
}

impl Kernel {
    /// Loads the programs with small maps; `None`, saying why, if that takes rights we do not have.
    pub fn load() -> Option<Self> {
        Self::load_sized(SMALL)
    }

    pub fn load_sized(sizes: Sizes) -> Option<Self> {
        Self::load_with(&Settings {
            sizes,
            ..settings()
        })
    }

    pub fn load_with(settings: &Settings) -> Option<Self> {
        // Larger ones are rare, and would take up the machine's memory.
        if settings.sizes != SMALL {
            return Self::load_alone(settings);
        }
        let key = format!("{settings:?}");
        let mut kernel = match spare::take(&key) {
            Some(loaded) => Self {
                loaded: Some(loaded),
                reusable: None,
            },
            None => Self::load_alone(settings)?,
        };
        kernel.reusable = Some(key);
        Some(kernel)
    }

    /// Likewise with programs that no other test had or gets: for one that attaches them, or counts what they are.
    pub fn load_alone(settings: &Settings) -> Option<Self> {
        // The owner of one's own entry in /proc is who one is.
        if fs::metadata("/proc/self").map_or(true, |own| own.uid() != 0) {
            eprintln!("skipped: loading BPF programs takes root");
            return None;
        }
        let mut object = object::load(settings, None).expect("the programs load");
        object::program(&mut object, "clock")
            .unwrap()
            .load()
            .expect("the empty program loads");
        let loaded = Loaded {
            maps: spare::Maps::open(&mut object),
            tables: Tables::take(&mut object),
            flows: Flows::take(&mut object),
            notes: Notes::take(&mut object),
            devices: DeviceMap::take(&mut object).unwrap(),
            verdicts: object.take_map("VERDICTS").unwrap().try_into().unwrap(),
            traffic: object.take_map("TRAFFIC").unwrap().try_into().unwrap(),
            object,
        };
        Some(Self {
            loaded: Some(loaded),
            reusable: None,
        })
    }

    /// Points the frontend `vip`, of every protocol, to a new range of slots with `endpoints`, as the agent
    /// does; endpoints that it does not name stay what they are.
    pub fn serve(&mut self, vip: SocketAddr, service: u32, endpoints: &[SocketAddr]) {
        self.serve_as(vip, service, endpoints, 0, 0);
    }

    /// Likewise with session affinity of so many seconds.
    pub fn stick(
        &mut self,
        vip: SocketAddr,
        service: u32,
        endpoints: &[SocketAddr],
        affinity: u32,
    ) {
        self.serve_as(vip, service, endpoints, affinity, 0);
    }

    /// Likewise with these [`Frontend::flags`].
    pub fn serve_as(
        &mut self,
        vip: SocketAddr,
        service: u32,
        endpoints: &[SocketAddr],
        affinity: u32,
        flags: u32,
    ) {
        let frontend = Frontend {
            slot_base: self.tables.write_slots(vip.ip(), service, endpoints),
            slot_count: u32::try_from(endpoints.len()).unwrap(),
            service,
            flags,
            affinity,
            ..Frontend::default()
        };
        for proto in [TCP, UDP, SCTP] {
            self.tables.put_frontend(vip, proto, &frontend);
        }
    }

    /// Puts a frontend at `vip`, of every protocol, whose clients outside and inside get endpoints of their own.
    pub fn serve_split(
        &mut self,
        vip: SocketAddr,
        service: u32,
        lists: (&[SocketAddr], &[SocketAddr]),
        flags: u32,
    ) {
        self.serve_split_stuck(vip, service, lists, flags, 0);
    }

    /// Likewise with session affinity of so many seconds.
    pub fn serve_split_stuck(
        &mut self,
        vip: SocketAddr,
        service: u32,
        (outer, inner): (&[SocketAddr], &[SocketAddr]),
        flags: u32,
        affinity: u32,
    ) {
        let count = |endpoints: &[SocketAddr]| u32::try_from(endpoints.len()).unwrap();
        let frontend = Frontend {
            slot_base: self.tables.write_slots(vip.ip(), service, outer),
            slot_count: count(outer),
            service,
            flags: flags | Frontend::SPLIT,
            inner_base: self.tables.write_slots(vip.ip(), service, inner),
            inner_count: count(inner),
            affinity,
        };
        for proto in [TCP, UDP, SCTP] {
            self.tables.put_frontend(vip, proto, &frontend);
        }
    }

    /// Says what is behind the device that test runs take place on, and which address clients get there.
    pub fn set_device(&mut self, role: u32, nodes: [IpAddr; 2]) {
        let device = Device {
            role,
            v4: V4::from_ip(nodes[0]).unwrap(),
            v6: V6::from_ip(nodes[1]).unwrap(),
            ..Device::default()
        };
        self.devices.put(LOOPBACK, &device).unwrap();
    }

    /// Takes the frontend away, for every protocol.
    pub fn withdraw(&mut self, vip: SocketAddr) {
        for proto in [TCP, UDP, SCTP] {
            self.tables.remove_frontend(vip, proto);
        }
    }

    /// Runs a program on a frame; gives what it returned and the length of what it left in `out`.
    pub fn run_uncounted(&mut self, hook: Hook, frame: &[u8], out: &mut [u8]) -> (u32, usize) {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(out),
            ..TestRunOptions::new()
        };
        let result = object::program(&mut self.object, hook.program())
            .unwrap()
            .test_run(options)
            .unwrap_or_else(|why| panic!("{why:?}: {hook:?} {frame:02x?}"));
        let len = usize::try_from(result.data_size_out).unwrap();
        (result.return_value, len)
    }

    /// Runs a program on a frame.
    pub fn run(&mut self, hook: Hook, frame: &[u8]) -> Outcome {
        let before = self.verdicts();
        let mut out = vec![0; frame.len() + 64];
        let (returned, len) = self.run_uncounted(hook, frame, &mut out);
        out.truncate(len);
        let counted: Vec<_> = self
            .verdicts()
            .iter()
            .zip(before)
            .zip(Verdict::ALL)
            .flat_map(|((after, before), verdict)| (before..*after).map(|_| *verdict))
            .collect();
        assert!(counted.len() <= 1, "one packet, one verdict: {counted:?}");
        Outcome {
            returned,
            bytes: out,
            verdict: counted.first().copied(),
        }
    }

    /// How often each verdict was given, in their order.
    pub fn verdicts(&self) -> Vec<u64> {
        Verdict::ALL
            .iter()
            .map(|verdict| {
                self.verdicts
                    .get(&(*verdict as u32), 0)
                    .unwrap()
                    .iter()
                    .sum()
            })
            .collect()
    }

    /// Runs a program on a packet and checks what becomes of it, to the byte.
    #[track_caller]
    pub fn check(&mut self, shows: &str, hook: Hook, packet: &Frame, fate: Fate<'_>) {
        let input = packet.bytes();
        let outcome = self.run(hook, &input);
        let (verdict, bytes) = match fate {
            Becomes(after, verdict) => (Some(verdict), after.bytes()),
            Dropped(verdict) => (Some(verdict), input),
            Untouched => (None, input),
        };
        let returned = match verdict.map(Verdict::action) {
            Some(Action::Drop) => SHOT,
            Some(Action::Reply) => panic!("{shows}: refused, see `refusals`"),
            Some(Action::Pass) | None => UNSPEC,
        };
        let expected = Outcome {
            returned,
            bytes,
            verdict,
        };
        assert_eq!(outcome, expected, "{shows} ({hook:?}, {:?})", packet.src);
        if packet.fragment.is_none() {
            verify(&outcome.bytes).expect(shows);
        }
    }

    /// A packet that opens a flow or belongs to one goes to `endpoint`, and an answer comes back from
    /// where the packet went; neither is looked at further.
    #[track_caller]
    pub fn pass(&mut self, shows: &str, sent: &Frame, endpoint: SocketAddr) {
        let delivered = sent.clone().to(endpoint);
        self.check(shows, Ingress, sent, Becomes(&delivered, Verdict::Dnat));
    }

    /// What was counted for a service in the family of `of`.
    pub fn traffic(&self, service: u32, of: SocketAddr) -> Traffic {
        let index = traffic_index(service, Family::of(&of.ip()));
        let sum = |mut sum: Traffic, cpu: &Traffic| {
            sum.flows += cpu.flows;
            sum.packets_in += cpu.packets_in;
            sum.bytes_in += cpu.bytes_in;
            sum.packets_out += cpu.packets_out;
            sum.bytes_out += cpu.bytes_out;
            sum
        };
        let values = self.traffic.get(&index, 0).unwrap();
        values.iter().fold(Traffic::default(), sum)
    }
}
