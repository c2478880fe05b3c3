//! The real maps behind the control plane's door: the only place that writes them.
//!
//! What belongs to a family is in `family`; here is what they share, and what the agent writes besides.

mod family;
mod filter;
mod locals;

pub use self::locals::LocalsMap;

use self::filter::Filter;

pub(super) use self::family::read_sources;

use std::{collections::BTreeMap, io};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use lb_common::{
    address::{Address, Family, V4, V6},
    tables::{
        AgentState, Device, Endpoint, Frontend, FrontendKey, ProblemText, ServiceRecord, Source,
        Traffic, VipRange, change, traffic_index,
    },
};

use super::{DatapathError, batch, object, pins::Pins};
use crate::control::maps::{Maps, MapsError, Table};

/// The maps of one family.
struct Tables<A: Address>
where
    FrontendKey<A>: Pod,
    Endpoint<A>: Pod,
    VipRange<A>: Pod,
    Source<A>: Pod,
{
    frontends: HashMap<MapData, FrontendKey<A>, Frontend>,
    /// The service port that each is of.
    owners: BTreeMap<FrontendKey<A>, u32>,
    filter: Filter,
    slots: Array<MapData, u32>,
    endpoints: Array<MapData, Endpoint<A>>,
    ranges: Array<MapData, VipRange<A>>,
    sources: LpmTrie<MapData, Source<A>, u32>,
    source_capacity: u32,
}

/// The pinned maps that the agent writes.
pub struct KernelMaps {
    v4: Tables<V4>,
    v6: Tables<V6>,
    services: HashMap<MapData, u32, ServiceRecord>,
    traffic: PerCpuArray<MapData, Traffic>,
    changes: Array<MapData, u32>,
    /// What `changes` holds of it.
    epoch: u32,
    agent: Array<MapData, AgentState>,
    problems: Array<MapData, ProblemText>,
    /// What `problems` holds; `None`: what an agent before this one wrote.
    told: Option<Vec<ProblemText>>,
    service_capacity: u32,
    cpus: usize,
}

/// Which of the families' maps are meant: the one place where the type parameter becomes a field.
trait Select<A: Address>
where
    FrontendKey<A>: Pod,
    Endpoint<A>: Pod,
    VipRange<A>: Pod,
    Source<A>: Pod,
{
    fn tables(&self) -> &Tables<A>;
    fn tables_mut(&mut self) -> &mut Tables<A>;
}

macro_rules! select {
    ($family:ty, $field:ident) => {
        impl Select<$family> for KernelMaps {
            fn tables(&self) -> &Tables<$family> {
                &self.$field
            }
            fn tables_mut(&mut self) -> &mut Tables<$family> {
                &mut self.$field
            }
        }
    };
}
select!(V4, v4);
select!(V6, v6);

impl<A: Address> Tables<A>
where
    FrontendKey<A>: Pod,
    Endpoint<A>: Pod,
    VipRange<A>: Pod,
    Source<A>: Pod,
{
    fn take(
        ebpf: &mut Ebpf,
        frontends: &'static str,
        filter: &'static str,
        slots: &'static str,
        endpoints: &'static str,
        ranges: &'static str,
        sources: &'static str,
    ) -> Result<Self, DatapathError> {
        let trie = object::take_map(ebpf, sources)?;
        // Of a trie the library does not say how large it is.
        let source_capacity = match &trie {
            Map::LpmTrie(trie) => trie.info().map_err(not_ours(sources))?.max_entries(),
            _ => 0,
        };
        let table = typed(ebpf, frontends)?;
        let name = filter;
        let mut filter = Filter::take(typed(ebpf, name)?).map_err(not_ours(name))?;
        // Whoever wrote the frontends may not have known of it.
        let there: Vec<(FrontendKey<A>, Frontend)> =
            batch::read(&table).map_err(not_ours(frontends))?;
        filter
            .renew(there.iter().map(|(key, _)| *key))
            .map_err(not_ours(frontends))?;
        let owner = |(key, frontend): (_, Frontend)| (key, frontend.service);
        Ok(Self {
            frontends: table,
            owners: there.into_iter().map(owner).collect(),
            filter,
            slots: typed(ebpf, slots)?,
            endpoints: typed(ebpf, endpoints)?,
            ranges: typed(ebpf, ranges)?,
            sources: trie.try_into().map_err(not_ours(sources))?,
            source_capacity,
        })
    }
}

/// Takes the map `name` out of the object as a `T`.
fn typed<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, DatapathError> {
    object::take_map(ebpf, name)?
        .try_into()
        .map_err(not_ours(name))
}

/// What is wrong with the map `name`.
fn not_ours(name: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map {
        name,
        source: Box::new(source),
    }
}

impl KernelMaps {
    /// Takes the control plane's maps out of the loaded object.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let traffic: PerCpuArray<MapData, Traffic> = typed(ebpf, "TRAFFIC")?;
        let changes: Array<MapData, u32> = typed(ebpf, "CHANGES")?;
        let cpus = nr_cpus().map_err(|(path, source)| DatapathError::Pin {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            v4: Tables::take(
                ebpf,
                "FRONTENDS_V4",
                "FILTER_V4",
                "SLOTS_V4",
                "ENDPOINTS_V4",
                "RANGES_V4",
                "SOURCES_V4",
            )?,
            v6: Tables::take(
                ebpf,
                "FRONTENDS_V6",
                "FILTER_V6",
                "SLOTS_V6",
                "ENDPOINTS_V6",
                "RANGES_V6",
                "SOURCES_V6",
            )?,
            services: typed(ebpf, "SERVICES")?,
            epoch: changes
                .get(&change::EPOCH, 0)
                .map_err(not_ours("CHANGES"))?,
            changes,
            agent: typed(ebpf, "AGENT")?,
            problems: typed(ebpf, "PROBLEMS")?,
            told: None,
            service_capacity: traffic.len() / 2,
            traffic,
            cpus,
        })
    }

    /// Has datagrams look for their frontends again, of which one is gone or another service's.
    fn tell_change(&mut self) -> Result<(), MapError> {
        self.epoch = self.epoch.wrapping_add(1);
        self.changes.set(change::EPOCH, self.epoch, 0)
    }

    /// Publishes what the agent says of itself.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn set_agent(&mut self, state: &AgentState) -> Result<(), DatapathError> {
        self.agent
            .set(0, state, 0)
            .map_err(|source| DatapathError::Map {
                name: "AGENT",
                source: Box::new(source),
            })
    }
}

