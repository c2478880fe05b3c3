//! The object with programs and maps: load it, new or onto the maps that are pinned already. aya reuses a pinned map without
//! looking at it: whether it is what is asked for is found out before (`switch`).

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::Map,
    programs::{Program, ProgramError, SchedClassifier, Xdp},
};
use lb_common::{
    flow::{
        state::{DEFAULT_TIMEOUTS, Timeouts},
        tick_shift,
    },
    tables::MAX_ENDPOINTS,
};

use super::{DatapathError, features::Features, pins::Pins, snat_ports::SnatPorts};

/// Programs and maps, compiled for BPF by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-ebpf.o"));

/// How often a program is offered to the kernel when signals come in between.
const LOAD_TRIES: u32 = 50;
/// How long to wait in between: whoever interrupts five times within a few milliseconds (a freezer did) is
/// done after a while.
const LOAD_PAUSE: Duration = Duration::from_millis(20);

/// How many entries the maps have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Service ports, that is ids; frontends per family.
    pub services: u32,
    /// Slots per family. A change needs room for a service's endpoints twice.
    pub slots: u32,
    /// Flow entries per family; a flow needs two.
    pub flows: u32,
    /// Clients of services with session affinity, per family.
    pub affinity: u32,
    /// Entries for sockets of the node's own processes, per family; a socket needs two for each VIP.
    pub sockets: u32,
    /// Source ranges of load balancers, per family.
    pub sources: u32,
    /// Packets in pieces that are on their way at once, per family and hook.
    pub fragments: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            services: 65_536,
            slots: 524_288,
            flows: 262_144,
            affinity: 65_536,
            sockets: 65_536,
            sources: 65_536,
            fragments: 8_192,
        }
    }
}

/// What is fixed at load time.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Sizes of the maps.
    pub sizes: Sizes,
    /// Jiffies a second, see [`super::clock`].
    pub hz: u32,
    /// Secret of the endpoint choice.
    pub seed: u64,
    /// Whether the programs log new flows and failures.
    pub log: bool,
    /// Whether TCP connections to an endpoint that has left every slice are reset; else they are left alone
    /// (rule 78).
    pub tcp_reset_dead: bool,
    /// Seconds of silence after which a flow no longer keeps its tuple from others, by its state.
    pub timeouts: Timeouts,
    /// Ports that SNAT gives to clients.
    pub snat_ports: SnatPorts,
    /// Whether every client of a cluster IP gets an address of this node (rule 56).
    pub masquerade_all: bool,
    /// Whether packets of services skip the stack where they can.
    pub host_routing: bool,
    /// Cookie of the network namespace that is served, see [`super::netns`]; 0: its own sockets are not.
    pub netns_cookie: u64,
    /// Whether programs may say which error a system call ends with; else it is always "not permitted".
    pub set_retval: bool,
}

impl Default for Settings {
    /// With the timeouts that kube-proxy sets or Linux has (rule 82).
    fn default() -> Self {
        Self {
            sizes: Sizes::default(),
            hz: 250,
            seed: 0,
            log: false,
            tcp_reset_dead: false,
            timeouts: DEFAULT_TIMEOUTS,
            snat_ports: SnatPorts::default(),
            masquerade_all: false,
            host_routing: false,
            netns_cookie: 0,
            set_retval: Features::of_kernel().set_retval,
        }
    }
}

/// Every map, with the names that kernel, user and test side share.
pub const MAPS: &[&str] = &[
    "FRONTENDS_V4",
    "FRONTENDS_V6",
    "FILTER_V4",
    "FILTER_V6",
    "SLOTS_V4",
    "SLOTS_V6",
    "ENDPOINTS_V4",
    "ENDPOINTS_V6",
    "RANGES_V4",
    "RANGES_V6",
    "LOCALS_V4",
    "LOCALS_V6",
    "SOURCES_V4",
    "SOURCES_V6",
    "SOCKETS_V4",
    "SOCKETS_V6",
    "AFFINITY_V4",
    "AFFINITY_V6",
    "FLOWS_V4",
    "FLOWS_V6",
    "FRAGMENTS_V4",
    "FRAGMENTS_V6",
    "CHURN",
    "FLOW_STATS",
    "FLUSHED",
    "DEVICES",
    "VERDICTS",
    "TRAFFIC",
    "MOVED",
    "CHANGES",
    "SERVICES",
    "AGENT",
    "PROBLEMS",
];

