//! What the nodes and the sockets were like when something went wrong: afterwards nobody can tell.

use std::{
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};

use crate::lab::spawn;

/// So often it is taken: where much goes wrong, the first times tell why.
const KEPT: usize = 12;

/// Takes it.
#[derive(Debug)]
pub(super) struct Witness {
    /// The command and each agent's pins.
    agents: (PathBuf, Vec<PathBuf>),
    /// What the names of the lab's namespaces begin with.
    prefix: String,
    /// Where it is kept.
    dir: PathBuf,
    taken: AtomicUsize,
}

impl Witness {
    /// For agents of one lab; what an earlier soak left in `dir` is removed.
    pub(super) fn new(duolb: PathBuf, pins: Vec<PathBuf>, prefix: &str, dir: PathBuf) -> Self {
        for number in 0..KEPT {
            let _ = fs::remove_file(dir.join(name(number)));
        }
        Self {
            agents: (duolb, pins),
            prefix: prefix.to_owned(),
            dir,
            taken: AtomicUsize::new(0),
        }
    }

    /// Writes every flow of every node and every TCP socket of every namespace into a file, whose name it returns.
    pub(super) fn take(&self, about: &str) -> Option<String> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= KEPT {
            return None;
        }
        let name = name(number);
        let text = self
            .look(about)
            .unwrap_or_else(|error| format!("{error:#}"));
        fs::write(self.dir.join(&name), text).ok()?;
        Some(name)
    }

    fn look(&self, about: &str) -> Result<String> {
        let mut text = format!("{about}\n");
        for name in spawn::output_here(&["ip", "netns", "list"], "")?.lines() {
            let name = name.split(' ').next().unwrap_or_default();
            if name.starts_with(&self.prefix) {
                self.add(&mut text, &["ip", "netns", "exec", name, "ss", "-atinoHO"]);
            }
        }
        let (duolb, pins) = &self.agents;
        let duolb = duolb.to_str().context("path of duolb is not text")?;
        for pins in pins {
            let pins = pins.to_str().context("path of pins is not text")?;
            self.add(&mut text, &[duolb, "conntrack", "list", "--bpffs", pins]);
        }
        Ok(text)
    }

    fn add(&self, text: &mut String, command: &[&str]) {
        let said = spawn::output_here(command, "");
        let said = said.unwrap_or_else(|error| format!("{error:#}"));
        let _ = writeln!(text, "\n# {}\n{said}", command.join(" "));
    }
}

fn name(number: usize) -> String {
    format!("evidence-{number}.txt")
}
