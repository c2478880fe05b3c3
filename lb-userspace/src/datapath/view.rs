//! What is in the kernel, read from the pins: works while no agent runs.

use std::net::IpAddr;

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray},
};
use ipnet::IpNet;
use lb_common::{
    address::{Address, Family, V4, V6},
    flow::stats::{Churn, FlowStats},
    tables::{
        AgentState, Device, Endpoint, Frontend, FrontendKey, ProblemText, ServiceRecord, Source,
        Traffic, endpoint_index, traffic_index,
    },
    verdict::Verdict,
};

use super::{DatapathError, batch, flows::Counters, object, pins::Pins, tables::read_sources};
use crate::{
    control::maps::{SourceRange, slots_end},
    model::TrafficPolicy,
};

/// A pinned datapath, open for reading.
pub struct View {
    pins: Pins,
}

/// A frontend with all that is known of it.
#[derive(Clone, Debug)]
pub struct FrontendView {
    /// The VIP.
    pub address: IpAddr,
    /// Its port, host byte order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Id of the service port.
    pub service: u32,
    /// Which list of endpoints it leads to.
    pub policy: TrafficPolicy,
    /// Without endpoints: whether clients are left without an answer instead of being refused (rule 41).
    pub drop: bool,
    /// Session affinity in seconds; 0: none.
    pub affinity: u32,
    /// Where traffic goes: addresses and ports (host byte order).
    pub endpoints: Vec<(IpAddr, u16)>,
    /// Where that of clients inside goes, if elsewhere (rules 42 and 45).
    pub inside: Option<Vec<(IpAddr, u16)>>,
    /// What it is, and for whom: bits of [`Frontend`].
    pub flags: u32,
    /// The networks that clients must be in, if they must be in any (rule 47).
    pub sources: Option<Vec<IpNet>>,
    /// What went through it, in its family.
    pub traffic: Traffic,
}

/// A map's fill.
#[derive(Clone, Debug)]
pub struct MapView {
    /// Its name.
    pub name: &'static str,
    /// Entries in use; `None` for arrays, which have no such notion.
    pub used: Option<usize>,
    /// Entries there can be.
    pub size: u32,
}

impl View {
    /// Opens what is pinned.
    ///
    /// # Errors
    /// [`DatapathError::Absent`] if there is nothing.
    pub fn open(pins: Pins) -> Result<Self, DatapathError> {
        if pins.exist() {
            Ok(Self { pins })
        } else {
            Err(DatapathError::Absent { path: pins.dir() })
        }
    }

    fn map<T: TryFrom<Map, Error = MapError>>(
        &self,
        name: &'static str,
    ) -> Result<T, DatapathError> {
        MapData::from_pin(self.pins.map(name))
            .and_then(Map::from_map_data)
            .and_then(T::try_from)
            .map_err(|source| DatapathError::Map {
                name,
                source: Box::new(source),
            })
    }

    /// What the agent last said of itself.
    ///
    /// # Errors
    /// [`DatapathError::Map`], here and below.
    pub fn agent(&self) -> Result<AgentState, DatapathError> {
        let map: Array<_, AgentState> = self.map("AGENT")?;
        map.get(&0, 0).map_err(|source| failed("AGENT", source))
    }

