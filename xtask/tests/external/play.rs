//! Has the conversations of the cells, all clients at once, and tells what was seen.
//!
//! Sockets block, so each client has a few threads in its namespace: cells that are dropped wait beside each
//! other and not in a row. A cell is asked until every endpoint that may answer has answered, at least twice,
//! so that one that may not gets its chance.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    panic::resume_unwind,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use xtask::lab::{Protocol, interrupt, probe::Probe};

use crate::{
    cells::Cell,
    cluster::Cluster,
    reference::{Client, Fate},
    services::{Numbered, name},
};

/// Conversations that a client has at once.
const ABREAST: usize = 12;
/// The first port of a client's datagram sockets: above those of SNAT and the node ports.
const FIRST_PORT: u16 = 33_000;
/// A silence as long as this is a drop.
const SILENCE: Duration = Duration::from_millis(400);
/// How long an answer that must come may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What came of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// These endpoints answered, and saw these addresses.
    Answered(BTreeMap<String, BTreeSet<IpAddr>>),
    /// Somebody said that there is no one.
    Refused,
    /// Nothing came back.
    Silent,
    /// The client's own kernel said that it may not.
    Denied,
    /// Anything else, or not always the same.
    Strange(String),
}

/// The cells in their order, each with what came of it.
///
/// # Errors
/// If a namespace cannot be entered, or on Ctrl-C.
pub(crate) fn play(
    cluster: &Cluster,
    services: &[Numbered],
    cells: &[Cell],
) -> Result<Vec<Outcome>> {
    let mut clients: BTreeMap<Client, Vec<usize>> = BTreeMap::new();
    for (at, cell) in cells.iter().enumerate() {
        clients.entry(cell.client).or_default().push(at);
    }
    let outcomes = Mutex::new(vec![None; cells.len()]);
    let turns: Vec<Turns> = clients
        .into_iter()
        .map(|(client, cells)| Turns {
            client,
            cells,
            next: AtomicUsize::new(0),
            port: AtomicU16::new(FIRST_PORT),
        })
        .collect();
    thread::scope(|scope| {
        let threads = turns.iter().flat_map(|turn| [turn; ABREAST]);
        let threads = threads.map(|turns| {
            let work = || {
                while let Some(at) = turns.take() {
                    interrupt::check()?;
                    let outcome = ask(&services[cells[at].service], &cells[at], &turns.port);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(outcome);
                }
                Ok(())
            };
            let netns = cluster.netns(turns.client);
            scope.spawn(move || netns.run(work).flatten())
        });
        let threads: Vec<thread::ScopedJoinHandle<'_, Result<()>>> = threads.collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        };
        threads.into_iter().try_for_each(join)
    })?;
    let outcomes = outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    outcomes
        .into_iter()
        .map(|outcome| outcome.context("a cell that nobody asked"))
        .collect()
}

/// The cells of a client, shared by its threads.
struct Turns {
    client: Client,
    cells: Vec<usize>,
    next: AtomicUsize,
    /// No two datagram sockets have the same: an answer to who had it before would be one to who has it now.
    port: AtomicU16,
}

impl Turns {
    fn take(&self) -> Option<usize> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.cells.get(next).copied()
    }
}

/// One cell, from the calling thread's namespace.
fn ask(service: &Numbered, cell: &Cell, port: &AtomicU16) -> Outcome {
    let to = service.socket(cell.frontend, cell.v6);
    // Connected: an unconnected UDP socket hears of no refusal.
    let probe = Probe::new(cell.protocol, to).length(100).connected();
    let (probe, mut missing) = match &cell.expected {
        Fate::Answered(all) => (
            probe.timeout(PATIENCE).attempts(1),
            all.keys().map(|endpoint| name(*endpoint)).collect(),
        ),
        Fate::Refused | Fate::Denied => (probe.timeout(PATIENCE).attempts(1), BTreeSet::new()),
        Fate::Dropped | Fate::Absent => (probe.timeout(SILENCE).attempts(1), BTreeSet::new()),
    };
    let (mut answered, mut others) = (BTreeMap::new(), BTreeSet::new());
    // A datagram or two may get lost on a busy machine: a veth's XDP ring has 256 places. A rule that is broken loses all.
    let may_answer = matches!(cell.expected, Fate::Answered(_));
    let mut may_lose = if cell.protocol == Protocol::Udp && may_answer {
        2
    } else {
        0
    };
    // With even odds one of two goes unseen in one of 2^40 cells.
    for turn in 0..40 {
        if turn >= 2 && missing.is_empty() {
            break;
        }
        // Both kinds of UDP socket: the unconnected one compares the sender of each answer.
        let mut probe = probe.clone();
        probe.connected = turn % 2 == 0 || !may_answer;
        if cell.protocol == Protocol::Udp {
            probe = probe.from_port(port.fetch_add(1, Ordering::Relaxed));
        }
        match probe.run() {
            Ok(answer) => {
                missing.remove(&answer.endpoint);
                let seen: &mut BTreeSet<IpAddr> = answered.entry(answer.endpoint).or_default();
                seen.insert(answer.client.ip());
            }
            Err(error) if error.source.kind() == io::ErrorKind::TimedOut && may_lose > 0 => {
                may_lose -= 1;
            }
            Err(error) => {
                let outcome = match error.source.kind() {
                    io::ErrorKind::ConnectionRefused => Outcome::Refused,
                    io::ErrorKind::TimedOut => Outcome::Silent,
                    io::ErrorKind::PermissionDenied => Outcome::Denied,
                    _ => Outcome::Strange(error.to_string()),
                };
                let is_silent = outcome == Outcome::Silent;
                others.insert(format!("{outcome:?}"));
                if is_silent || !may_answer {
                    // It will not get better, and waiting is what costs.
                    return settle(answered, &others, Some(outcome));
                }
            }
        }
    }
    settle(answered, &others, None)
}

/// One outcome of all turns.
fn settle(
    answered: BTreeMap<String, BTreeSet<IpAddr>>,
    others: &BTreeSet<String>,
    last: Option<Outcome>,
) -> Outcome {
    match (answered.is_empty(), others.len(), last) {
        (false, 0, _) => Outcome::Answered(answered),
        (true, 1, Some(last)) => last,
        _ => Outcome::Strange(format!("{answered:?}, and {others:?}")),
    }
}