/// The TC programs for devices with an Ethernet header, which every node has.
pub const PROGRAMS: &[&str] = &["tc_ingress", "tc_egress"];

/// The TC programs for devices without, loaded with the first of them.
pub const IP_PROGRAMS: &[&str] = &["tc_ingress_l3", "tc_egress_l3"];

/// The XDP program, loaded with the first device that takes it. Those of cgroups are in [`super::cgroup`].
pub const XDP_PROGRAM: &str = "xdp_ingress";

/// A table of former maps that programs look into, too.
pub(super) struct FormerTable {
    /// Its name in the object.
    pub(super) map: &'static str,
    /// Where the map is pinned.
    pub(super) pin: PathBuf,
    /// The constant that says how many words its values have in common with ours, and that number.
    pub(super) words: &'static str,
    pub(super) count: u32,
}

/// Loads the object; with `pins`, onto the maps in force there, pinning those that are not yet. They have the right
/// layout, see `switch`.
///
/// # Errors
/// [`DatapathError`]: the kernel's refusal.
pub fn load(settings: &Settings, pins: Option<&Pins>) -> Result<Ebpf, DatapathError> {
    let entries = |name: &str| entries(name, &settings.sizes);
    let maps = pins.map(Pins::maps);
    load_with(settings, maps.as_deref(), &entries, &[])
}

/// The same onto the maps pinned in the directory `maps`; those that are not yet get so many `entries`.
///
/// # Errors
/// [`DatapathError`]: the kernel's refusal.
pub(super) fn load_onto(
    settings: &Settings,
    maps: &Path,
    entries: &dyn Fn(&str) -> Option<u32>,
    former: &[FormerTable],
) -> Result<Ebpf, DatapathError> {
    let at = |source| DatapathError::Pin {
        path: maps.to_owned(),
        source,
    };
    std::fs::create_dir_all(maps).map_err(at)?;
    load_with(settings, Some(maps), entries, former)
}

fn load_with(
    settings: &Settings,
    maps: Option<&Path>,
    entries: &dyn Fn(&str) -> Option<u32>,
    former: &[FormerTable],
) -> Result<Ebpf, DatapathError> {
    let Settings {
        sizes: _,
        hz,
        seed,
        log,
        tcp_reset_dead,
        timeouts,
        snat_ports,
        masquerade_all,
        host_routing,
        netns_cookie,
        set_retval,
    } = settings;
    let shift = tick_shift(*hz);
    let tcp_reset_dead = u32::from(*tcp_reset_dead);
    let timeouts = timeouts.in_ticks(*hz).table();
    let (snat_first, snat_count) = (u32::from(snat_ports.first), snat_ports.count());
    let set_retval = u32::from(*set_retval);
    let masquerade_all = u32::from(*masquerade_all);
    let host_routing = u32::from(*host_routing);
    let level = if *log { aya_log::Level::Trace as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    loader
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("HASH_SEED", seed, true)
        .override_global("CLOCK_SHIFT", &shift, true)
        .override_global("HZ", hz, true)
        .override_global("TCP_RESET_DEAD", &tcp_reset_dead, true)
        .override_global("TIMEOUTS", timeouts.as_slice(), true)
        .override_global("SNAT_FIRST", &snat_first, true)
        .override_global("SNAT_COUNT", &snat_count, true)
        .override_global("MASQUERADE_ALL", &masquerade_all, true)
        .override_global("HOST_ROUTING", &host_routing, true)
        .override_global("NETNS_COOKIE", netns_cookie, true)
        .override_global("HAS_SET_RETVAL", &set_retval, true)
        .override_global(aya_log::LEVEL, &level, true);
    for name in MAPS {
        if let Some(entries) = entries(name) {
            loader.map_max_entries(name, entries);
        }
        if let Some(maps) = maps {
            loader.map_pin_path(name, maps.join(name));
        }
    }
    for table in former {
        loader.map_pin_path(table.map, &*table.pin).override_global(
            table.words,
            &table.count,
            true,
        );
    }
    let mut ebpf = loader.load(OBJECT)?;
    for name in PROGRAMS {
        load_program(&mut ebpf, name)?;
    }
    Ok(ebpf)
}

fn load_program(ebpf: &mut Ebpf, name: &'static str) -> Result<(), DatapathError> {
    let program = program(ebpf, name)?;
    try_to_load(|| program.load()).map_err(|source| failed(name, source))
}

/// Loads a program, again if a signal came in between: the verifier stops for any that is pending and
/// leaves it to the caller to ask once more (EAGAIN; libbpf does the same).
pub(super) fn try_to_load(
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    let mut result = load();
    for _ in 1..LOAD_TRIES {
        match &result {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock =>
            {
                thread::sleep(LOAD_PAUSE);
                result = load();
            }
            _ => break,
        }
    }
    result
}

pub(super) fn failed(name: &'static str, source: ProgramError) -> DatapathError {
    DatapathError::Program {
        name,
        source: Box::new(source),
    }
}

/// Loads the object for its program `clock` alone, with maps of its own that go with it.
///
/// # Errors
/// [`DatapathError`]: the kernel's refusal.
pub fn load_clock() -> Result<Ebpf, DatapathError> {
    let mut ebpf = EbpfLoader::new().load(OBJECT)?;
    load_program(&mut ebpf, "clock")?;
    Ok(ebpf)
}

/// The TC program of that name.
///
/// # Errors
/// [`DatapathError::Missing`] or [`DatapathError::Program`], never for a name of [`PROGRAMS`].
pub fn program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DatapathError> {
    find(ebpf, name)
}

/// The same, loaded.
///
/// # Errors
/// The same, or the kernel's refusal.
pub fn loaded_program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, DatapathError> {
    let program = program(ebpf, name)?;
    if program.fd().is_err() {
        try_to_load(|| program.load()).map_err(|source| failed(name, source))?;
    }
    Ok(program)
}

/// The XDP program, loaded.
///
/// # Errors
/// [`DatapathError::Program`]: the kernel's refusal; before 5.18 it knows no frames of several buffers.
pub fn loaded_xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, DatapathError> {
    let program = find::<Xdp>(ebpf, XDP_PROGRAM)?;
    if program.fd().is_err() {
        try_to_load(|| program.load()).map_err(|source| failed(XDP_PROGRAM, source))?;
    }
    Ok(program)
}

/// The program of that name and kind.
pub(super) fn find<'a, P>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut P, DatapathError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or(DatapathError::Missing { name })?
        .try_into()
        .map_err(|source| failed(name, source))
}

