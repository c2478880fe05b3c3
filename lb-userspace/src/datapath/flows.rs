//! The flow tables, and what is counted of them: read piece by piece, and what is over or unwanted removed.
//!
//! Only the programs write entries; user space takes them away (`agent::sweep`, `duolb conntrack flush`). No syscall
//! looks and removes at once. So every entry of a flow is read again right before the first is removed, the
//! forward entry goes last, and what a packet does in between is mended by the next one: it finds the forward entry and
//! makes the others anew, or opens the flow again with the same endpoint (see docs/decisions/0011).

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray},
};
use lb_common::{
    address::{Address, Family, V4, V6},
    flow::{
        Flow, FlowKey,
        stats::{Churn, FlowStats, family_index},
    },
    tables::{Affinity, AffinityKey},
};

use super::{DatapathError, batch, pins::Pins};
use crate::conntrack::kin::{Entry, Kin};

/// What tables hold: plain bytes.
pub use aya::Pod as Plain;

/// A family whose flows have a table, by name.
pub trait Tracked: Address {
    /// Its flow table.
    const FLOWS: &'static str;
    /// Its clients with session affinity.
    const AFFINITY: &'static str;
}

impl Tracked for V4 {
    const FLOWS: &'static str = "FLOWS_V4";
    const AFFINITY: &'static str = "AFFINITY_V4";
}

impl Tracked for V6 {
    const FLOWS: &'static str = "FLOWS_V6";
    const AFFINITY: &'static str = "AFFINITY_V6";
}

/// A map of which elements are read in pieces and removed.
pub struct Table<K: Pod, V: Pod> {
    map: HashMap<MapData, K, V>,
    size: u32,
    name: &'static str,
}

/// The flow table of a family.
pub type FlowTable<A> = Table<FlowKey<A>, Flow<A>>;

/// The clients with session affinity of a family.
pub type AffinityTable<A> = Table<AffinityKey<A>, Affinity>;

/// A way through a table.
pub struct Walk<K, V>(batch::Walk<K, V>);

impl<K: Pod, V: Pod> Table<K, V> {
    /// The pinned one of that name.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn open(pins: &Pins, name: &'static str) -> Result<Self, DatapathError> {
        let map = pinned(pins, name)?;
        let size = info_size(&map).map_err(not_ours(name))?;
        let map = HashMap::try_from(map).map_err(not_ours(name))?;
        Ok(Self { map, size, name })
    }

    /// Entries there can be.
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// A way from the beginning, so many elements at a time.
    pub fn walk(&self, chunk: usize) -> Walk<K, V> {
        Walk(batch::Walk::new(chunk))
    }

    /// The next piece; `None` behind the last.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn next(&self, walk: &mut Walk<K, V>) -> Result<Option<Vec<(K, V)>>, DatapathError> {
        let piece = walk.0.next(&self.map).map_err(not_ours(self.name))?;
        Ok(piece.map(|(keys, values)| keys.iter().copied().zip(values.iter().copied()).collect()))
    }

    /// What stands at `key`.
    pub fn find(&self, key: &K) -> Option<V> {
        self.map.get(key, 0).ok()
    }

    /// Removes what stands at `key`; whether there was something.
    pub fn remove(&mut self, key: &K) -> bool {
        // A hash refuses for no other reason than that there is nothing.
        self.map.remove(key).is_ok()
    }
}

impl<A: Address> FlowTable<A>
where
    FlowKey<A>: Pod,
    Flow<A>: Pod,
{
    /// Removes all entries of a flow, if none of them has been used since they were read; how many it were.
    pub fn remove_idle(&mut self, kin: &Kin<A>) -> u32 {
        let is_same = |(key, flow): &Entry<A>| {
            self.find(key)
                .is_none_or(|found| found.seen == flow.seen && found.flags == flow.flags)
        };
        if kin.entries().all(is_same) {
            self.remove_all(kin)
        } else {
            0
        }
    }

    /// Removes all entries of a flow; how many it were.
    pub fn remove_all(&mut self, kin: &Kin<A>) -> u32 {
        let mut removed = 0;
        for (key, _) in kin.entries() {
            removed += u32::from(self.remove(key));
        }
        removed
    }
}

/// What is counted of the flow tables.
pub struct Counters {
    churn: PerCpuArray<MapData, Churn>,
    stats: Array<MapData, FlowStats>,
    flushed: Array<MapData, u64>,
}

impl Counters {
    /// The pinned ones.
    ///
    /// # Errors
    /// [`DatapathError::Map`], here and below.
    pub fn open(pins: &Pins) -> Result<Self, DatapathError> {
        Ok(Self {
            churn: typed(pins, "CHURN")?,
            stats: typed(pins, "FLOW_STATS")?,
            flushed: typed(pins, "FLUSHED")?,
        })
    }

