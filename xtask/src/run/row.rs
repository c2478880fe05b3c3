//! One line of the board: a frontend, what its clients may expect of it, and its score.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{frontends::Traffic, promise::Promise, traffic::Outcome};

/// What each client is promised.
pub(super) type Promises = BTreeMap<String, Promise>;

/// A frontend's score.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// What is said now.
    promises: Promises,
    /// What was said at the reading before: a probe may have begun then.
    before: Promises,
    /// The datapath's counters, of all nodes together.
    pub(super) traffic: Traffic,
    /// Answers to each client by each endpoint.
    reached: BTreeMap<(String, String), u64>,
    /// The endpoint that a client is to come back to.
    stuck: BTreeMap<String, String>,
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
    /// Not every client has been answered yet by all the endpoints it should be answered by.
    Incomplete,
    /// All is well.
    Ok,
}

impl Row {
    /// Takes what a new reading says. The score stays, but for endpoints that are none any more.
    pub(super) fn update(&mut self, promises: Promises, traffic: Traffic) {
        self.before = std::mem::replace(&mut self.promises, promises);
        self.traffic = traffic;
        let promises = &self.promises;
        let has = |client: &String, name: &String| {
            let promise = promises.get(client);
            promise.is_some_and(|promise| promise.endpoints.contains_key(name))
        };
        let sticks = |client: &String| promises.get(client).is_some_and(|promise| promise.sticks);
        self.reached.retain(|(client, name), _| has(client, name));
        self.stuck
            .retain(|client, name| has(client, name) && sticks(client));
    }

    /// What a client is promised; nothing if no way leads there from it.
    pub(super) fn to(&self, client: &str) -> Option<&Promise> {
        self.promises.get(client)
    }

    /// Counts what a client saw if it is right by this reading or the one before; says whether it is.
    pub(super) fn accept(&mut self, client: &str, outcome: &Outcome) -> bool {
        let by = |promises: &Promises| {
            let promise = promises.get(client);
            promise.filter(|promise| promise.allows(outcome)).cloned()
        };
        let now = by(&self.promises);
        if now.is_none() && by(&self.before).is_none() {
            return false;
        }
        if let (Some(now), Outcome::Answered(name)) = (now, outcome) {
            let before = self.before.get(client);
            let stuck_before = before.is_none_or(|promise| promise.sticks);
            if now.sticks && stuck_before {
                let stuck = self.stuck.entry(client.to_owned());
                if stuck.or_insert_with(|| name.clone()) != name {
                    return false;
                }
            }
            let key = (client.to_owned(), name.clone());
            *self.reached.entry(key).or_default() += 1;
        }
        self.ok += 1;
        true
    }

    /// The endpoints that answer any client.
    pub(super) fn expected(&self) -> BTreeSet<String> {
        let promises = self.promises.values();
        promises
            .flat_map(|promise| promise.endpoints.keys())
            .cloned()
            .collect()
    }

    /// Every endpoint and how often it answered.
    pub(super) fn counts(&self) -> Vec<(String, u64)> {
        let count = |name: String| {
            let reached = self.reached.iter();
            let by_it = reached.filter(|((_, other), _)| *other == name);
            let count = by_it.map(|(_, count)| count).sum();
            (name, count)
        };
        self.expected().into_iter().map(count).collect()
    }

    /// What it comes to.
    pub(super) fn state(&self) -> State {
        match self {
            row if !row.failures.is_empty() => State::Failed,
            row if row.expected().is_empty() => State::NoEndpoints,
            row if row.ok == 0 => State::Waiting,
            row if row.is_complete() => State::Ok,
            _ => State::Incomplete,
        }
    }

    /// Whether every client has been answered by all it should be answered by: where clients stay with
    /// an endpoint, by one.
    fn is_complete(&self) -> bool {
        self.promises.iter().all(|(client, promise)| {
            let has_reached = |name: &String| {
                let key = (client.clone(), name.clone());
                self.reached.contains_key(&key)
            };
            let mut endpoints = promise.endpoints.keys();
            match promise.sticks {
                true => promise.endpoints.is_empty() || endpoints.any(has_reached),
                false => endpoints.all(has_reached),
            }
        })
    }
}