    /// What the agent last could not serve as it should; as many of them as are kept.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn problems(&self) -> Result<Vec<String>, DatapathError> {
        let map: Array<_, ProblemText> = self.map("PROBLEMS")?;
        let texts = batch::read_used(&map).map_err(|source| failed("PROBLEMS", source))?;
        Ok(texts
            .iter()
            .filter_map(|text| text.get().map(str::to_owned))
            .collect())
    }

    /// Devices with the programs, by ifindex.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn devices(&self) -> Result<Vec<(u32, Device)>, DatapathError> {
        let map: HashMap<_, u32, Device> = self.map("DEVICES")?;
        entries(&map, "DEVICES")
    }

    /// How often each verdict was given.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn verdicts(&self) -> Result<Vec<(Verdict, u64)>, DatapathError> {
        let map: PerCpuArray<_, u64> = self.map("VERDICTS")?;
        let count = |verdict: &Verdict| {
            let values = map
                .get(&(*verdict as u32), 0)
                .map_err(|source| failed("VERDICTS", source))?;
            Ok((*verdict, values.iter().sum()))
        };
        Verdict::ALL.iter().map(count).collect()
    }

    /// The records of all service ports, by id.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn services(&self) -> Result<Vec<(u32, ServiceRecord)>, DatapathError> {
        let map: HashMap<_, u32, ServiceRecord> = self.map("SERVICES")?;
        entries(&map, "SERVICES")
    }

    /// What went through the service ports with these ids, in each family.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn traffic(
        &self,
        ids: impl IntoIterator<Item = u32>,
    ) -> Result<Vec<(u32, Family, Traffic)>, DatapathError> {
        let map: PerCpuArray<_, Traffic> = self.map("TRAFFIC")?;
        let both = |id| [(id, Family::V4), (id, Family::V6)];
        let read = |(id, family)| {
            let counters = map
                .get(&traffic_index(id, family), 0)
                .map_err(|source| failed("TRAFFIC", source))?;
            Ok((id, family, counters.iter().fold(Traffic::default(), add)))
        };
        ids.into_iter().flat_map(both).map(read).collect()
    }

    /// All frontends of both families; the marks of VIPs are none.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn frontends(&self) -> Result<Vec<FrontendView>, DatapathError> {
        let mut all =
            self.family::<V4>("FRONTENDS_V4", "SLOTS_V4", "ENDPOINTS_V4", "SOURCES_V4")?;
        all.extend(self.family::<V6>("FRONTENDS_V6", "SLOTS_V6", "ENDPOINTS_V6", "SOURCES_V6")?);
        Ok(all)
    }

    fn family<A: Address>(
        &self,
        frontends: &'static str,
        slots_name: &'static str,
        endpoints_name: &'static str,
        sources_name: &'static str,
    ) -> Result<Vec<FrontendView>, DatapathError>
    where
        FrontendKey<A>: Pod,
        Endpoint<A>: Pod,
        Source<A>: Pod,
    {
        let map: HashMap<_, FrontendKey<A>, Frontend> = self.map(frontends)?;
        let slots: Array<_, u32> = self.map(slots_name)?;
        let all: Array<_, Endpoint<A>> = self.map(endpoints_name)?;
        let traffic: PerCpuArray<_, Traffic> = self.map("TRAFFIC")?;
        let frontends = batch::read(&map).map_err(|source| failed(frontends, source))?;
        let sources: LpmTrie<_, Source<A>, u32> = self.map(sources_name)?;
        let sources = read_sources(&sources).map_err(|source| failed(sources_name, source))?;
        let end = slots_end(frontends.iter().map(|(_, frontend)| *frontend)) as usize;
        let slots = batch::read_first(&slots, end).map_err(|source| failed(slots_name, source))?;
        let end = slots
            .iter()
            .map(|id| endpoint_index(*id) as usize + 1)
            .max();
        let all = batch::read_first(&all, end.unwrap_or(0))
            .map_err(|source| failed(endpoints_name, source))?;
        let view = |(key, frontend): (FrontendKey<A>, Frontend)| {
            let endpoints = |base: u32, count: u32| -> Vec<(IpAddr, u16)> {
                let range = base as usize..base.saturating_add(count) as usize;
                let ids = slots.get(range).unwrap_or_default().iter();
                // An id whose place has gone to another endpoint leads nowhere.
                let endpoints = ids.filter_map(|id| {
                    let endpoint = all.get(endpoint_index(*id) as usize)?;
                    let is_it = endpoint.id == *id;
                    is_it.then(|| (endpoint.addr.to_ip(), u16::from_be(endpoint.port)))
                });
                endpoints.collect()
            };
            let has = |flag| frontend.flags & flag != 0;
            let networks = || networks(&sources, frontend.service);
            let counters = traffic
                .get(&traffic_index(frontend.service, A::FAMILY), 0)
                .map_err(|source| failed("TRAFFIC", source))?;
            Ok(FrontendView {
                address: key.addr.to_ip(),
                port: u16::from_be(key.port),
                protocol: key.proto,
                service: frontend.service,
                policy: if has(Frontend::LOCAL | Frontend::SPLIT) {
                    TrafficPolicy::Local
                } else {
                    TrafficPolicy::Cluster
                },
                drop: has(Frontend::DROP),
                affinity: frontend.affinity,
                endpoints: endpoints(frontend.slot_base, frontend.slot_count),
                inside: has(Frontend::SPLIT)
                    .then(|| endpoints(frontend.inner_base, frontend.inner_count)),
                flags: frontend.flags,
                sources: has(Frontend::SOURCE_RANGES).then(networks),
                traffic: counters.iter().fold(Traffic::default(), add),
            })
        };
        let frontends = frontends.into_iter();
        frontends
            .filter(|(_, frontend)| frontend.flags & Frontend::VIP == 0)
            .map(view)
            .collect()
    }

    /// For how many seconds clients stay with their endpoint, by id of the service port, where they do.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn affinities(&self) -> Result<std::collections::HashMap<u32, u32>, DatapathError> {
        let v4: HashMap<_, FrontendKey<V4>, Frontend> = self.map("FRONTENDS_V4")?;
        let v6: HashMap<_, FrontendKey<V6>, Frontend> = self.map("FRONTENDS_V6")?;
        let v4 = batch::read(&v4).map_err(|source| failed("FRONTENDS_V4", source))?;
        let v6 = batch::read(&v6).map_err(|source| failed("FRONTENDS_V6", source))?;
        let (v4, v6) = (v4.into_iter(), v6.into_iter());
        let all = v4.map(|(_, frontend)| frontend);
        let all = all.chain(v6.map(|(_, frontend)| frontend));
        let sticky = all.filter(|frontend| frontend.affinity != 0);
        Ok(sticky
            .map(|frontend| (frontend.service, frontend.affinity))
            .collect())
    }

    /// The fill of every map.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn maps(&self) -> Result<Vec<MapView>, DatapathError> {
        object::MAPS.iter().map(|name| self.fill(name)).collect()
    }

    fn fill(&self, name: &'static str) -> Result<MapView, DatapathError> {
        let data = MapData::from_pin(self.pins.map(name)).map_err(|source| failed(name, source))?;
        let info = data.info().map_err(|source| failed(name, source))?;
        let size = info.max_entries();
        let used = match name {
            "FRONTENDS_V4" => Some(self.count::<FrontendKey<V4>, Frontend>(name)?),
            "FRONTENDS_V6" => Some(self.count::<FrontendKey<V6>, Frontend>(name)?),
            "SERVICES" => Some(self.count::<u32, ServiceRecord>(name)?),
            "DEVICES" => Some(self.count::<u32, Device>(name)?),
            // As the agent last found it: to count them takes a walk through all of it.
            "FLOWS_V4" => self.flow_entries(Family::V4)?,
            "FLOWS_V6" => self.flow_entries(Family::V6)?,
            _ => None,
        };
        Ok(MapView { name, used, size })
    }

    fn flow_entries(&self, family: Family) -> Result<Option<usize>, DatapathError> {
        let stats = Counters::open(&self.pins)?.stats(family)?;
        Ok((stats.swept_at != 0).then_some(stats.entries as usize))
    }

    /// What was last found in the flow tables, and what the programs put in and took out.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn flow_stats(&self) -> Result<Vec<(Family, FlowStats, Churn)>, DatapathError> {
        let counters = Counters::open(&self.pins)?;
        let of = |family| Ok((family, counters.stats(family)?, counters.churn(family)?));
        Family::BOTH.into_iter().map(of).collect()
    }

    fn count<K: Pod, V: Pod>(&self, name: &'static str) -> Result<usize, DatapathError> {
        let map: HashMap<_, K, V> = self.map(name)?;
        Ok(map.keys().filter_map(Result::ok).count())
    }
}

