//! What is wrong now: with the way to the server, by kind, and with objects, by name.
//!
//! Each thing is logged when it appears and when it is solved, and not in between, however often it is tried
//! again. What concerns all kinds at once, such as a server that is away, is one thing.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    model::ObjectKey,
    source::{
        Kind,
        objects::problem::{Fault, Problem, Subject, Wrong},
    },
};

/// Problems of the objects of one kind.
pub(super) type Found = BTreeMap<ObjectKey, Vec<Problem>>;

/// All that is wrong, and who is told.
#[derive(Debug)]
pub(super) struct Board {
    /// In the place of a file's name.
    place: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    troubles: BTreeMap<Kind, Problem>,
    objects: BTreeMap<Kind, Found>,
    sender: watch::Sender<Vec<Problem>>,
}

impl Board {
    /// Nothing is wrong yet.
    pub(super) fn new(server: &str, sender: watch::Sender<Vec<Problem>>) -> Self {
        Self {
            place: format!("API server {server}"),
            state: Mutex::new(State {
                troubles: BTreeMap::new(),
                objects: BTreeMap::new(),
                sender,
            }),
        }
    }

    /// What is wrong with the object `key`, as a problem.
    pub(super) fn problem(&self, kind: &'static str, key: &ObjectKey, wrong: Wrong) -> Problem {
        let object = Subject {
            kind,
            key: key.clone(),
        };
        let problem = wrong.into_problem(&self.place, Some(object));
        // What the server sends has no lines.
        Problem {
            line: None,
            ..problem
        }
    }

    /// Listing or watching `kind` fails: `text` says why. `field` names the resource where only that is
    /// concerned.
    pub(super) fn trouble(&self, kind: Kind, field: String, text: String) {
        let problem = Problem {
            file: self.place.clone(),
            line: None,
            object: None,
            field,
            value: None,
            fault: Fault::Server(text),
        };
        let mut state = self.lock();
        state.troubles.insert(kind, problem);
        state.publish();
    }

    /// `kind` is watched.
    pub(super) fn solved(&self, kind: Kind) {
        let mut state = self.lock();
        if state.troubles.remove(&kind).is_some() {
            state.publish();
        }
    }

    /// A complete listing found this, and nothing else, wrong with the objects of `kind`.
    pub(super) fn listed(&self, kind: Kind, found: Found) {
        let mut state = self.lock();
        state.troubles.remove(&kind);
        state.objects.insert(kind, found);
        state.publish();
    }

    /// This is wrong with the object `key` now; empty: nothing.
    pub(super) fn object(&self, kind: Kind, key: &ObjectKey, found: Vec<Problem>) {
        let mut state = self.lock();
        let objects = state.objects.entry(kind).or_default();
        if found.is_empty() {
            if objects.remove(key).is_none() {
                return;
            }
        } else {
            objects.insert(key.clone(), found);
        }
        state.publish();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells what is new, and all of it to whoever looks.
    fn publish(&self) {
        let mut now: Vec<Problem> = Vec::new();
        for trouble in self.troubles.values() {
            if !now.contains(trouble) {
                now.push(trouble.clone());
            }
        }
        for found in self.objects.values() {
            now.extend(found.values().flatten().cloned());
        }
        let before = self.sender.borrow().clone();
        for problem in now.iter().filter(|problem| !before.contains(problem)) {
            tracing::warn!("{problem}");
        }
        for problem in before.iter().filter(|problem| !now.contains(problem)) {
            tracing::info!("solved: {problem}");
        }
        self.sender.send_if_modified(|problems| {
            let changed = *problems != now;
            *problems = now;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_all_kinds_is_one_problem_and_solved_with_the_last() {
        let (sender, problems) = watch::channel(Vec::new());
        let board = Board::new("https://10.0.0.1:6443", sender);
        for kind in Kind::ALL {
            board.trouble(kind, String::new(), "connection refused".to_owned());
        }
        assert_eq!(
            problems.borrow()[0].to_string(),
            "API server https://10.0.0.1:6443: connection refused"
        );
        for kind in Kind::ALL {
            assert_eq!(problems.borrow().len(), 1);
            board.solved(kind);
        }
        assert_eq!(*problems.borrow(), []);
    }
}
