//! What the kernel knows of a process.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// CPU in seconds so far, memory in megabytes now and at its peak.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Seconds.
    pub cpu: f64,
    /// Megabytes.
    pub rss: f64,
    /// Megabytes.
    pub peak: f64,
}

impl Usage {
    /// Of the process with that id.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("the name's end")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| Ok::<_, anyhow::Error>(fields[at].parse::<f64>()?);
        // User and system time; USER_HZ is 100 on every architecture that Linux runs duolb on.
        let cpu = (ticks(11)? + ticks(12)?) / 100.0;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let megabytes = |name: &str| -> Result<f64> {
            let mut lines = status.lines();
            let line = lines
                .find(|line| line.starts_with(name))
                .context("a line")?;
            let kilobytes = line.split_whitespace().nth(1).context("a number")?;
            Ok(kilobytes.parse::<f64>()? / 1024.0)
        };
        Ok(Self {
            cpu,
            rss: megabytes("VmRSS")?,
            peak: megabytes("VmHWM")?,
        })
    }
}

/// Number of bpf(2) calls of a process and all its threads during `work`.
///
/// # Errors
/// If strace is missing or fails, or `work` does.
pub fn bpf_calls(pid: u32, work: impl FnOnce() -> Result<()>) -> Result<usize> {
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=bpf", "-p", &pid.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("no strace")?;
    let mut said = BufReader::new(strace.stderr.take().context("stderr is piped")?);
    let mut attached = String::new();
    said.read_line(&mut attached)?;
    ensure!(attached.contains("attached"), "{attached}");
    let worked = work();
    kill(Pid::from_raw(strace.id().try_into()?), Signal::SIGINT)?;
    let mut text = String::new();
    said.read_to_string(&mut text)?;
    strace.wait()?;
    worked?;
    // A call that another thread's interrupts is told in two lines.
    let calls = text.lines().filter(|line| line.contains("bpf(BPF_"));
    Ok(calls.count())
}
