//! From the maps that are pinned to the programs that serve: onto those maps if they are what is asked for, else by a
//! switch to others beside them, which loses nothing.
//!
//! Long because: the steps, and what each of them copies, make one argument.
//!
//! ```text
//!   open    fill `next` with what is in force, put it in force           nobody uses it yet
//!           exchange programs                                           they work on the flows in the former table
//!   finish  carry over what is left there; have nothing more put there   they bring over what is missing
//!           load programs that know no former tables; remove those
//!           exchange programs again
//! ```
//!
//! The agent may die anywhere: see `generations` for what the next one makes of it. What is copied serves as it
//! is, so that nothing here waits for the API server (rule 5): between two versions values only grow at their end.

use std::{collections::BTreeMap, io};

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use lb_common::{
    former::{AFFINITY_WORDS, FLOW_WORDS, SOCKET_WORDS},
    tables::{CARRIED_SINCE, SCHEMA_VERSION},
};

use super::{
    DatapathError,
    generations::{Generation, Generations},
    object::{self, FormerTable, MAPS, Settings},
    pins::Pins,
    raw::{Put, RawMap},
};

/// Tables that programs look for in the former maps as well: map, its former, the words in common, words of the
/// programs' buffer.
const FORMER: [(&str, &str, &str, usize); 6] = [
    (
        "FLOWS_V4",
        "FORMER_FLOWS_V4",
        "FORMER_FLOWS_V4_WORDS",
        FLOW_WORDS,
    ),
    (
        "FLOWS_V6",
        "FORMER_FLOWS_V6",
        "FORMER_FLOWS_V6_WORDS",
        FLOW_WORDS,
    ),
    (
        "AFFINITY_V4",
        "FORMER_AFFINITY_V4",
        "FORMER_AFFINITY_V4_WORDS",
        AFFINITY_WORDS,
    ),
    (
        "AFFINITY_V6",
        "FORMER_AFFINITY_V6",
        "FORMER_AFFINITY_V6_WORDS",
        AFFINITY_WORDS,
    ),
    (
        "SOCKETS_V4",
        "FORMER_SOCKETS_V4",
        "FORMER_SOCKETS_V4_WORDS",
        SOCKET_WORDS,
    ),
    (
        "SOCKETS_V6",
        "FORMER_SOCKETS_V6",
        "FORMER_SOCKETS_V6_WORDS",
        SOCKET_WORDS,
    ),
];

/// See [`Switch`].
const LEFT: &str = "FORMER_LEFT";
/// Not carried over: what an agent says of itself.
const OWN: &str = "AGENT";
/// When a moved connection last passed: 0 in the new map if it did so by a program that knows only the former one.
const MOVED: &str = "MOVED";

/// What the counters of every CPU stood at when they were copied, by map and entry.
type Counted = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// A switch that has begun: programs are to be exchanged, then [`Switch::finish`] is due.
pub struct Switch {
    settings: Settings,
    pins: Pins,
    former: Generation,
    /// `None` if another agent copied them.
    counted: Option<Counted>,
    /// Tells the programs that none is left that knows only the former tables.
    left: Array<MapData, u32>,
}

/// Loads the object onto the maps that are pinned, or onto new ones that say the same.
///
/// # Errors
/// [`DatapathError`]; what was in force still is.
pub fn open(settings: &Settings, pins: &Pins) -> Result<(Ebpf, Option<Switch>), DatapathError> {
    let Generations { current, former } = Generations::find(pins)?;
    let Some(current) = current else {
        return Ok((object::load(settings, Some(pins))?, None));
    };
    let is_ours = current.schema == SCHEMA_VERSION;
    if is_ours && let Some(former) = former {
        tracing::info!(
            schema = former.schema,
            "finishing a switch that another agent began"
        );
        let mut ebpf = load_beside(settings, pins, &former)?;
        let switch = Switch::new(settings, pins, &mut ebpf, former, None)?;
        return Ok((ebpf, Some(switch)));
    }
    let sizes = find_sizes(settings, &current)?;
    if is_ours && sizes.values().all(|size| size.is_as_it_was()) {
        return Ok((object::load(settings, Some(pins))?, None));
    }
    if let Some(former) = former {
        // Of an agent of yet another version that was killed in the middle.
        carry_missing(&former, &current)?;
        former.remove()?;
    }
    tracing::info!(
        from = current.schema,
        to = SCHEMA_VERSION,
        "switching to maps of another version or size"
    );
    let tables = former_tables(&current)?;
    let entries = |name: &str| sizes.get(name).map(|size| size.wanted);
    let mut ebpf = object::load_onto(settings, &pins.next(), &entries, &tables)?;
    let counted = copy(&current, pins)?;
    let former = Generations::commit(pins, &current)?;
    let switch = Switch::new(settings, pins, &mut ebpf, former, Some(counted))?;
    Ok((ebpf, Some(switch)))
}

