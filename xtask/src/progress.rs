//! Long steps: a spinner with the time gone by on a terminal, plain lines elsewhere.
//!
//! What the step itself prints is kept back and shown only if it fails.

use std::{
    fs,
    io::{IsTerminal as _, Read as _, Seek as _},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Lines of a failed step's output that are shown.
const TAIL: usize = 30;

/// Runs `command` as the step `what`.
///
/// # Errors
/// If it cannot be started or fails; with the end of its output.
pub fn step(what: &str, command: &mut Command) -> Result<()> {
    let mut log = tempfile::tempfile().context("no temporary file")?;
    let clone = |log: &fs::File| {
        log.try_clone()
            .map(Stdio::from)
            .context("cannot share a file")
    };
    command
        .stdin(Stdio::null())
        .stdout(clone(&log)?)
        .stderr(clone(&log)?);
    let spinner = spinner(what);
    let status = command.status();
    spinner.finish_and_clear();
    let program = command.get_program().to_string_lossy().into_owned();
    let status = status.with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        let mut output = Vec::new();
        log.rewind()
            .and_then(|()| log.read_to_end(&mut output))
            .context("cannot read back output")?;
        let output = String::from_utf8_lossy(&output).into_owned();
        let lines: Vec<&str> = output.lines().collect();
        bail!(
            "{what}: {program}: {status}\n{}",
            lines[lines.len().saturating_sub(TAIL)..].join("\n")
        );
    }
    Ok(())
}

/// A running spinner that says `what`; on anything but a terminal, one line that says it.
pub fn spinner(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("{what} ...");
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("a valid template");
    let bar = ProgressBar::new_spinner()
        .with_style(style)
        .with_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
