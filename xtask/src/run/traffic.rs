//! Traffic from a client pod to every frontend.

use std::{collections::BTreeSet, net::SocketAddr, sync::mpsc::Sender, time::Duration};

use super::board::{Board, Outcome};
use crate::lab::{Addresses, Protocol, interrupt, probe::Probe};

/// Bytes sent each way: more than one segment.
const PAYLOAD: usize = 3000;
/// Bytes in a datagram: no fragments.
const DATAGRAM: usize = 1000;
/// Pause between two live probes of one client: it shall look alive, not be a benchmark.
const PAUSE: Duration = Duration::from_millis(10);

/// A frontend as a client needs it.
#[derive(Clone, Debug)]
pub(super) struct Target {
    row: usize,
    to: SocketAddr,
    protocol: Protocol,
    expected: BTreeSet<String>,
}

/// What is to be probed of a board.
pub(super) fn targets(board: &Board) -> Vec<Target> {
    (0..board.len())
        .filter_map(|row| {
            let frontend = board.frontend(row);
            let (to, expected) = (frontend.socket(), board.expected(row).clone());
            frontend.probed().map(|protocol| Target {
                row,
                to,
                protocol,
                expected,
            })
        })
        .collect()
}

/// One result, and the row it belongs to.
pub(super) type Report = (usize, Outcome);

/// Round after round, one probe of each frontend, until interrupted or no one listens.
pub(super) fn forever(targets: &[Target], client: Addresses, reports: &Sender<Report>) {
    while !targets.is_empty() {
        for target in targets {
            if interrupt::is_set() || reports.send((target.row, target.probe(client))).is_err() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// As many probes of each frontend as it takes this client to reach every endpoint; a bounded number.
pub(super) fn once(targets: &[Target], client: Addresses, reports: &Sender<Report>) {
    for target in targets {
        let mut missing = target.expected.clone();
        // With even odds the chance to miss one of n endpoints so often is below n * e^-30.
        for _ in 0..10 + 30 * target.expected.len() {
            let outcome = target.probe(client);
            match &outcome {
                Outcome::Reached(name) => drop(missing.remove(name)),
                Outcome::Rejected => {}
                Outcome::Failed(_) => missing.clear(), // it will not get better
            }
            if interrupt::is_set() || reports.send((target.row, outcome)).is_err() {
                return;
            }
            if missing.is_empty() {
                break;
            }
        }
    }
}

impl Target {
    fn probe(&self, client: Addresses) -> Outcome {
        let length = if self.protocol == Protocol::Tcp {
            PAYLOAD
        } else {
            DATAGRAM
        };
        let mut probe = Probe::new(self.protocol, self.to).length(length);
        if self.expected.is_empty() {
            probe = probe
                .connected()
                .attempts(1)
                .timeout(Duration::from_millis(300));
        }
        let own = client.like(&self.to.ip());
        match probe.run() {
            Ok(answer) if !self.expected.contains(&answer.endpoint) => Outcome::Failed(format!(
                "{} answered, which is no endpoint of it",
                answer.endpoint
            )),
            Ok(answer) if answer.client.ip() != own => Outcome::Failed(format!(
                "{} saw {} instead of {own}",
                answer.endpoint, answer.client
            )),
            Ok(answer) => Outcome::Reached(answer.endpoint),
            Err(_) if self.expected.is_empty() => Outcome::Rejected,
            Err(error) => Outcome::Failed(format!("from {own}: {error}")),
        }
    }
}