impl Switch {
    fn new(
        settings: &Settings,
        pins: &Pins,
        ebpf: &mut Ebpf,
        former: Generation,
        counted: Option<Counted>,
    ) -> Result<Self, DatapathError> {
        let left = object::take_map(ebpf, LEFT)?.try_into();
        Ok(Self {
            settings: *settings,
            pins: pins.clone(),
            former,
            counted,
            left: left.map_err(|source| DatapathError::Map {
                name: LEFT,
                source: Box::new(source),
            })?,
        })
    }

    /// To be called when every program has been exchanged: carries over what programs have filled and gives the
    /// programs that go without former tables, which are to be exchanged in turn.
    ///
    /// # Errors
    /// [`DatapathError`]; all is served as it is, and the next agent tries again.
    pub fn finish(&mut self) -> Result<Ebpf, DatapathError> {
        // Takes longer than any packet that is still on its way through a program of before.
        let ebpf = object::load(&self.settings, Some(&self.pins))?;
        let carried = self.carry_over()?;
        tracing::info!(carried, "what programs have filled is carried over");
        // From here on no program depends on them, and no agent that comes next should.
        self.former.remove()?;
        Ok(ebpf)
    }

    fn carry_over(&mut self) -> Result<usize, DatapathError> {
        let current = Generation {
            schema: SCHEMA_VERSION,
            maps: self.pins.maps(),
        };
        let carried = carry_tables(&self.former, &current)?;
        if let Some(counted) = self.counted.take() {
            add_counts(&self.former, &current, &counted)?;
        }
        let told = self.left.set(0, 1, 0);
        told.map_err(|source| DatapathError::Map {
            name: LEFT,
            source: Box::new(source),
        })?;
        // What came between the copy of an entry and that.
        Ok(carried + carry_missing(&self.former, &current)?)
    }
}

fn load_beside(
    settings: &Settings,
    pins: &Pins,
    former: &Generation,
) -> Result<Ebpf, DatapathError> {
    let current = Generation {
        schema: SCHEMA_VERSION,
        maps: pins.maps(),
    };
    // Whatever sizes are asked for: the next start may switch again.
    let tables = former_tables(former)?;
    find_sizes(settings, &current)?;
    let entries = |name: &str| object::entries(name, &settings.sizes);
    object::load_onto(settings, &pins.maps(), &entries, &tables)
}

/// The size of a map.
struct Size {
    wanted: u32,
    before: u32,
}

impl Size {
    fn is_as_it_was(&self) -> bool {
        self.wanted == self.before
    }
}

