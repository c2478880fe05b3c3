//! Traffic from a client to every frontend that a way leads to.

use std::{collections::BTreeSet, io, sync::Arc, time::Duration};

use anyhow::Result;

use super::{frontends::Key, promise::Promise, turns::Targets};
use crate::lab::{Protocol, interrupt, probe::Probe};

/// Bytes sent each way: more than one segment.
const PAYLOAD: usize = 3000;
/// Bytes in a datagram: no fragments.
const DATAGRAM: usize = 1000;
/// Live probes of one client at a time, each of another target: one that waits in vain for seconds must not
/// hold up the others.
pub(super) const ABREAST: usize = 8;
/// Pause after each of them: it shall look alive, not be a benchmark.
const PAUSE: Duration = Duration::from_millis(80);

/// What one probe showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This pod answered, and everything about the answer was right.
    Answered(String),
    /// No one is there, somebody said.
    Refused(String),
    /// No one answered, and why.
    Silent(String),
    /// The answer was wrong whoever gave it.
    Wrong(String),
}

/// A frontend as a client needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The client.
    pub(super) client: String,
    /// The frontend.
    pub(super) key: Key,
    /// Its protocol, one that can be probed.
    pub(super) protocol: Protocol,
    /// What the client is promised.
    pub(super) promise: Promise,
}

/// One result, and whom it is about.
pub(super) type Report = (Arc<Target>, Outcome);

/// Round after round, one probe of each target, until interrupted or `report` says that no one listens.
/// Several may share the work.
pub(super) fn forever(targets: &Targets, report: impl Fn(Report) -> bool) {
    while !interrupt::is_set() {
        if let Some(target) = targets.take() {
            let outcome = target.probe();
            targets.give_back(&target);
            if !report((target, outcome)) {
                return;
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// As many probes of each target as it takes this client to reach every endpoint, or to see that it stays with
/// one; a bounded number.
///
/// # Errors
/// If interrupted.
pub(super) fn once(targets: &[Arc<Target>]) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for target in targets {
        let Promise {
            endpoints, sticks, ..
        } = &target.promise;
        let mut missing: BTreeSet<String> = endpoints.keys().cloned().collect();
        // With even odds the chance to miss one of n endpoints so often is below n * e^-30; flows that may go to
        // either of two all go to one in one of 10^9 cases.
        let probes = if *sticks {
            30
        } else {
            10 + 30 * endpoints.len()
        };
        for _ in 0..probes {
            interrupt::check()?;
            let outcome = target.probe();
            if let Outcome::Answered(pod) = &outcome {
                missing.remove(pod);
            }
            if !target.promise.allows(&outcome) {
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
    fn probe(&self) -> Outcome {
        let length = if self.protocol == Protocol::Tcp {
            PAYLOAD
        } else {
            DATAGRAM
        };
        let to = self.key.socket();
        let mut probe = Probe::new(self.protocol, to).length(length);
        if self.promise.endpoints.is_empty() {
            probe = probe
                .connected()
                .attempts(1)
                .timeout(Duration::from_millis(300));
        }
        let who = &self.client;
        match probe.run() {
            Ok(answer) => {
                let seen = answer.client.ip();
                match self.promise.endpoints.get(&answer.endpoint) {
                    Some(may) if !may.contains(&seen) => Outcome::Wrong(format!(
                        "{} saw {who} as {seen} instead of {may:?}",
                        answer.endpoint
                    )),
                    _ => Outcome::Answered(answer.endpoint),
                }
            }
            Err(error) if error.source.kind() == io::ErrorKind::ConnectionRefused => {
                Outcome::Refused(format!("from {who}: {error}"))
            }
            Err(error) => Outcome::Silent(format!("from {who}: {error}")),
        }
    }
}