    /// What the programs have put in and taken out.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn churn(&self, family: Family) -> Result<Churn, DatapathError> {
        let cpus = self
            .churn
            .get(&family_index(family), 0)
            .map_err(not_ours("CHURN"))?;
        let sum = |sum: Churn, cpu: &Churn| Churn {
            inserted: sum.inserted + cpu.inserted,
            removed: sum.removed + cpu.removed,
        };
        Ok(cpus.iter().fold(Churn::default(), sum))
    }

    /// What the agent last found.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn stats(&self, family: Family) -> Result<FlowStats, DatapathError> {
        let stats = self.stats.get(&family_index(family), 0);
        stats.map_err(not_ours("FLOW_STATS"))
    }

    /// Publishes what it has found now.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn set_stats(&mut self, family: Family, stats: &FlowStats) -> Result<(), DatapathError> {
        let set = self.stats.set(family_index(family), stats, 0);
        set.map_err(not_ours("FLOW_STATS"))
    }

    /// Entries that were removed on request.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn flushed(&self, family: Family) -> Result<u64, DatapathError> {
        let flushed = self.flushed.get(&family_index(family), 0);
        flushed.map_err(not_ours("FLUSHED"))
    }

    /// So many more were.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn add_flushed(&mut self, family: Family, entries: u64) -> Result<(), DatapathError> {
        let sum = self.flushed(family)? + entries;
        let set = self.flushed.set(family_index(family), sum, 0);
        set.map_err(not_ours("FLUSHED"))
    }
}

fn pinned(pins: &Pins, name: &'static str) -> Result<Map, DatapathError> {
    MapData::from_pin(pins.map(name))
        .and_then(Map::from_map_data)
        .map_err(not_ours(name))
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    pins: &Pins,
    name: &'static str,
) -> Result<T, DatapathError> {
    T::try_from(pinned(pins, name)?).map_err(not_ours(name))
}

fn info_size(map: &Map) -> Result<u32, MapError> {
    match map {
        Map::HashMap(data) | Map::LruHashMap(data) => Ok(data.info()?.max_entries()),
        _ => Err(MapError::InvalidMapType { map_type: 0 }),
    }
}

fn not_ours(name: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map {
        name,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conntrack::kin::assemble;

    #[test]
    fn a_flow_that_was_used_after_it_was_read_is_not_removed() {
        let Ok(map) = HashMap::create(64, 0) else {
            eprintln!("skipped: making BPF maps takes root");
            return;
        };
        let mut table = FlowTable::<V4> {
            map,
            size: 64,
            name: "test",
        };
        let key = FlowKey {
            sport: 1,
            proto: 6,
            ..FlowKey::default()
        };
        let forward = Flow {
            peer_port: 2,
            client_port: 1,
            seen: 5,
            ..Flow::default()
        };
        let all = [
            (key, forward),
            (forward.reply_key(&key), forward.reply_entry(&key)),
        ];
        let put = |table: &mut FlowTable<V4>, seen: [u32; 2]| {
            for ((key, flow), seen) in all.iter().zip(seen) {
                let flow = Flow { seen, ..*flow };
                table.map.insert(key, flow, 0).unwrap();
            }
        };
        put(&mut table, [5, 5]);
        let kin = assemble(all[1], |key| table.find(key));
        assert_eq!(kin.entries().count(), 2);
        for used in [[6, 5], [5, 6]] {
            put(&mut table, used);
            assert_eq!(table.remove_idle(&kin), 0, "{used:?}");
            assert!(all.iter().all(|(key, _)| table.find(key).is_some()));
        }
        put(&mut table, [5, 5]);
        assert_eq!(table.remove_idle(&kin), 2);
        assert!(all.iter().all(|(key, _)| table.find(key).is_none()));
    }

    #[test]
    fn a_walk_in_small_pieces_sees_every_entry_and_may_remove_them() {
        let Ok(map) = HashMap::create(4_096, 0) else {
            eprintln!("skipped: making BPF maps takes root");
            return;
        };
        let mut table = Table::<u32, u32> {
            map,
            size: 4_096,
            name: "test",
        };
        for key in 0..1_000 {
            table.map.insert(key, key, 0).unwrap();
        }
        let mut seen = Vec::new();
        let mut walk = table.walk(100);
        while let Some(piece) = table.next(&mut walk).unwrap() {
            for (key, _) in piece {
                assert!(table.remove(&key));
                seen.push(key);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    }
}