/// The sizes that the maps of `current` are to have, of those that can be set: as asked for, or as they are if that
/// is too little for what is in them. Compares layouts on the way.
fn find_sizes(
    settings: &Settings,
    current: &Generation,
) -> Result<BTreeMap<&'static str, Size>, DatapathError> {
    let layouts = object::layouts()?;
    let mut sizes = BTreeMap::new();
    for name in MAPS {
        let path = current.maps.join(name);
        let Some(map) = open_map(current, name)? else {
            continue;
        };
        let Some(&(key, value)) = layouts.get(*name) else {
            continue;
        };
        let is_same = (map.key, map.value) == (key, value);
        let is_carried =
            current.schema != SCHEMA_VERSION && current.schema >= CARRIED_SINCE && map.key == key;
        if !is_same && !is_carried || current.schema < CARRIED_SINCE {
            let detail = format!(
                "schema {}, key and value of {:?} bytes; schema {SCHEMA_VERSION} wants {:?}, and takes over what \
                 schema {CARRIED_SINCE} and later ones pinned",
                current.schema,
                (map.key, map.value),
                (key, value)
            );
            return Err(DatapathError::Layout { path, detail });
        }
        if let Some(asked) = object::entries(name, &settings.sizes) {
            let before = map.entries;
            let mut wanted = asked;
            if asked < before && asked < find_needed(current, name, &map)? {
                tracing::warn!(
                    map = name,
                    entries = before,
                    asked,
                    "the map keeps its size: more is in it than the set size has room for"
                );
                wanted = before;
            }
            sizes.insert(*name, Size { wanted, before });
        }
    }
    Ok(sizes)
}

/// How large a map must be for what agents have written to it.
fn find_needed(
    current: &Generation,
    name: &'static str,
    map: &RawMap,
) -> Result<u32, DatapathError> {
    if map.is_lru() {
        return Ok(0);
    }
    // Two entries for each service id; those of ids that are not used any more say nothing.
    let (services, factor) = if name == "TRAFFIC" {
        (open_map(current, "SERVICES")?, 2)
    } else {
        (None, 1)
    };
    let by_key = services.is_some() || map.is_array();
    let (mut count, mut end) = (0_u32, 0_u32);
    let read = services.as_ref().unwrap_or(map);
    read.read(|key, _| {
        count = count.saturating_add(1);
        if let Ok(key) = key.try_into() {
            end = end.max(u32::from_ne_bytes(key).saturating_add(1));
        }
        Ok(())
    })
    .map_err(failed(name))?;
    Ok(if by_key {
        end.saturating_mul(factor)
    } else {
        count
    })
}

/// The former tables for the programs' sake: those that are there.
fn former_tables(former: &Generation) -> Result<Vec<FormerTable>, DatapathError> {
    let layouts = object::layouts()?;
    let mut tables = Vec::new();
    for (name, map, words, buffer) in FORMER {
        let (Some(theirs), Some(&(_, ours))) = (open_map(former, name)?, layouts.get(name)) else {
            continue;
        };
        if theirs.value > 4 * buffer {
            let detail = format!(
                "values of {} bytes, {} are the most",
                theirs.value,
                4 * buffer
            );
            let path = former.maps.join(name);
            return Err(DatapathError::Layout { path, detail });
        }
        tables.push(FormerTable {
            map,
            pin: former.maps.join(name),
            words,
            count: u32::try_from(theirs.value.min(ours) / 4).unwrap_or(0),
        });
    }
    Ok(tables)
}

/// Copies what agents write, and counters, to the maps in `next`, which nobody uses yet; what the counters stood at.
fn copy(current: &Generation, pins: &Pins) -> Result<Counted, DatapathError> {
    let next = Generation {
        schema: SCHEMA_VERSION,
        maps: pins.next(),
    };
    let mut counted = Counted::new();
    for name in MAPS.iter().filter(|name| **name != OWN) {
        let (Some(from), Some(to)) = (open_map(current, name)?, open_map(&next, name)?) else {
            continue;
        };
        if from.is_lru() {
            continue;
        }
        from.read(|key, value| {
            if is_beyond(&to, key) {
                return Ok(());
            }
            if from.is_counters() {
                counted.insert((name, key.to_vec()), value.to_vec());
            }
            to.put(key, &to.fit(&from, value), Put::Replace).map(drop)
        })
        .map_err(failed(name))?;
    }
    Ok(counted)
}

/// Whether an array has no such entry: of counters that no id leads to any more.
fn is_beyond(to: &RawMap, key: &[u8]) -> bool {
    let index = key.try_into().map(u32::from_ne_bytes);
    to.is_array() && index.is_ok_and(|index| index >= to.entries)
}

