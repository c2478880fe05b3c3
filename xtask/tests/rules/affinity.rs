//! Session affinity by client address (rules 68 to 72).

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use xtask::lab::{Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, answered},
    needs_root,
    objects::{Pod, frontends, web},
};

fn by_client(seconds: u32) -> Value {
    json!({
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}},
    })
}

/// Who answers new flows of a client, per frontend and protocol.
fn stuck_to(cluster: &Cluster, node: u8, rounds: usize) -> Result<Vec<BTreeSet<String>>> {
    let mut all = Vec::new();
    for to in frontends() {
        for protocol in Protocol::BOTH {
            let probe = Probe::new(protocol, to);
            let names = (0..rounds).map(|_| Ok(probe.run_in(cluster.client(node))?.endpoint));
            all.push(names.collect::<Result<BTreeSet<_>>>()?);
        }
    }
    Ok(all)
}

#[test]
fn rule_68_a_client_stays_with_one_endpoint_until_affinity_is_switched_off() -> Result<()> {
    needs_root!();
    let pods = [10, 11, 12, 13].map(|number| Pod::new(1, number));
    let cluster = Cluster::start(&web(&by_client(10_800), &pods), &[])?;
    for node in 1..=3 {
        for names in stuck_to(&cluster, node, 30)? {
            ensure!(names.len() == 1, "client on node {node}: {names:?}");
        }
    }
    // Rule 71: at once, for new flows.
    cluster.apply(&web(&json!({}), &pods))?;
    for node in 1..=3 {
        cluster.wait_for(node, &answered(&pods))?;
    }
    Ok(())
}

#[test]
fn rule_70_a_client_whose_endpoint_left_gets_another_and_stays_there() -> Result<()> {
    needs_root!();
    let pods = [10, 11, 12].map(|number| Pod::new(2, number));
    let cluster = Cluster::start(&web(&by_client(600), &pods), &[])?;
    let before = stuck_to(&cluster, 1, 5)?;
    // Each in turn leaves, so that whichever the client is stuck to has left once.
    for gone in 0..pods.len() {
        let left: Vec<Pod> = pods
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != gone)
            .map(|(_, pod)| pod.clone())
            .collect();
        cluster.apply(&web(&by_client(600), &left))?;
        let start = Instant::now();
        let name = pods[gone].name();
        while stuck_to(&cluster, 1, 1)?
            .iter()
            .any(|names| names.contains(&name))
        {
            ensure!(
                start.elapsed() < Duration::from_secs(2),
                "{name} still answers"
            );
        }
        for names in stuck_to(&cluster, 1, 20)? {
            ensure!(names.len() == 1, "{before:?}, then {names:?}");
        }
    }
    Ok(())
}

#[test]
fn rule_69_the_timeout_runs_from_the_last_new_flow() -> Result<()> {
    needs_root!();
    let pods = [10, 11, 12, 13].map(|number| Pod::new(1, number));
    let cluster = Cluster::start(&web(&by_client(3), &pods), &[])?;
    let probe = Probe::new(Protocol::Tcp, frontends()[0]);
    let who = || -> Result<String> { Ok(probe.run_in(cluster.client(1))?.endpoint) };
    let first = who()?;
    // Refreshed more often than it runs out, for longer than it runs.
    for _ in 0..6 {
        std::thread::sleep(Duration::from_secs(1));
        ensure!(who()? == first, "it left {first} though it was refreshed");
    }
    // After a pause, another one in time: each pause is a new draw out of four.
    let mut names = BTreeSet::from([first]);
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(5_500));
        names.insert(who()?);
        if names.len() > 1 {
            return Ok(());
        }
    }
    anyhow::bail!("{names:?} stays though the timeout has passed six times")
}
