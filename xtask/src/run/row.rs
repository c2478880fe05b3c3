//! One line of the board: a frontend, what its nodes expect of it, and its score.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{frontends::Traffic, traffic::Outcome};

/// The names of a frontend's endpoints on each node.
pub(super) type Endpoints = BTreeMap<String, BTreeSet<String>>;

/// A frontend's score.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// What each node says now.
    endpoints: Endpoints,
    /// What each said at the reading before: a probe may have begun then.
    before: Endpoints,
    /// The datapath's counters, of all nodes together.
    pub(super) traffic: Traffic,
    /// Answers of each endpoint.
    reached: BTreeMap<String, u64>,
    /// Probes that showed what they should.
    pub(super) ok: u64,
    /// The others, as long as they are remembered, and why.
    pub(super) failures: Vec<(Instant, String)>,
}

/// What a row comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A probe failed.
    Failed,
    /// There is nowhere to go, and nothing came back.
    NoEndpoints,
    /// No probe has come back yet.
    Waiting,
    /// Not every endpoint has answered yet.
    Incomplete,
    /// All is well.
    Ok,
}

impl Row {
    /// Takes what a new reading says. The score stays, but for endpoints that are none any more.
    pub(super) fn update(&mut self, endpoints: Endpoints, traffic: Traffic) {
        self.before = std::mem::replace(&mut self.endpoints, endpoints);
        self.traffic = traffic;
        let expected = self.expected();
        self.reached.retain(|name, _| expected.contains(name));
    }

    /// What a node expects; nothing if it does not serve this frontend.
    pub(super) fn on(&self, node: &str) -> Option<&BTreeSet<String>> {
        self.endpoints.get(node)
    }

    /// Counts an outcome on `node` if it is right by this reading or the one before; says whether it is.
    pub(super) fn accept(&mut self, node: &str, outcome: &Outcome) -> bool {
        let fits = |nodes: &Endpoints| nodes.get(node).is_some_and(|names| outcome.fits(names));
        let right = fits(&self.endpoints) || fits(&self.before);
        if right {
            self.ok += 1;
        }
        if let Outcome::Answered(name) = outcome
            && fits(&self.endpoints)
        {
            *self.reached.entry(name.clone()).or_default() += 1;
        }
        right
    }

    /// The endpoints that all clients together should reach.
    pub(super) fn expected(&self) -> BTreeSet<String> {
        self.endpoints.values().flatten().cloned().collect()
    }

    /// Every endpoint and how often it answered.
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        let count = |name: String| {
            let count = self.reached.get(&name).copied().unwrap_or_default();
            (name, count)
        };
        self.expected().into_iter().map(count).collect()
    }

    /// What it comes to.
    pub(super) fn state(&self) -> State {
        let counts = self.counts();
        match self {
            row if !row.failures.is_empty() => State::Failed,
            _ if counts.is_empty() => State::NoEndpoints,
            row if row.ok == 0 => State::Waiting,
            _ if counts.iter().any(|(_, count)| *count == 0) => State::Incomplete,
            _ => State::Ok,
        }
    }
}
