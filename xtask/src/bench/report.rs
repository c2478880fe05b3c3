//! What a run has found: machine, sections, rows, gates. `report.json` is this, as it stands.

pub mod chart;
pub mod markdown;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::stats::Summary;

/// One run of the bench.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// When it began: seconds since 1970.
    pub began: u64,
    /// Whether all rounds were run (`--full`).
    pub full: bool,
    /// In the order in which they ran.
    pub sections: Vec<Section>,
}

/// Where a run took place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many of them the system has.
    pub processors: usize,
    /// `uname -r`.
    pub kernel: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Runnable tasks over the minute before the run: more than none is somebody else.
    pub load: String,
    /// TCP's congestion control in the namespaces that are measured.
    #[serde(default)]
    pub congestion: String,
}

/// One part of the bench.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// As `--section` calls it.
    pub name: String,
    /// What it shows, in a sentence.
    pub title: String,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What was asked of it.
    pub gates: Vec<Gate>,
    /// What was seen to before anything was timed, and what could not be measured.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One thing measured in several ways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// E.g. `TCP IPv4, 1 stream`.
    pub what: String,
    /// Among how many services, where that makes a line.
    #[serde(default)]
    pub at: Option<u32>,
    /// E.g. `Gbit/s`.
    pub unit: String,
    /// Whether more is better.
    pub more_is_better: bool,
    /// By the name of the way, e.g. `duolb (bpf)`: its value in each round.
    pub rounds: BTreeMap<String, Vec<f64>>,
    /// By the name of the way: why it could not be measured.
    pub missing: BTreeMap<String, String>,
}

/// A goal, and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// E.g. `G3`.
    pub id: String,
    /// What is compared, e.g. `TCP IPv4: duolb (bpf) / direct`.
    pub what: String,
    /// What was measured; `None` if it could not be.
    pub value: Option<Summary>,
    /// What it is held against.
    pub limit: f64,
    /// Whether the value must be at least the limit, rather than at most.
    pub at_least: bool,
    /// Why there is no value.
    #[serde(default)]
    pub why: String,
}

impl Row {
    /// A row in which nothing is measured yet.
    pub fn new(what: impl Into<String>, unit: &str, more_is_better: bool) -> Self {
        Self {
            what: what.into(),
            unit: unit.to_owned(),
            more_is_better,
            ..Self::default()
        }
    }

    /// The row with what a way came to, round by round.
    #[must_use]
    pub fn with(mut self, way: &str, rounds: impl IntoIterator<Item = f64>) -> Self {
        self.rounds
            .insert(way.to_owned(), rounds.into_iter().collect());
        self
    }

    /// What it is about, and among how many services.
    pub fn title(&self) -> String {
        match self.at {
            Some(services) => format!("{}, {services} services", self.what),
            None => self.what.clone(),
        }
    }

    /// The value of a way over all rounds.
    pub fn value(&self, way: &str) -> Option<Summary> {
        Summary::of(self.rounds.get(way)?.iter().copied())
    }

    /// How a way compares to another, round by round.
    pub fn ratio(&self, way: &str, to: &str) -> Option<Summary> {
        Summary::of_ratios(self.rounds.get(way)?, self.rounds.get(to)?)
    }

    /// A gate on [`Row::ratio`].
    pub fn gate(&self, id: &str, way: &str, to: &str, limit: f64) -> Gate {
        Gate {
            id: id.to_owned(),
            what: format!("{}: {way} / {to}", self.title()),
            value: self.ratio(way, to),
            limit,
            at_least: self.more_is_better,
            why: [way, to]
                .iter()
                .filter_map(|way| Some(format!("{way}: {}", self.missing.get(*way)?)))
                .collect::<Vec<_>>()
                .join("; "),
        }
    }
}

impl Gate {
    /// A gate on what was worked out of several rows.
    pub fn on(
        id: &str,
        what: impl Into<String>,
        values: &[f64],
        limit: f64,
        at_least: bool,
    ) -> Self {
        let value = Summary::of(values.iter().copied());
        let why = value.map_or("nothing was measured", |_| "");
        Self {
            id: id.to_owned(),
            what: what.into(),
            value,
            limit,
            at_least,
            why: why.to_owned(),
        }
    }

    /// A gate of which is known why nothing is known.
    pub fn unknown(id: &str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            what: what.into(),
            value: None,
            limit: 0.0,
            at_least: true,
            why: why.into(),
        }
    }

    /// Whether the goal is reached; `None` if nobody knows.
    pub fn is_met(&self) -> Option<bool> {
        let median = self.value?.median;
        Some(if self.at_least {
            median >= self.limit
        } else {
            median <= self.limit
        })
    }
}

#[cfg(test)]
mod tests;
