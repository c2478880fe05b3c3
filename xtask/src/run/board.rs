//! The score board: what is served, what was probed, who answered, and whether all is well.
//!
//! Readings of what the nodes serve come in beside the probes' reports, and neither knows when exactly the
//! other happened. So a report that does not fit the last reading is a dispute, and the next reading that
//! began after it decides: a change that it shows explains the outcome, else it was a failure. No clock in
//! here: time comes in as arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    clients::Surroundings,
    frontends::{Frontend, Key, Traffic},
    listing::Listing,
    row::{Promises, Row, State},
    traffic::{Outcome, Report, Target},
};

/// All frontends.
#[derive(Debug)]
pub(super) struct Board {
    around: Surroundings,
    memory: Option<Duration>,
    rows: BTreeMap<Key, Row>,
    disputes: Vec<(Instant, Report)>,
    problem: Option<String>,
}

impl Board {
    /// An empty board. `around` knows who probes; failures are held against a frontend for as long as
    /// `memory` says, or for good.
    pub(super) fn new(around: Surroundings, memory: Option<Duration>) -> Self {
        Self {
            around,
            memory,
            rows: BTreeMap::new(),
            disputes: Vec::new(),
            problem: None,
        }
    }

    /// The frontends in order.
    pub(super) fn rows(&self) -> impl ExactSizeIterator<Item = (&Key, &Row)> {
        self.rows.iter()
    }

    /// Who probes.
    pub(super) fn around(&self) -> &Surroundings {
        &self.around
    }

    /// How long failures are held against a frontend, if not for good.
    pub(super) fn memory(&self) -> Option<Duration> {
        self.memory
    }

    /// What is wrong with the manifests.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Takes a reading: frontends come and go, endpoints change, disputes from before it are settled.
    pub(super) fn merge(&mut self, listing: Listing) {
        self.problem = listing.problem;
        let mut now: BTreeMap<Key, Vec<(String, Frontend)>> = BTreeMap::new();
        for (node, frontends) in listing.nodes {
            for frontend in frontends {
                let nodes = now.entry(frontend.key.clone()).or_default();
                nodes.push((node.clone(), frontend));
            }
        }
        self.rows.retain(|key, _| now.contains_key(key));
        for (key, nodes) in now {
            let traffic: Traffic = nodes.iter().map(|(_, frontend)| frontend.traffic).sum();
            let promises: Promises = nodes
                .iter()
                .flat_map(|(node, frontend)| self.around.promises(node, frontend))
                .collect();
            let row = self.rows.entry(key).or_default();
            row.update(promises, traffic);
        }
        let (settled, open) = std::mem::take(&mut self.disputes)
            .into_iter()
            .partition(|(at, _)| *at < listing.began);
        self.disputes = open;
        for (at, report) in settled {
            if let Some((row, report)) = self.unexplained(report) {
                row.failures.push((at, complaint(&report)));
            }
        }
    }

    /// Enters the result of a probe that ended at `now`.
    pub(super) fn enter(&mut self, now: Instant, report: Report) {
        if let Some((row, report)) = self.unexplained(report) {
            match report.1 {
                Outcome::Wrong(_) => row.failures.push((now, complaint(&report))),
                _ => self.disputes.push((now, report)),
            }
        }
    }

    /// Counts a report that is right; gives back one that is not, unless its frontend is gone.
    fn unexplained(&mut self, report: Report) -> Option<(&mut Row, Report)> {
        let (target, outcome) = &report;
        let row = self.rows.get_mut(&target.key)?;
        row.to(&target.client)?;
        (!row.accept(&target.client, outcome)).then_some((row, report))
    }

    /// Forgets the failures that are old by `now`.
    pub(super) fn forget(&mut self, now: Instant) {
        if let Some(memory) = self.memory {
            for row in self.rows.values_mut() {
                row.failures
                    .retain(|(at, _)| now.saturating_duration_since(*at) < memory);
            }
        }
    }

    /// What a client should probe.
    pub(super) fn targets(&self, client: &str) -> Vec<Arc<Target>> {
        let target = |(key, row): (&Key, &Row)| {
            Some(Arc::new(Target {
                client: client.to_owned(),
                key: key.clone(),
                protocol: key.probed()?,
                promise: row.to(client)?.clone(),
            }))
        };
        self.rows.iter().filter_map(target).collect()
    }

    /// Whether every frontend was probed without a failure, and clients reached all the endpoints they should.
    pub(super) fn is_well(&self) -> bool {
        let well = |(key, row): (&Key, &Row)| {
            let state = row.state();
            key.probed().is_none()
                || (row.ok > 0 && [State::Ok, State::NoEndpoints].contains(&state))
        };
        !self.rows.is_empty() && self.rows.iter().all(well)
    }

    /// Why probes failed, in words, the newest first and none twice.
    pub(super) fn failures(&self) -> Vec<&str> {
        let mut all: Vec<_> = self.rows.values().flat_map(|row| &row.failures).collect();
        all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let mut seen = BTreeSet::new();
        all.iter()
            .map(|(_, why)| why.as_str())
            .filter(|why| seen.insert(*why))
            .collect()
    }
}

fn complaint((target, outcome): &Report) -> String {
    let why = target.promise.complaint(outcome);
    format!("{}: {why}", target.key.service())
}

#[cfg(test)]
mod tests;
