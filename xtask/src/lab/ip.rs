//! `ip -batch`: many changes with one process.

use anyhow::{Context as _, Result};

use super::{netns::Netns, spawn};

/// Runs lines of `ip` in a namespace, or where we are.
pub(super) fn batch(netns: Option<&Netns>, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let script = lines.join("\n") + "\n";
    let command = ["ip", "-batch", "-"];
    match netns {
        Some(netns) => spawn::output(netns, &command, &script),
        None => spawn::output_here(&command, &script),
    }
    .map(drop)
    .with_context(|| lines.join("; "))
}

impl super::Lab {
    /// Runs lines of `ip -batch` in a namespace.
    ///
    /// # Errors
    /// If one fails.
    pub fn ip(&self, netns: impl AsRef<Netns>, lines: &str) -> Result<()> {
        let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        batch(Some(netns.as_ref()), &lines)
    }
}
