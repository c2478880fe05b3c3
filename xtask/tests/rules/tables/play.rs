//! A case, step by step: the objects go to the agents, the questions to the clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lb_common::address::Family;

use super::{
    client::{Caller, Seen},
    places::Places,
    verdicts,
    world::World,
};
use crate::cases::{Ask, Case, Client, Objects, Outcome, Step, Target};

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
    let mut stuck = Stuck::default();
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
            stuck = Stuck::default();
            is_written = true;
        }
        for node in &nodes {
            world
                .wait_in_force(node)
                .with_context(|| format!("step {number}"))?;
        }
        match step {
            Step::Ask(ask) => {
                let mut clients = ask.clients.iter();
                let stranger = clients.find(|(node, _)| !nodes.contains(&node));
                ensure!(stranger.is_none(), "step {number}: no node: {ask}");
                for (node, family) in nodes
                    .iter()
                    .flat_map(|n| ask.families().map(move |f| (n, f)))
                {
                    for client in ask.clients_on(node) {
                        let place = || format!("step {number}, {node} {client:?}, {family}: {ask}");
                        let seen = judge(world, (node, client), ask, family, places)
                            .with_context(place)?;
                        stuck.judge((node, client), &seen).with_context(place)?;
                        asked += 1;
                    }
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

fn judge(
    world: &World,
    (node, client): (&str, Client),
    ask: &Ask,
    family: Family,
    places: &Places,
) -> Result<(Outcome, Seen)> {
    let expected = ask.outcome(family, places);
    let to = SocketAddr::new(ask.address(family, places), ask.port);
    // At another node's primary address.
    let elsewhere = match &ask.target {
        Target::Node(name) if ["other", "localhost", node].contains(&name.as_str()) => None,
        Target::Node(name) => Some(name.as_str()),
        _ => None,
    };
    let entrance = match client {
        Client::Outside => Some(node),
        _ => elsewhere,
    };
    let caller = Caller {
        lab: &world.lab,
        places,
        netns: world.netns(node, client),
        client,
        own: world.own(node, client, family),
        entrance,
        to,
        protocol: ask.protocol,
    };
    if client == Client::Outside {
        world.lead(node)?;
    }
    let endpoints = match &expected {
        Outcome::Answered(endpoints, _) => endpoints.iter().copied().collect(),
        _ => BTreeSet::new(),
    };
    let is_away = endpoints
        .iter()
        .any(|endpoint| places.node_of(endpoint.ip()) != Some(node));
    let (seen, _) = eventually(&expected, || {
        let before = world.verdicts(node)?;
        let mut seen = caller.open(&endpoints)?;
        if elsewhere.is_some() && matches!(seen, Seen::Answered(_)) {
            seen = Seen::Passed; // that node's business
        }
        let counted = verdicts::find_new(&before, &world.verdicts(node)?);
        let is_right =
            fits(&expected, &seen) && verdicts::are_right((client, is_away), &expected, &counted);
        Ok((is_right, (seen, counted)))
    })?;
    if let Outcome::Answered(_, sticky @ 1..) = expected {
        let affinity = affinity(world, node, to)?;
        ensure!(affinity == Some(sticky), "affinity {affinity:?}");
    }
    Ok((expected, seen))
}

/// Tries till what comes is right, but no longer than a manifest may take.
fn eventually<T: Debug>(
    expected: &impl Debug,
    attempt: impl Fn() -> Result<(bool, T)>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let begun = start.elapsed();
        let (is_right, came) = attempt()?;
        if is_right {
            return Ok(came);
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

/// For how many seconds clients stay with an endpoint, by a node's maps.
fn affinity(world: &World, node: &str, to: SocketAddr) -> Result<Option<u32>> {
    let frontends = world.frontends(node)?;
    let mut frontends = frontends.iter();
    let row =
        frontends.find(|row| row["address"] == to.ip().to_string() && row["port"] == to.port());
    let seconds = row.and_then(|row| row["affinitySeconds"].as_u64());
    Ok(seconds.map(u32::try_from).transpose()?)
}

/// Which endpoint each client stays with, as long as nothing changes: whatever address of the service it calls, the
/// same one (rule 68).
#[derive(Debug, Default)]
struct Stuck(BTreeMap<String, Seen>);

impl Stuck {
    fn judge(&mut self, client: (&str, Client), (expected, seen): &(Outcome, Seen)) -> Result<()> {
        if let Outcome::Answered(_, 1..) = expected {
            let key = format!("{client:?} {expected:?}");
            let first = self.0.entry(key).or_insert_with(|| seen.clone());
            ensure!(first == seen, "{seen:?} answers, and {first:?} before");
        }
        Ok(())
    }
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
        .map(drop)
    }
}
