//! What new flows of a client come to, as the client sees it.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use xtask::lab::{Answer, Lab, Netns, Protocol, probe::Probe};

use super::{places::Places, sctp, stack::STACK};
use crate::cases::Client;

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
    /// Nothing came back; a process of the node is told at once that it may not (rule 54).
    Dropped,
    /// It arrived behind the node as it was sent.
    Passed,
    /// None of these.
    Odd(String),
}

/// Who asks, and what.
#[derive(Debug)]
pub(super) struct Caller<'a> {
    pub(super) lab: &'a Lab,
    pub(super) places: &'a Places,
    pub(super) netns: &'a Netns,
    pub(super) client: Client,
    /// Which addresses its packets may have as they leave it.
    pub(super) own: Vec<IpAddr>,
    /// The node that it comes to by an uplink, if there is one.
    pub(super) entrance: Option<&'a str>,
    pub(super) to: SocketAddr,
    /// IP protocol number.
    pub(super) protocol: u8,
}

impl Caller<'_> {
    /// Opens flows till each of `expected` has answered, or some more.
    pub(super) fn open(&self, expected: &BTreeSet<SocketAddr>) -> Result<Seen> {
        let (netns, own, to) = (self.netns, self.own[0], self.to);
        let protocol = match self.protocol {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            _ => return netns.run(|| sctp::open(own, to))?,
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
                        return Ok(self.end(error.source.kind(), start, &error));
                    }
                    Err(error) => return Ok(Seen::Odd(format!("{error}, after {seen:?}"))),
                };
                let by = self.find_endpoint(&answer)?;
                if !self.is_seen_right(answer.client.ip(), by) {
                    return Ok(Seen::Odd(format!("seen as {}: {answer:?}", answer.client)));
                }
                let Some(by) = by else {
                    return Ok(Seen::Passed);
                };
                seen.insert(by);
                if flow >= FLOWS && seen.is_superset(expected) {
                    break;
                }
            }
            Ok(Seen::Answered(seen))
        };
        netns.run(flows)?
    }

    /// Which endpoint has answered; none if it is who answers what passes.
    fn find_endpoint(&self, answer: &Answer) -> Result<Option<SocketAddr>> {
        if answer.endpoint == STACK {
            return Ok(None);
        }
        let (pod, port) = answer.endpoint.split_once(':').context("no port")?;
        let ip = self.lab.pod(pod).addresses.like(&self.to.ip());
        Ok(Some(SocketAddr::new(ip, port.parse()?)))
    }

    /// Whether who answers may see the client by that address. Clients keep their own (rule 46, and by our choice
    /// also where rule 44 would not have it), unless they came in by another node than the endpoint is known to be
    /// on: the answer would not come back by that one, so that they get its address.
    fn is_seen_right(&self, client: IpAddr, by: Option<SocketAddr>) -> bool {
        match (self.entrance, by) {
            (Some(node), Some(by)) if self.places.node_of(by.ip()) != Some(node) => {
                client == self.lab.node(node).addresses.like(&client)
            }
            (_, None) if self.to.ip().is_loopback() => client.is_loopback(),
            _ => self.own.contains(&client),
        }
    }

    /// What a first flow came to that nobody answered.
    fn end(&self, kind: io::ErrorKind, start: Instant, error: &impl ToString) -> Seen {
        match (kind, self.client) {
            (io::ErrorKind::PermissionDenied, Client::Host) if start.elapsed() < AT_ONCE => {
                Seen::Dropped
            }
            (io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock, Client::Host) => {
                Seen::Odd("a process of the node was left waiting".to_owned())
            }
            _ => end(kind, start, error),
        }
    }
}

/// The same for clients that nobody tells anything.
pub(super) fn end(kind: io::ErrorKind, start: Instant, error: &impl ToString) -> Seen {
    match kind {
        io::ErrorKind::ConnectionRefused if start.elapsed() < AT_ONCE => Seen::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Seen::Dropped,
        _ => Seen::Odd(error.to_string()),
    }
}
