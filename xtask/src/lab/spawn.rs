//! Commands inside namespaces: started from a thread that is in there.
//!
//! A child begins life in the namespace of the thread that started it, so no wrapper is needed, and the
//! mount namespace with bpffs stays the host's.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::{prctl::set_pdeathsig, signal::Signal};

use super::netns::Netns;
use crate::workspace::find_program;

/// Runs `command` in `netns` with `input`; returns what it printed.
pub(super) fn output(netns: &Netns, command: &[&str], input: &str) -> Result<String> {
    netns
        .run(|| output_here(command, input))?
        .with_context(|| format!("in {}", netns.name()))
}

/// Runs `command` in the namespace of the calling thread.
pub(crate) fn output_here(command: &[&str], input: &str) -> Result<String> {
    let [program, args @ ..] = command else {
        bail!("no command")
    };
    let path = find_program(program).with_context(|| format!("no program {program}"))?;
    let pipe = Stdio::piped;
    let mut command = Command::new(path);
    command
        .args(args)
        .stdin(pipe())
        .stdout(pipe())
        .stderr(pipe());
    let mut child = dies_with_parent(&mut command)
        .spawn()
        .with_context(|| (*program).to_owned())?;
    let mut stdin = child.stdin.take().context("stdin is piped")?;
    // What `input` there is fits the pipe or is read while it comes; a child that does not read it at
    // all is no error.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child
        .wait_with_output()
        .with_context(|| (*program).to_owned())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        bail!(
            "{program} {}: {}: {}",
            args.join(" "),
            output.status,
            text(&output.stderr).trim()
        );
    }
    Ok(text(&output.stdout))
}

/// Has the kernel kill the child when the thread that starts it ends, even by SIGKILL.
pub(crate) fn dies_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl(2) is one, and
    // nothing is allocated: the error is a number.
    unsafe { command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(Into::into)) }
}
