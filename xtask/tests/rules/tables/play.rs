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
use crate::cases::{Ask, Case, Objects, Outcome, Step};

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
            Step::Ask(ask) => nodes.extend(
                case.nodes
                    .iter()
                    .filter(|node| ask.clients_on(node).next().is_some()),
            ),
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
    let to = SocketAddr::new(ask.address(family, places), ask.port);
    eventually(&expected, || {
        let endpoints = match &expected {
            Outcome::Answered(endpoints, _) => endpoints.iter().copied().collect(),
            _ => BTreeSet::new(),
        };
        // Of flows that are answered, the answers tell more than counters do.
        let counts = || match endpoints.is_empty() {
            true => world.verdicts(node),
            false => Ok(BTreeSet::new()),
        };
        let before = counts()?;
        let seen = client::open(world, node, (to, ask.protocol), &endpoints)?;
        let counted: Vec<String> = counts()?.difference(&before).cloned().collect();
        let is_right = fits(&expected, &seen) && is_counted(&expected, &counted);
        Ok((is_right, (seen, counted)))
    })?;
    if let Outcome::Answered(_, sticky @ 1..) = expected {
        let affinity = affinity(world, node, to)?;
        ensure!(affinity == Some(sticky), "affinity {affinity:?}");
    }
    Ok(())
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

/// Whether clients saw what they should.
fn fits(expected: &Outcome, seen: &Seen) -> bool {
    match (expected, seen) {
        (Outcome::Answered(endpoints, sticky), Seen::Answered(seen)) => {
            let endpoints: BTreeSet<_> = endpoints.iter().copied().collect();
            match sticky {
                0 => *seen == endpoints,
                _ => seen.len() == 1 && seen.is_subset(&endpoints),
            }
        }
        (Outcome::Refused, Seen::Refused)
        | (Outcome::Dropped, Seen::Dropped)
        | (Outcome::Passed, Seen::Passed) => true,
        _ => false,
    }
}

/// Whether it was the datapath that saw to it, and for such a reason; `counted` are the samples that are new.
fn is_counted(expected: &Outcome, counted: &[String]) -> bool {
    let reasons: &[&str] = match expected {
        Outcome::Refused => &["\"no-endpoint\"", "\"unknown-port\""],
        Outcome::Dropped => &["\"no-local-endpoint\"", "\"unallocated\""],
        // None of our business, or seen otherwise.
        Outcome::Passed | Outcome::Answered(..) => return counted.is_empty(),
    };
    let is_reason = |sample: &String| reasons.iter().any(|reason| sample.contains(reason));
    !counted.is_empty() && counted.iter().all(is_reason)
}

/// For how many seconds clients stay with an endpoint, by a node's maps.
fn affinity(world: &World, node: &str, to: SocketAddr) -> Result<Option<u32>> {
    let frontends = world.frontends(node)?;
    let mut frontends = frontends.iter();
    let row =
        frontends.find(|row| row["address"] == to.ip().to_string() && row["port"] == to.port());
    let seconds = row.and_then(|row| row["affinitySeconds"].as_u64());
    Ok(seconds.map(u32::try_from).transpose()?)
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
            f64::from(2 * u8::try_from(services.count()).expect("a few"))
        };
        let expected = ["internal", "external"].map(|policy| (policy, count(policy)));
        eventually(&expected, || {
            let came = expected.map(|(policy, _)| (policy, world.lacking(node, policy).ok()));
            let is_right = came == expected.map(|(policy, count)| (policy, Some(count)));
            Ok((is_right, came))
        })
    }
}
