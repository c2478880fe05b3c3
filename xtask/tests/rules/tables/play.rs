//! A case, step by step: the objects go to the agents, the questions to the client pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lb_common::address::Family;

use super::{
    client::{self, Seen},
    places::Places,
    world::World,
};
use crate::cases::{Addresses as _, Ask, Case, Objects, Outcome, Step};

/// How long after the marker the rest of a manifest may come into force: maps are written one by one.
const GRACE: Duration = Duration::from_millis(300);

/// Plays it; returns how many questions were asked.
///
/// # Errors
/// The first step whose outcome is another one than the table's.
pub(super) fn play(world: &World, case: &Case, places: &Places) -> Result<usize> {
    let mut asked = 0;
    let mut objects = Objects::default();
    let mut is_written = false;
    let mut lacking = Lacking::default();
    for (number, step) in (1..).zip(&case.steps) {
        let mut nodes: Vec<&String> = Vec::new();
        match step {
            Step::Apply(object) => objects.apply(object),
            Step::Delete(name) => objects.delete(name),
            Step::Ask(ask) => nodes.extend(case.nodes.iter().filter(|node| ask.is_from(node))),
            Step::Lacking { node, .. } => nodes.push(node),
        }
        if nodes.is_empty() {
            is_written = false;
            continue;
        }
        if !is_written {
            world.apply(&objects, places)?;
            is_written = true;
        }
        for node in &nodes {
            world
                .wait_in_force(node)
                .with_context(|| format!("step {number}"))?;
        }
        match step {
            Step::Ask(ask) => {
                for (node, family) in nodes.iter().flat_map(|n| Family::BOTH.map(|f| (n, f))) {
                    judge(world, node, ask, family, places)
                        .with_context(|| format!("step {number}, on {node}, {family}: {ask}"))?;
                    asked += 1;
                }
            }
            Step::Lacking {
                node,
                service,
                policies,
            } => {
                lacking.state(node, service, policies);
                lacking
                    .judge(world, node)
                    .with_context(|| format!("step {number}, on {node}: lacking {service}"))?;
                asked += 1;
            }
            Step::Apply(_) | Step::Delete(_) => {}
        }
    }
    Ok(asked)
}

fn judge(world: &World, node: &str, ask: &Ask, family: Family, places: &Places) -> Result<()> {
    let expected = ask.outcome(family, places);
    let to = SocketAddr::new(places.vip(&ask.service, family), ask.port);
    eventually(&expected, || {
        let endpoints = match &expected {
            Outcome::Answered(endpoints, _) => endpoints.iter().copied().collect(),
            _ => BTreeSet::new(),
        };
        let before = verdicts(world, node)?;
        let seen = client::open(world, node, (to, ask.protocol), &endpoints)?;
        let after = verdicts(world, node)?;
        let counted: Vec<String> = after
            .into_iter()
            .filter(|(label, count)| before.get(label) != Some(count))
            .map(|(label, _)| label)
            .collect();
        let affinity = affinity(world, node, to, ask.protocol)?;
        let is_right = fits(&expected, &seen, affinity) && is_counted(&expected, &counted);
        Ok((is_right, (seen, affinity, counted)))
    })
}

/// Tries till what comes is right, but no longer than a manifest may take.
fn eventually<T: Debug>(
    expected: &impl Debug,
    attempt: impl Fn() -> Result<(bool, T)>,
) -> Result<()> {
    let start = Instant::now();
    loop {
        let begun = start.elapsed();
        let (is_right, came) = attempt()?;
        if is_right {
            return Ok(());
        }
        ensure!(begun < GRACE, "expected {expected:?}, but came {came:?}");
    }
}

/// Whether clients saw what they should; `affinity` is what the node's maps say, in seconds.
fn fits(expected: &Outcome, seen: &Seen, affinity: u64) -> bool {
    match (expected, seen) {
        (Outcome::Answered(endpoints, sticky), Seen::Answered(seen)) => {
            let endpoints: BTreeSet<_> = endpoints.iter().copied().collect();
            let who = match sticky {
                0 => *seen == endpoints,
                _ => seen.len() == 1 && seen.is_subset(&endpoints),
            };
            who && affinity == u64::from(*sticky)
        }
        (Outcome::Refused, Seen::Refused)
        | (Outcome::Dropped, Seen::Dropped)
        | (Outcome::Passed, Seen::Passed) => true,
        _ => false,
    }
}

/// Whether it was the datapath that saw to it, and for such a reason.
fn is_counted(expected: &Outcome, counted: &[String]) -> bool {
    let reasons: &[&str] = match expected {
        Outcome::Answered(..) => &["dnat", "rev-nat"],
        Outcome::Refused => &["no-endpoint", "unknown-port"],
        Outcome::Dropped => &["no-local-endpoint", "unallocated"],
        // None of our business.
        Outcome::Passed => return counted.is_empty(),
    };
    !counted.is_empty() && counted.iter().all(|label| reasons.contains(&&**label))
}

/// What a node has counted so far.
fn verdicts(world: &World, node: &str) -> Result<BTreeMap<String, u64>> {
    let mut status = world.duolb(node, &["status"])?;
    serde_json::from_value(status["verdicts"].take()).context("verdicts")
}

/// How long clients stay with an endpoint of a frontend, by a node's maps; 0 if there is no such frontend.
fn affinity(world: &World, node: &str, to: SocketAddr, protocol: u8) -> Result<u64> {
    let list = world.duolb(node, &["service", "list"])?;
    let name = match protocol {
        6 => "TCP",
        17 => "UDP",
        _ => "SCTP",
    };
    let is_it = |row: &&serde_json::Value| {
        row["address"] == to.ip().to_string() && row["port"] == to.port() && row["protocol"] == name
    };
    let row = list.as_array().context("no list")?.iter().find(is_it);
    Ok(row
        .and_then(|row| row["affinitySeconds"].as_u64())
        .unwrap_or_default())
}

/// Who lacks local endpoints where, as last stated: agents count Services, they do not name them.
#[derive(Debug, Default)]
struct Lacking(BTreeMap<(String, String), Vec<&'static str>>);

impl Lacking {
    fn state(&mut self, node: &str, service: &str, policies: &[&'static str]) {
        let key = (node.to_owned(), service.to_owned());
        self.0.insert(key, policies.to_vec());
    }

    fn judge(&self, world: &World, node: &str) -> Result<()> {
        let stated = || self.0.iter().filter(|((other, _), _)| other == node);
        let count = |policy| {
            let services = stated().filter(|(_, policies)| policies.contains(&policy));
            // Each is there once for each family.
            services.map(|_| 2.0).sum::<f64>()
        };
        let expected = ["internal", "external"].map(|policy| (policy, count(policy)));
        eventually(&expected, || {
            let came = expected.map(|(policy, _)| (policy, world.lacking(node, policy).ok()));
            let is_right = came == expected.map(|(policy, count)| (policy, Some(count)));
            Ok((is_right, came))
        })
    }
}
