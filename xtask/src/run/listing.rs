//! What the agents serve right now, read from every node.
//!
//! Every node is asked, because each serves its own pods: what a client may expect is what its own node
//! says, and the counters are those of all nodes together.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result};

use super::frontends::Frontend;
use crate::lab::Lab;

/// One reading of all nodes.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// When the reading began: what happened before is in it.
    pub(super) began: Instant,
    /// Each node's frontends.
    pub(super) nodes: BTreeMap<String, Vec<Frontend>>,
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
    Ok(Listing { began, nodes })
}

/// Fails if an agent does not run, with the end of its log.
pub(super) fn check(lab: &Lab) -> Result<()> {
    lab.nodes()
        .try_for_each(|node| lab.agent(&node.name).check())
}
