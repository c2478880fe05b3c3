//! What a soak came to: for people, and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde_json::{Value, json};

use super::{ending::Fill, ledger::Ledger, resources::Resources, scene::Served};

/// All of it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) seed: u64,
    pub(super) time: Duration,
    /// Whether Ctrl-C ended it.
    pub(super) is_early: bool,
    pub(super) served: Served,
    pub(super) ledger: Ledger,
    pub(super) strays: Vec<(String, u64, String)>,
    pub(super) verdicts: BTreeMap<String, u64>,
    pub(super) fill: Fill,
    pub(super) resources: Resources,
    /// Maps, programs and links that agents had, all told.
    pub(super) objects: usize,
}

impl Report {
    /// Whether there is nothing to complain of.
    pub(super) fn is_well(&self) -> bool {
        self.ledger.complaints.is_empty() && self.strays.is_empty()
    }

    /// What was not sent, because nothing here serves it.
    fn missing(&self) -> Vec<&'static str> {
        let Served {
            fragments,
            echo,
            conntrack,
        } = self.served;
        let all = [
            (fragments, "datagrams in fragments"),
            (echo, "echo requests to ClusterIPs"),
            (conntrack, "expiry and flush of flow tables"),
            (
                false,
                "SCTP (this kernel has no sockets of it, or nobody tried)",
            ),
        ];
        let missing = all.into_iter().filter(|(is_served, _)| !is_served);
        missing.map(|(_, what)| what).collect()
    }

    /// For machines.
    pub(super) fn as_json(&self) -> Value {
        let strays = self.strays.iter();
        let strays = strays
            .map(|(who, count, tuples)| json!({"seenBy": who, "packets": count, "tuples": tuples}));
        json!({
            "well": self.is_well(),
            "seed": self.seed,
            "seconds": self.time.as_secs(),
            "endedEarly": self.is_early,
            "notServed": self.missing(),
            "traffic": self.ledger,
            "strays": strays.collect::<Vec<_>>(),
            "verdicts": self.verdicts,
            "mapsAtTheEnd": self.fill,
            "agents": self.resources.thinned(),
            "kernelObjects": self.objects,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, seed) = (self.time.as_secs(), self.seed);
        let early = if self.is_early { ", ended early" } else { "" };
        writeln!(
            f,
            "soak of {} min {:02} s, seed {seed}{early}\n",
            seconds / 60,
            seconds % 60
        )?;
        writeln!(
            f,
            "{:40} {:>9} {:>9} {:>8} {:>6} {:>6} {:>7} {:>8}",
            "TRAFFIC", "ASKED", "RIGHT", "EXCUSED", "LOST", "WRONG", "RESENT", "MIB"
        )?;
        for (kind, tally) in &self.ledger.kinds {
            writeln!(
                f,
                "{kind:40} {:>9} {:>9} {:>8} {:>6} {:>6} {:>7} {:>8}",
                tally.asked,
                tally.right,
                tally.excused,
                tally.lost,
                tally.wrong,
                tally.resent,
                tally.bytes >> 20
            )?;
        }
        let list = |counts: &BTreeMap<&str, u64>| {
            let counts = counts.iter().map(|(what, count)| format!("{what} {count}"));
            counts.collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "\nDone      {}", list(&self.ledger.actions))?;
        writeln!(f, "Excuses   {}", list(&self.ledger.excuses))?;
        writeln!(
            f,
            "Late      {} answers to datagrams that were sent again",
            self.ledger.late
        )?;
        for (node, sample) in self.resources.last() {
            let (memory, files) = (sample.memory >> 20, sample.files);
            writeln!(
                f,
                "Agent     {node}: {memory} MiB, {files} files at the end"
            )?;
        }
        writeln!(
            f,
            "Kernel    {} maps, programs and links came and went",
            self.objects
        )?;
        writeln!(f, "Not sent  {}", self.missing().join("; "))?;
        for (who, count, tuples) in &self.strays {
            writeln!(f, "STRAY     {who} saw {count} packets: {tuples}")?;
        }
        for complaint in &self.ledger.complaints {
            writeln!(f, "BAD       {complaint}")?;
        }
        if self.ledger.unsaid > 0 {
            writeln!(f, "BAD       and {} more", self.ledger.unsaid)?;
        }
        let verdict = if self.is_well() {
            "all is well"
        } else {
            "NOT WELL"
        };
        writeln!(f, "\n{verdict}")
    }
}
