//! Whose turn it is: the targets of one client, shared by those who work through them.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{frontends::Key, traffic::Target};

/// The targets of one client, replaced while it works through them.
#[derive(Debug, Default)]
pub(super) struct Targets(Mutex<Round>);

#[derive(Debug, Default)]
struct Round {
    targets: Vec<Arc<Target>>,
    turn: usize,
    busy: BTreeSet<Key>,
}

impl Targets {
    fn round(&self) -> MutexGuard<'_, Round> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all of them.
    pub(super) fn set(&self, targets: Vec<Arc<Target>>) {
        self.round().targets = targets;
    }

    /// Whose turn it is, of those that no one works on.
    pub(super) fn take(&self) -> Option<Arc<Target>> {
        let mut round = self.round();
        let count = round.targets.len();
        let mut turns = (round.turn..).take(count);
        let turn = turns.find(|turn| !round.busy.contains(&round.targets[turn % count].key))?;
        let target = Arc::clone(&round.targets[turn % count]);
        round.turn = (turn + 1) % count;
        round.busy.insert(target.key.clone());
        Some(target)
    }

    /// No one works on it any more.
    pub(super) fn give_back(&self, target: &Target) {
        self.round().busy.remove(&target.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lab::Protocol, run::promise::Promise};

    fn target(port: u16) -> Arc<Target> {
        let json = format!(
            r#"{{"namespace":"a","name":"b","protocol":"TCP","port":{port},"address":"::1"}}"#
        );
        Arc::new(Target {
            client: "client-1".to_owned(),
            key: serde_json::from_str(&json).unwrap(),
            protocol: Protocol::Tcp,
            promise: Promise::default(),
        })
    }

    #[test]
    fn targets_take_turns_but_for_those_someone_works_on() {
        let targets = Targets::default();
        assert_eq!(targets.take(), None);
        targets.set((1..=3).map(target).collect());
        let port = || targets.take().map(|target| target.key.socket().port());
        assert_eq!([port(), port()], [Some(1), Some(2)]);
        targets.give_back(&target(1));
        assert_eq!([port(), port(), port()], [Some(3), Some(1), None]);
        targets.give_back(&target(2));
        targets.set(vec![target(3), target(2)]);
        assert_eq!([port(), port()], [Some(2), None]);
    }
}
