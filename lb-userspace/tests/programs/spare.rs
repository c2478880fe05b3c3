//! Loaded programs that tests hand on to each other: the verifier takes seconds for them, a test milliseconds.
//!
//! What a test leaves behind is in maps: all that its programs know are emptied, so that the next test finds them
//! as the loader makes them. A test that failed hands nothing on.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use aya::{
    Pod,
    maps::{
        Array, HashMap, LpmTrie, Map, MapData, MapInfo, PerCpuArray, PerCpuValues, lpm_trie::Key,
    },
    util::nr_cpus,
};
use duolb::datapath::{Object, object};
use lb_common::{
    address::{V4, V6},
    flow::{Flow, FlowKey, stats::Churn},
    pieces::{PieceKey, Pieces},
    tables::{
        Affinity, AffinityKey, Device, Endpoint, Frontend, FrontendKey, Source, Traffic, VipRange,
    },
};

use crate::kernel::Loaded;

/// What waits for a test that wants the same settings.
static SPARE: Mutex<Vec<(String, Loaded)>> = Mutex::new(Vec::new());

/// Programs loaded with such settings, with empty maps.
pub fn take(settings: &str) -> Option<Loaded> {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    let at = spare.iter().position(|(those, _)| those == settings)?;
    Some(spare.swap_remove(at).1)
}

/// Keeps `loaded` for another test, after emptying its maps.
pub fn give(settings: String, mut loaded: Loaded) {
    loaded.maps.empty();
    loaded.tables.forget();
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    spare.push((settings, loaded));
}

/// Empties one map.
type Emptied = Box<dyn FnMut() + Send>;

/// The maps of the loaded programs.
pub struct Maps(Vec<Emptied>);

impl Maps {
    /// Opens them once more, whoever else has them.
    pub fn open(object: &mut Object) -> Self {
        let mut ids = BTreeSet::new();
        for name in object::PROGRAMS {
            let info = object::program(object, name).unwrap().info().unwrap();
            ids.extend(info.map_ids().unwrap().expect("kernels since 4.15 say so"));
        }
        Self(ids.into_iter().filter_map(emptied).collect())
    }

    fn empty(&mut self) {
        for empty in &mut self.0 {
            empty();
        }
    }
}

/// How the map of that id is emptied; `None`: nobody writes it.
fn emptied(id: u32) -> Option<Emptied> {
    let info = MapInfo::from_id(id).unwrap();
    let name = info.name_as_str().expect("a name").to_owned();
    // Constants; what only an exchange of maps uses; and what tests load without.
    if name.contains("rodata") || name.starts_with("FORMER") || name == "AYA_LOGS" {
        return None;
    }
    let map = Map::from_map_data(MapData::from_id(id).unwrap()).unwrap();
    Some(match &*name {
        "FRONTENDS_V4" => hash::<FrontendKey<V4>, Frontend>(map),
        "FRONTENDS_V6" => hash::<FrontendKey<V6>, Frontend>(map),
        "FILTER_V4" | "FILTER_V6" => array::<8>(map),
        "AFFINITY_V4" => hash::<AffinityKey<V4>, Affinity>(map),
        "AFFINITY_V6" => hash::<AffinityKey<V6>, Affinity>(map),
        "FLOWS_V4" => hash::<FlowKey<V4>, Flow<V4>>(map),
        "FLOWS_V6" => hash::<FlowKey<V6>, Flow<V6>>(map),
        "FRAGMENTS_V4" => hash::<PieceKey<V4>, Pieces>(map),
        "FRAGMENTS_V6" => hash::<PieceKey<V6>, Pieces>(map),
        "DEVICES" => hash::<u32, Device>(map),
        "SOURCES_V4" => prefixes::<Source<V4>>(map),
        "SOURCES_V6" => prefixes::<Source<V6>>(map),
        "SLOTS_V4" | "SLOTS_V6" | "MOVED" | "CHANGES" => array::<4>(map),
        "ENDPOINTS_V4" => array::<{ size_of::<Endpoint<V4>>() }>(map),
        "ENDPOINTS_V6" => array::<{ size_of::<Endpoint<V6>>() }>(map),
        "RANGES_V4" | "LOCALS_V4" => array::<{ size_of::<VipRange<V4>>() }>(map),
        "RANGES_V6" | "LOCALS_V6" => array::<{ size_of::<VipRange<V6>>() }>(map),
        "CHURN" => counters::<{ size_of::<Churn>() }>(map),
        "TRAFFIC" => counters::<{ size_of::<Traffic>() }>(map),
        "VERDICTS" | "REJECTS" => counters::<8>(map),
        _ => panic!("programs use a map {name}, and nobody says how it is emptied"),
    })
}

fn hash<K: Pod + Send, V: Pod + Send>(map: Map) -> Emptied {
    let mut map: HashMap<MapData, K, V> = map.try_into().unwrap();
    Box::new(move || {
        let keys: Vec<K> = map.keys().map(Result::unwrap).collect();
        for key in keys {
            map.remove(&key).unwrap();
        }
    })
}

fn prefixes<K: Pod + Send>(map: Map) -> Emptied {
    let mut map: LpmTrie<MapData, K, u32> = map.try_into().unwrap();
    Box::new(move || {
        let keys: Vec<Key<K>> = map.keys().map(Result::unwrap).collect();
        for key in keys {
            map.remove(&key).unwrap();
        }
    })
}

fn array<const SIZE: usize>(map: Map) -> Emptied {
    let mut map: Array<MapData, [u8; SIZE]> = map.try_into().unwrap();
    Box::new(move || {
        for index in 0..map.len() {
            map.set(index, [0; SIZE], 0).unwrap();
        }
    })
}

fn counters<const SIZE: usize>(map: Map) -> Emptied {
    let mut map: PerCpuArray<MapData, [u8; SIZE]> = map.try_into().unwrap();
    let cpus = nr_cpus().map_err(|(_, error)| error).unwrap();
    Box::new(move || {
        for index in 0..map.len() {
            let zeros = PerCpuValues::try_from(vec![[0; SIZE]; cpus]).unwrap();
            map.set(index, zeros, 0).unwrap();
        }
    })
}
