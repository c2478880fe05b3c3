//! Which verdicts an agent's datapath has given, left behind for `cargo xtask test`, which prints them at its end.

use std::{fs::OpenOptions, io::Write as _, path::Path};

use super::agent::Agent;

/// Adds the counts of the agent's maps to the file `namespaces` in `directory`; those that cannot be read, since a
/// test has removed the maps, are lost.
pub(super) fn leave(agent: &Agent, directory: &Path) {
    let Ok(status) = agent.duolb(&["status", "-o", "json"]) else {
        return;
    };
    let Ok(status) = serde_json::from_str::<serde_json::Value>(&status) else {
        return;
    };
    let counts = status["verdicts"].as_object().into_iter().flatten();
    let seen = counts.filter(|(_, count)| count.as_u64() > Some(0));
    let lines: String = seen
        .map(|(label, count)| format!("{label} {count}\n"))
        .collect();
    let file = directory.join("namespaces");
    let file = OpenOptions::new().create(true).append(true).open(file);
    // One write, so that the lines of two processes do not mix. Lost lines show as a verdict that nobody saw.
    let _ = file.and_then(|mut file| file.write_all(lines.as_bytes()));
}
