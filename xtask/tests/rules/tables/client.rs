//! What new flows of a client pod come to, as the client sees it.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use xtask::lab::{Protocol, probe::Probe};

use super::{
    sctp,
    world::{STACK, World},
};

/// A silence as long as this is a drop.
pub(super) const SILENCE: Duration = Duration::from_millis(400);
/// A refusal comes sooner.
pub(super) const AT_ONCE: Duration = Duration::from_millis(300);
/// So many flows at least: one of two endpoints goes unseen in one of 16 million rounds.
const FLOWS: usize = 24;
/// And so many at most, until all that are expected have been seen.
const MOST: usize = 96;

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// All of these answered, and nobody else.
    Answered(BTreeSet<SocketAddr>),
    /// Somebody said at once that there is nobody.
    Refused,
    /// Nothing came back.
    Dropped,
    /// It arrived behind the node as it was sent.
    Passed,
    /// None of these.
    Odd(String),
}

/// Opens flows from the client pod of `node` till each of `expected` has answered, or some more.
pub(super) fn open(
    world: &World,
    node: &str,
    (to, protocol): (SocketAddr, u8),
    expected: &BTreeSet<SocketAddr>,
) -> Result<Seen> {
    let (lab, client) = (&world.lab, world.client(node));
    let own = client.addresses.like(&to.ip());
    let protocol = match protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return client.netns.run(|| sctp::open(own, to))?,
    };
    let probe = Probe::new(protocol, to)
        .timeout(SILENCE)
        .attempts(1)
        .connected();
    let flows = || -> Result<Seen> {
        let mut seen = BTreeSet::new();
        for flow in 1..=MOST {
            let start = Instant::now();
            let answer = match probe.run() {
                Ok(answer) => answer,
                Err(error) if seen.is_empty() => {
                    return Ok(end(error.source.kind(), start, &error));
                }
                Err(error) => return Ok(Seen::Odd(format!("{error}, after {seen:?}"))),
            };
            if answer.client.ip() != own {
                return Ok(Seen::Odd(format!("seen as {}: {answer:?}", answer.client)));
            }
            if answer.endpoint == STACK {
                return Ok(Seen::Passed);
            }
            let (pod, port) = answer.endpoint.split_once(':').context("no port")?;
            let ip = lab.pod(pod).addresses.like(&own);
            seen.insert(SocketAddr::new(ip, port.parse()?));
            if flow >= FLOWS && seen.is_superset(expected) {
                break;
            }
        }
        Ok(Seen::Answered(seen))
    };
    client.netns.run(flows)?
}

/// What a first flow came to that nobody answered.
pub(super) fn end(kind: io::ErrorKind, start: Instant, error: &impl ToString) -> Seen {
    match kind {
        io::ErrorKind::ConnectionRefused if start.elapsed() < AT_ONCE => Seen::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Seen::Dropped,
        _ => Seen::Odd(error.to_string()),
    }
}
