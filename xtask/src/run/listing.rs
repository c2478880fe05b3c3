//! What the agents serve right now, read from every node.
//!
//! Every node is asked, because each serves its own pods: what a client may expect is what its own node
//! says, and the counters are those of all nodes together.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::frontends::Frontend;
use crate::lab::Lab;

/// One reading of all nodes.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// When the reading began: what happened before is in it.
    pub(super) began: Instant,
    /// Each node's frontends.
    pub(super) nodes: BTreeMap<String, Vec<Frontend>>,
    /// What is wrong with the manifests, if anything is.
    pub(super) problem: Option<String>,
}

/// Asks every agent.
///
/// # Errors
/// If an agent does not run, with the end of its log, or does not answer.
pub(super) fn read(lab: &Lab) -> Result<Listing> {
    check(lab)?;
    let began = Instant::now();
    let nodes = lab.nodes().map(|node| {
        let list = lab
            .agent(&node.name)
            .duolb(&["service", "list", "-o", "json"])
            .and_then(|list| Frontend::parse_list(&list))
            .with_context(|| format!("agent on {}", node.name))?;
        Ok((node.name.clone(), list))
    });
    let nodes = nodes.collect::<Result<_>>()?;
    Ok(Listing {
        began,
        nodes,
        problem: problem(lab)?,
    })
}

/// Fails if an agent does not run, with the end of its log.
pub(super) fn check(lab: &Lab) -> Result<()> {
    lab.nodes()
        .try_for_each(|node| lab.agent(&node.name).check())
}

/// What the first agent says of the manifests: all of them read the same.
fn problem(lab: &Lab) -> Result<Option<String>> {
    let Some(node) = lab.nodes().next() else {
        return Ok(None);
    };
    let agent = lab.agent(&node.name);
    let status = agent.duolb(&["status", "-o", "json"])?;
    let status: Value = serde_json::from_str(&status).context("duolb status")?;
    let count = status["agent"]["problems"].as_u64().unwrap_or_default();
    let last = || last_warning(&agent.log()).unwrap_or_default();
    Ok((count > 0).then(|| format!("manifests: {count} not right; said last: {}", last())))
}

/// The last thing a log says about manifests, without time and place.
fn last_warning(log: &str) -> Option<String> {
    let mut lines = log.lines().rev();
    let (_, said) = lines.find_map(|line| line.split_once(" WARN duolb::source::"))?;
    let (_, said) = said.split_once(": ")?;
    Some(said.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_warning_is_told_without_time_and_place() {
        let log = "2026-11-22T23:40:31Z  WARN duolb::source::manifests::watch: /x/a.yaml:1: first\n\
            2026-11-22T23:40:32Z  WARN duolb::source::manifests::watch: /x/b.yaml:2: second: why\n\
            2026-11-22T23:40:33Z  INFO duolb::agent: maps written operations=2\n";
        assert_eq!(last_warning(log).unwrap(), "/x/b.yaml:2: second: why");
        assert_eq!(last_warning("WARN nothing of the kind"), None);
    }
}
