//! Removes what is over from the tables that the programs fill, and tells how full they are.
//!
//! The programs never look for what is over: they recognise it where they meet it. A thread of its own goes through
//! the tables about once a minute, a thousand entries at a time with a pause in between that makes a full table take
//! half of that minute, and an empty one nothing. While no agent runs, the LRU alone makes room.

use std::{
    collections::HashMap,
    thread,
    time::{Duration, Instant},
};

use lb_common::{
    address::{V4, V6},
    flow::{
        Flow, FlowKey, is_past_seconds,
        state::Timeouts,
        stats::{Churn, FlowStats},
        tick_shift,
    },
    tables::{Affinity, AffinityKey},
};

use super::now;
use crate::{
    conntrack::kin::{assemble, is_forward, is_over},
    datapath::{
        DatapathError,
        clock::now_ticks,
        flows::{AffinityTable, Counters, FlowTable, Plain, Tracked},
        pins::Pins,
        view::View,
    },
};

/// How often it is begun.
const PERIOD: Duration = Duration::from_secs(60);
/// Entries that are looked at in one go.
const CHUNK: u32 = 1_024;
/// Seconds that affinity is remembered for where nobody says for how long any more: its frontends may be about to
/// come back.
const AFFINITY_FLOOR: u32 = 60;

/// Goes through the tables.
pub(super) struct Sweeper {
    pins: Pins,
    hz: u32,
    timeouts: Timeouts,
}

impl Sweeper {
    /// For the tables below `pins`, with timeouts in seconds, on a kernel with that many jiffies a second.
    pub(super) const fn new(pins: Pins, hz: u32, timeouts: Timeouts) -> Self {
        Self {
            pins,
            hz,
            timeouts: timeouts.in_ticks(hz),
        }
    }

    /// Goes on till the process ends.
    pub(super) fn start(self) {
        let run = move || {
            loop {
                let started = Instant::now();
                if let Err(error) = self.round() {
                    tracing::warn!("cannot remove flows that are over: {error}; trying again");
                }
                thread::sleep(PERIOD.saturating_sub(started.elapsed()));
            }
        };
        // Without it the LRU makes room, so it is no reason to end.
        if let Err(error) = thread::Builder::new().name("sweep".to_owned()).spawn(run) {
            tracing::warn!("cannot start a thread: {error}; flows that are over stay");
        }
    }

    /// Once through all tables.
    fn round(&self) -> Result<(), DatapathError> {
        let mut counters = Counters::open(&self.pins)?;
        self.sweep_flows::<V4>(&mut counters)?;
        self.sweep_flows::<V6>(&mut counters)?;
        let affinities = View::open(self.pins.clone())?.affinities()?;
        self.sweep_affinity::<V4>(&affinities)?;
        self.sweep_affinity::<V6>(&affinities)
    }

    fn sweep_flows<A: Tracked>(&self, counters: &mut Counters) -> Result<(), DatapathError>
    where
        FlowKey<A>: Plain,
        Flow<A>: Plain,
    {
        let mut table = FlowTable::<A>::open(&self.pins, A::FLOWS)?;
        let before = counters.churn(A::FAMILY)?;
        let known = counters.stats(A::FAMILY)?;
        let mut found = FlowStats {
            expired: known.expired,
            evicted: known.evicted,
            ..FlowStats::default()
        };
        let mut walk = table.walk(CHUNK as usize);
        while let Some(piece) = table.next(&mut walk)? {
            let now = now_ticks(self.hz);
            for entry in &piece {
                self.look_at(&mut table, entry, now, &mut found);
            }
            pause(table.size());
        }
        let after = counters.churn(A::FAMILY)?;
        let churn = Churn {
            removed: after.removed,
            ..before
        };
        found.evicted = evicted(&churn, &found, counters.flushed(A::FAMILY)?);
        found.swept_at = now();
        counters.set_stats(A::FAMILY, &found)
    }

    /// Removes the flow of an entry if it is over, else counts it.
    fn look_at<A: Tracked>(
        &self,
        table: &mut FlowTable<A>,
        entry: &(FlowKey<A>, Flow<A>),
        now: u32,
        found: &mut FlowStats,
    ) where
        FlowKey<A>: Plain,
        Flow<A>: Plain,
    {
        let is_first = is_forward(&entry.1);
        if is_over(entry, now, &self.timeouts) {
            let kin = assemble(*entry, |key| table.find(key));
            let removed = if kin.is_over(now, &self.timeouts) {
                table.remove_idle(&kin)
            } else {
                0
            };
            found.expired += u64::from(removed);
            // The second case: it went with another entry of its flow, since this piece was read.
            if removed > 0 || table.find(&entry.0).is_none() {
                return;
            }
        }
        found.entries += 1;
        if is_first {
            let state = assemble(*entry, |_| None).state();
            found.flows[state as usize] += 1;
        }
    }

    fn sweep_affinity<A: Tracked>(
        &self,
        affinities: &HashMap<u32, u32>,
    ) -> Result<(), DatapathError>
    where
        AffinityKey<A>: Plain,
    {
        let mut table = AffinityTable::<A>::open(&self.pins, A::AFFINITY)?;
        let mut walk = table.walk(CHUNK as usize);
        while let Some(piece) = table.next(&mut walk)? {
            let now = now_ticks(self.hz);
            for (key, affinity) in &piece {
                let seconds = affinities.get(&key.service).copied().unwrap_or(0);
                if self.is_past(affinity, now, seconds.max(AFFINITY_FLOOR)) {
                    // Should the client come back this very moment, it gets an endpoint by its hash.
                    table.remove(key);
                }
            }
            pause(table.size());
        }
        Ok(())
    }

    const fn is_past(&self, affinity: &Affinity, now: u32, seconds: u32) -> bool {
        is_past_seconds(affinity.seen, now, seconds, tick_shift(self.hz), self.hz)
    }
}

/// How many entries the LRU must have evicted: what went in and is neither there nor was taken out. `churn` counts what
/// went in up to the beginning, so that it is rather too few than too many; and it never goes back.
fn evicted(churn: &Churn, found: &FlowStats, flushed: u64) -> u64 {
    let taken = churn.removed + found.expired + flushed + u64::from(found.entries);
    churn.inserted.saturating_sub(taken).max(found.evicted)
}

/// Between two pieces of a table with room for `size` entries.
fn pause(size: u32) {
    thread::sleep((PERIOD / 2).mul_f64(f64::from(CHUNK) / f64::from(size.max(CHUNK))));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_was_evicted() {
        let churn = Churn {
            inserted: 100,
            removed: 10,
        };
        let found = FlowStats {
            entries: 40,
            expired: 20,
            ..FlowStats::default()
        };
        assert_eq!(evicted(&churn, &found, 5), 25);
        let later = FlowStats {
            entries: 70,
            evicted: 25,
            ..found
        };
        assert_eq!(evicted(&churn, &later, 5), 25, "it never goes back");
    }
}