impl KernelMaps {
    /// Publishes what is not served as it should be, as much of it as there is room for.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn set_problems<T: AsRef<str>>(&mut self, problems: &[T]) -> Result<(), DatapathError> {
        let room = self.problems.len();
        let texts = problems.iter().map(|text| ProblemText::new(text.as_ref()));
        let texts: Vec<_> = texts.take(room as usize).collect();
        if self.told.as_ref() == Some(&texts) {
            return Ok(());
        }
        // Unknown as long as it is half written.
        let before = self.told.take().map_or(room as usize, |told| told.len());
        let none = ProblemText::default();
        let all = texts.iter().chain(std::iter::repeat(&none));
        for (index, text) in (0..).zip(all.take(before.max(texts.len()))) {
            let set = self.problems.set(index, text, 0);
            set.map_err(not_ours("PROBLEMS"))?;
        }
        self.told = Some(texts);
        Ok(())
    }
}

/// Publishes that the agent before this one is gone, before anything else is done: whoever asks must not
/// take the predecessor's word for this one's. Without a map there is no such word.
pub fn forget_agent(pins: &Pins) {
    let map = MapData::from_pin(pins.map("AGENT")).and_then(Map::from_map_data);
    if let Ok(mut agent) = map.and_then(Array::<MapData, AgentState>::try_from) {
        let _ = agent.set(0, AgentState::default(), 0);
    }
}

/// The devices' map, written by `attach` through these two.
pub struct DeviceMap(HashMap<MapData, u32, Device>);

impl DeviceMap {
    /// Takes the map out of the loaded object.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        typed(ebpf, "DEVICES").map(Self)
    }

    /// Tells the datapath about a device.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn put(&mut self, ifindex: u32, device: &Device) -> Result<(), DatapathError> {
        self.0.insert(ifindex, device, 0).map_err(|error| {
            // The kernel's word for it is "argument list too long".
            let is_full = |error: &io::Error| error.raw_os_error() == Some(nix::libc::E2BIG);
            match error {
                MapError::SyscallError(error) if is_full(&error.io_error) => DatapathError::Full {
                    name: "DEVICES",
                    remedy: "--devices names those that are to be served",
                },
                error => not_ours("DEVICES")(error),
            }
        })
    }

    /// Forgets a device; one that is not there is no error.
    pub fn remove(&mut self, ifindex: u32) {
        // Nothing else can fail for a hash map but that the key is absent.
        let _ = self.0.remove(&ifindex);
    }

    /// How the programs are attached to a device; 0 if it is not in the map.
    pub fn attached(&self, ifindex: u32) -> u32 {
        self.0.get(&ifindex, 0).map_or(0, |device| device.attached)
    }

    /// All devices in the map.
    pub fn ifindexes(&self) -> Vec<u32> {
        self.0.keys().filter_map(Result::ok).collect()
    }
}

/// What the kernel said, as the control plane's error.
fn failed(table: Table) -> impl Fn(MapError) -> MapsError {
    move |error| {
        let source = match error {
            MapError::OutOfBounds { .. } => return MapsError::Full { table },
            MapError::SyscallError(error) => error.io_error,
            other => io::Error::other(other),
        };
        match source.raw_os_error() {
            Some(nix::libc::E2BIG | nix::libc::ENOMEM | nix::libc::ENOSPC) => {
                MapsError::Full { table }
            }
            _ => MapsError::Io { table, source },
        }
    }
}

/// Takes "there is none" as success.
fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

impl Maps for KernelMaps {
    fn service_capacity(&self) -> u32 {
        self.service_capacity
    }

    fn put_service(&mut self, id: u32, record: &ServiceRecord) -> Result<(), MapsError> {
        self.services
            .insert(id, record, 0)
            .map_err(failed(Table::Services))
    }

    fn put_services(&mut self, records: &[(u32, ServiceRecord)]) -> Result<(), MapsError> {
        let (ids, records): (Vec<_>, Vec<_>) = records.iter().copied().unzip();
        batch::update(&mut self.services, &ids, &records).map_err(failed(Table::Services))
    }

    fn remove_service(&mut self, id: u32) -> Result<(), MapsError> {
        absent_is_fine(self.services.remove(&id)).map_err(failed(Table::Services))
    }

    fn reset_traffic(&mut self, id: u32) -> Result<(), MapsError> {
        let zero = || {
            PerCpuValues::try_from(vec![Traffic::default(); self.cpus]).map_err(|source| {
                MapsError::Io {
                    table: Table::Traffic,
                    source,
                }
            })
        };
        for family in Family::BOTH {
            let values = zero()?;
            self.traffic
                .set(traffic_index(id, family), values, 0)
                .map_err(failed(Table::Traffic))?;
        }
        Ok(())
    }

    fn services(&self) -> Result<Vec<(u32, ServiceRecord)>, MapsError> {
        batch::read(&self.services).map_err(failed(Table::Services))
    }
}