/// Takes a map out of the object.
///
/// # Errors
/// [`DatapathError::Map`], never for a name of [`MAPS`].
pub fn take_map(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, DatapathError> {
    ebpf.take_map(name).ok_or_else(|| DatapathError::Map {
        name,
        source: Box::new(aya::maps::MapError::InvalidMapType { map_type: 0 }),
    })
}

/// The set size of a map; `None`: as the object has it.
pub(super) fn entries(name: &str, sizes: &Sizes) -> Option<u32> {
    match name {
        "SERVICES" => Some(sizes.services),
        // Each service port has a frontend, each VIP a mark besides; some have node ports and external addresses.
        "FRONTENDS_V4" | "FRONTENDS_V6" => Some(sizes.services.saturating_mul(4)),
        "TRAFFIC" => Some(sizes.services.saturating_mul(2)),
        "SLOTS_V4" | "SLOTS_V6" => Some(sizes.slots),
        "ENDPOINTS_V4" | "ENDPOINTS_V6" => Some(sizes.slots.min(MAX_ENDPOINTS)),
        "AFFINITY_V4" | "AFFINITY_V6" => Some(sizes.affinity),
        "SOCKETS_V4" | "SOCKETS_V6" => Some(sizes.sockets),
        "SOURCES_V4" | "SOURCES_V6" => Some(sizes.sources),
        "FLOWS_V4" | "FLOWS_V6" => Some(sizes.flows),
        "FRAGMENTS_V4" | "FRAGMENTS_V6" => Some(sizes.fragments),
        _ => None,
    }
}

/// Bytes of key and value of every map in the object.
///
/// # Errors
/// [`DatapathError::Object`], never for an object that was built.
pub(super) fn layouts() -> Result<BTreeMap<String, (usize, usize)>, DatapathError> {
    let object = aya_obj::Object::parse(OBJECT).map_err(aya::EbpfError::from)?;
    let layout = |(name, map): (&String, &aya_obj::Map)| {
        let sizes = (map.key_size() as usize, map.value_size() as usize);
        (name.clone(), sizes)
    };
    Ok(object.maps.iter().map(layout).collect())
}