/// Carries over what programs have put into the former tables; how many entries. Of flows, what is there is what
/// counts, see `maps::former` of the programs.
fn carry_tables(former: &Generation, current: &Generation) -> Result<usize, DatapathError> {
    carry(former, current, |name| name.starts_with("FLOWS"))
}

/// The same, but what is here already counts.
fn carry_missing(former: &Generation, current: &Generation) -> Result<usize, DatapathError> {
    carry(former, current, |_| false)
}

fn carry(
    former: &Generation,
    current: &Generation,
    counts_there: impl Fn(&str) -> bool,
) -> Result<usize, DatapathError> {
    let mut carried = 0;
    for name in MAPS {
        let (Some(from), Some(to)) = (open_map(former, name)?, open_map(current, name)?) else {
            continue;
        };
        if from.key != to.key || !(from.is_lru() || *name == MOVED) {
            continue;
        }
        let mut fresh = Vec::new();
        let put = if counts_there(name) {
            Put::Replace
        } else {
            Put::IfNew
        };
        from.read(|key, _| {
            // Read anew: many come at once, and change.
            if !from.get(key, &mut fresh)? {
                return Ok(());
            }
            let value = to.fit(&from, &fresh);
            let is_new = if *name == MOVED {
                let mut now = Vec::new();
                to.get(key, &mut now)?;
                now.iter().all(|byte| *byte == 0) && to.put(key, &value, Put::Replace)?
            } else {
                put_busy(&to, key, &value, put)?
            };
            carried += usize::from(is_new);
            Ok(())
        })
        .map_err(failed(name))?;
    }
    Ok(carried)
}

/// Before kernel 6.15 an LRU may be busy for the moment (rule 96); one that makes no room loses the entry, as ever.
fn put_busy(to: &RawMap, key: &[u8], value: &[u8], put: Put) -> io::Result<bool> {
    for _ in 0..3 {
        match to.put(key, value, put) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => return Ok(false),
            other => return other,
        }
    }
    Ok(false)
}

/// Adds what programs that were not exchanged yet have counted since the copy. A count that another CPU adds at the
/// same moment may be lost.
fn add_counts(
    former: &Generation,
    current: &Generation,
    counted: &Counted,
) -> Result<(), DatapathError> {
    for name in MAPS {
        let (Some(from), Some(to)) = (open_map(former, name)?, open_map(current, name)?) else {
            continue;
        };
        if !from.is_counters() {
            continue;
        }
        from.read(|key, after| {
            let before = counted.get(&(*name, key.to_vec()));
            if before.is_some_and(|before| before == after) || is_beyond(&to, key) {
                return Ok(());
            }
            let more = subtract(after, before.map_or(&[], Vec::as_slice));
            let mut now = Vec::new();
            if to.get(key, &mut now)? {
                to.put(key, &add(&now, &to.fit(&from, &more)), Put::Replace)?;
            }
            Ok(())
        })
        .map_err(failed(name))?;
    }
    Ok(())
}

/// Counters of 64 bits, one by one; what is not there is 0.
fn combine(left: &[u8], right: &[u8], with: impl Fn(u64, u64) -> u64) -> Vec<u8> {
    let word = |bytes: &[u8], at: usize| {
        let bytes = bytes
            .get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    };
    (0..left.len())
        .step_by(8)
        .flat_map(|at| with(word(left, at), word(right, at)).to_ne_bytes())
        .collect()
}

fn subtract(left: &[u8], right: &[u8]) -> Vec<u8> {
    combine(left, right, u64::wrapping_sub)
}

fn add(left: &[u8], right: &[u8]) -> Vec<u8> {
    combine(left, right, u64::wrapping_add)
}

fn open_map(generation: &Generation, name: &'static str) -> Result<Option<RawMap>, DatapathError> {
    RawMap::open(&generation.maps.join(name)).map_err(|source| DatapathError::Map {
        name,
        source: Box::new(source),
    })
}

fn failed(name: &'static str) -> impl Fn(io::Error) -> DatapathError {
    move |error| DatapathError::Map {
        name,
        source: Box::new(aya::maps::MapError::IoError(error)),
    }
}

#[cfg(test)]
mod tests;