/// The networks of the clients that a service port admits, in order.
fn networks<A: Address>(sources: &[SourceRange<A>], service: u32) -> Vec<IpNet> {
    let own = sources
        .iter()
        .filter(|range| range.source.service == service);
    let network = |range: &SourceRange<A>| {
        let prefix = range.prefix.checked_sub(SourceRange::<A>::SERVICE_BITS)?;
        IpNet::new(range.source.addr.to_ip(), u8::try_from(prefix).ok()?).ok()
    };
    let mut networks: Vec<IpNet> = own.filter_map(network).collect();
    networks.sort_unstable();
    networks
}

fn entries<K: Pod, V: Pod>(
    map: &HashMap<MapData, K, V>,
    name: &'static str,
) -> Result<Vec<(K, V)>, DatapathError> {
    map.iter()
        .collect::<Result<_, _>>()
        .map_err(|source| failed(name, source))
}

fn failed(name: &'static str, source: MapError) -> DatapathError {
    DatapathError::Map {
        name,
        source: Box::new(source),
    }
}

fn add(sum: Traffic, one: &Traffic) -> Traffic {
    Traffic {
        flows: sum.flows + one.flows,
        packets_in: sum.packets_in + one.packets_in,
        bytes_in: sum.bytes_in + one.bytes_in,
        packets_out: sum.packets_out + one.packets_out,
        bytes_out: sum.bytes_out + one.bytes_out,
    }
}
