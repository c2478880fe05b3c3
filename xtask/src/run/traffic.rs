//! Traffic from a client pod to every frontend that its node serves.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Result;

use super::frontends::Key;
use crate::lab::{Addresses, Protocol, interrupt, probe::Probe};

/// Bytes sent each way: more than one segment.
const PAYLOAD: usize = 3000;
/// Bytes in a datagram: no fragments.
const DATAGRAM: usize = 1000;
/// Pause between two live probes of one client: it shall look alive, not be a benchmark.
const PAUSE: Duration = Duration::from_millis(10);

/// What one probe showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This pod answered, and everything about the answer was right.
    Answered(String),
    /// No one answered, and why.
    Silent(String),
    /// The answer was wrong whoever gave it.
    Wrong(String),
}

impl Outcome {
    /// Whether it is right for a frontend with these endpoints.
    pub(super) fn fits(&self, endpoints: &BTreeSet<String>) -> bool {
        match self {
            Self::Answered(pod) => endpoints.contains(pod),
            Self::Silent(_) => endpoints.is_empty(),
            Self::Wrong(_) => false,
        }
    }

    /// Why it is not right, where it is not.
    pub(super) fn complaint(&self) -> String {
        match self {
            Self::Answered(pod) => format!("{pod} answered, which is no endpoint of it"),
            Self::Silent(why) | Self::Wrong(why) => why.clone(),
        }
    }
}

/// A frontend as a client needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The client's node.
    pub(super) node: String,
    /// The frontend.
    pub(super) key: Key,
    /// Its protocol, one that can be probed.
    pub(super) protocol: Protocol,
    /// Its endpoints, as far as the client's node knows.
    pub(super) endpoints: BTreeSet<String>,
}

/// One result, and whom it is about.
pub(super) type Report = (Arc<Target>, Outcome);

/// The targets of one client, replaced while it works through them.
#[derive(Debug, Default)]
pub(super) struct Targets(RwLock<Arc<[Arc<Target>]>>);

impl Targets {
    /// Replaces all of them.
    pub(super) fn set(&self, targets: Vec<Arc<Target>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = targets.into();
    }

    /// Those of now.
    pub(super) fn get(&self) -> Arc<[Arc<Target>]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Round after round, one probe of each target, until interrupted or `report` says that no one listens.
pub(super) fn forever(targets: &Targets, client: Addresses, report: impl Fn(Report) -> bool) {
    for turn in 0.. {
        // Looked up for every probe, so that a change is followed at once.
        let now = targets.get();
        let target = (!now.is_empty()).then(|| &now[turn % now.len()]);
        let told = target.is_none_or(|target| report((Arc::clone(target), target.probe(client))));
        if interrupt::is_set() || !told {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// As many probes of each target as it takes this client to reach every endpoint; a bounded number.
///
/// # Errors
/// If interrupted.
pub(super) fn once(targets: &[Arc<Target>], client: Addresses) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for target in targets {
        let mut missing = target.endpoints.clone();
        // With even odds the chance to miss one of n endpoints so often is below n * e^-30.
        for _ in 0..10 + 30 * target.endpoints.len() {
            interrupt::check()?;
            let outcome = target.probe(client);
            if let Outcome::Answered(pod) = &outcome {
                missing.remove(pod);
            }
            if !outcome.fits(&target.endpoints) {
                missing.clear(); // it will not get better
            }
            reports.push((Arc::clone(target), outcome));
            if missing.is_empty() {
                break;
            }
        }
    }
    Ok(reports)
}

impl Target {
    fn probe(&self, client: Addresses) -> Outcome {
        let length = if self.protocol == Protocol::Tcp {
            PAYLOAD
        } else {
            DATAGRAM
        };
        let to = self.key.socket();
        let mut probe = Probe::new(self.protocol, to).length(length);
        if self.endpoints.is_empty() {
            probe = probe
                .connected()
                .attempts(1)
                .timeout(Duration::from_millis(300));
        }
        let own = client.like(&to.ip());
        match probe.run() {
            Ok(answer) if answer.client.ip() != own => Outcome::Wrong(format!(
                "{} saw {} instead of {own}",
                answer.endpoint, answer.client
            )),
            Ok(answer) => Outcome::Answered(answer.endpoint),
            Err(error) => Outcome::Silent(format!("from {own}: {error}")),
        }
    }
}
