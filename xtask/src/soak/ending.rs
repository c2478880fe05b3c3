//! When all traffic has stopped: whether anything is left that should not be.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;

use super::{
    resources::Resources,
    scene::Scene,
    stage::{NODES, Stage},
};
use crate::lab::interrupt;

/// How long flows may take to be forgotten: the longest timeout that agents are told, two rounds of the sweep, and as
/// much again on a machine that is slow.
const FORGET: Duration = Duration::from_secs(420);
/// How long the kernel may take to free what nobody holds.
const FREE: Duration = Duration::from_secs(30);
/// Maps that hold what clients have done.
const OF_CLIENTS: [&str; 2] = ["FLOWS", "AFFINITY"];
/// Maps that hold what is desired, and so the same for the same.
const OF_SERVICES: [&str; 4] = ["FRONTENDS", "SERVICES", "SOURCES", "RANGES"];

/// How many entries each map of each node has.
pub(super) type Fill = BTreeMap<String, u64>;

/// Reads that.
///
/// # Errors
/// If `duolb status` fails.
pub(super) fn fill(stage: &Stage) -> Result<Fill> {
    let mut fill = Fill::new();
    for node in NODES {
        let status = stage.status(node)?;
        for map in status["maps"].as_array().into_iter().flatten() {
            if let (Some(name), Some(used)) = (map["name"].as_str(), map["used"].as_u64()) {
                fill.insert(format!("{node} {name}"), used);
            }
        }
    }
    Ok(fill)
}

fn is_of(kinds: &[&str], entry: &str) -> bool {
    let map = entry.split(' ').nth(1).unwrap_or_default();
    kinds.iter().any(|kind| map.starts_with(kind))
}

/// Waits until what clients did is forgotten; complains of what is not.
///
/// # Errors
/// If `duolb status` fails.
pub(super) fn forget(stage: &Stage, scene: &Scene) -> Result<Fill> {
    let start = Instant::now();
    loop {
        let now = fill(stage)?;
        let left: Vec<String> = now
            .iter()
            .filter(|(entry, used)| is_of(&OF_CLIENTS, entry) && **used > 0)
            .map(|(entry, used)| format!("{entry}: {used}"))
            .collect();
        // Without expiry entries are only used again.
        if left.is_empty() || !scene.served.conntrack || interrupt::is_set() {
            return Ok(now);
        }
        if start.elapsed() > FORGET {
            let left = left.join(", ");
            scene.complain(format!("leaked: entries after {FORGET:?}: {left}"));
            for node in NODES {
                let list = stage.lab.agent(node).duolb(&["conntrack", "list"]);
                let some: Vec<String> = list?.lines().take(4).map(str::to_owned).collect();
                scene.complain(format!("leaked on {node}: {}", some.join(" | ")));
            }
            return Ok(now);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Complains of maps that are not as full as they were with the same services.
pub(super) fn compare(scene: &Scene, before: &Fill, after: &Fill) {
    for (entry, used) in before
        .iter()
        .filter(|(entry, _)| is_of(&OF_SERVICES, entry))
    {
        let now = after.get(entry).copied().unwrap_or_default();
        if now != *used {
            scene.complain(format!(
                "leaked: {entry}: {now} entries, {used} in the beginning"
            ));
        }
    }
}

/// Copies agents' logs to where they outlive the lab.
pub(super) fn keep_logs(stage: &Stage, dir: &Path) {
    for node in NODES {
        let _ = fs::write(dir.join(format!("{node}.log")), stage.lab.agent(node).log()); // nothing depends on it
    }
}

/// Ends agents and removes all they left, as a user would.
pub(super) fn clean_up(stage: &mut Stage, scene: &Scene) {
    for node in NODES {
        let agent = stage.lab.agent_mut(node);
        if let Err(error) = agent.stop() {
            scene.complain(format!("{error:#}"));
        }
        if let Err(error) = agent.duolb(&["cleanup"]) {
            scene.complain(format!("cleanup on {node}: {error:#}"));
        }
        if agent.bpffs().exists() {
            let pins = agent.bpffs().display().to_string();
            scene.complain(format!("left behind: {pins}"));
        }
    }
}

/// Verdicts of all nodes together.
///
/// # Errors
/// If `duolb status` fails.
pub(super) fn verdicts(stage: &Stage) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for node in NODES {
        let status = stage.status(node)?;
        let verdicts = status["verdicts"].as_object().into_iter().flatten();
        for (label, count) in verdicts {
            let count = Value::as_u64(count).unwrap_or_default();
            *all.entry(label.clone()).or_default() += count;
        }
    }
    Ok(all)
}

/// Complains of objects in the kernel that were agents', and of namespaces, once everything has been taken away;
/// returns how many objects there had been.
pub(super) fn gone(scene: &Scene, resources: &Resources, prefix: &str) -> usize {
    let start = Instant::now();
    loop {
        let (count, mut left) = resources.left();
        let names = fs::read_dir(Path::new("/run/netns")).into_iter().flatten();
        let names = names.flatten().map(|entry| entry.file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        left.extend(names.filter(|name| name.starts_with(prefix)));
        if left.is_empty() {
            return count;
        }
        if start.elapsed() > FREE {
            scene.complain(format!("left behind: {}", left.join(", ")));
            return count;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}
