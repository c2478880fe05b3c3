//! One system call of the agent fails, then the next one: it goes on or says why it ends, and what an agent before it
//! left in the kernel serves on.
//!
//! strace has the kernel refuse the n-th call of a kind. The agent is what the lab starts and stops, strace stands
//! beside it (`-D`), so that signals and exit status are its own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use xtask::{lab::AgentOptions, workspace::find_program};

use crate::{
    needs_root,
    node::{Faulty, nothing_lost},
    stream::Streams,
};

/// Errors that stand for all: out of memory, out of room, not allowed, taken.
const ERRORS: [&str; 4] = ["ENOMEM", "EPERM", "ENOSPC", "EBUSY"];
/// More calls of a kind than any start makes.
const MOST: usize = 2_000;

/// A node whose agent's calls fail as told.
struct Injected {
    faulty: Faulty,
    /// What strace is told; no such file: no faults.
    inject: PathBuf,
    /// What strace saw.
    trace: PathBuf,
}

/// What came of a start.
enum Outcome {
    /// There were not so many calls.
    NotReached,
    /// It serves.
    Serves,
    /// It ended, having said why.
    Ended,
}

impl Injected {
    fn start() -> Result<Self> {
        let mut wrapper = PathBuf::new();
        let faulty = Faulty::start_with(
            &["--healthz-bind-address", "127.0.0.1:10256"],
            |directory| {
                let mut options = AgentOptions::from_env(directory.path())?;
                // Beside the manifests; it is none.
                wrapper = directory.path().join("duolb");
                let strace =
                    find_program("strace").context("no strace: cargo xtask setup installs it")?;
                let script = format!(
                    "#!/bin/sh\n[ \"$1\" = agent ] && [ -e \"$0.inject\" ] && \
                 exec {} -D -f -qqq --seccomp-bpf -o \"$0.trace\" -e signal=none $(cat \"$0.inject\") {duolb} \"$@\"\n\
                 exec {duolb} \"$@\"\n",
                    strace.display(),
                    duolb = options.duolb.display()
                );
                fs::write(&wrapper, script)?;
                fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
                options.duolb.clone_from(&wrapper);
                Ok(options)
            },
        )?;
        Ok(Self {
            faulty,
            inject: wrapper.with_extension("inject"),
            trace: wrapper.with_extension("trace"),
        })
    }

    /// Starts an agent whose `n`-th call of `kind`, in any of its threads, fails so; ends it if it serves.
    fn fail(&mut self, kind: &str, error: &str, n: usize) -> Result<Outcome> {
        let what = format!("-e trace={kind} -e inject={kind}:error={error}:when={n}");
        fs::write(&self.inject, &what)?;
        let _ = fs::remove_file(&self.trace);
        let log_before = self.faulty.agent().log().len();
        self.faulty.agent_mut().start()?;
        let ended = self.faulty.agent().wait_ready();
        let log = self.faulty.agent().log();
        let log = log.get(log_before..).unwrap_or_default();
        let trace = fs::read_to_string(&self.trace).unwrap_or_default();
        let hit = trace.lines().find(|line| line.contains("(INJECTED)"));
        let hit = hit.map(ToOwned::to_owned);
        let told = || format!("{what}: {hit:?}\n{log}");
        ensure!(!log.contains("panicked"), "{}", told());
        let outcome = if self.faulty.agent().is_running() {
            ended.with_context(told)?;
            if kind == "sendto" {
                // tokio tells itself of signals by it.
                self.faulty.agent_mut().kill();
            } else {
                self.faulty.agent_mut().stop().with_context(told)?;
            }
            match hit {
                Some(_) => Outcome::Serves,
                None => Outcome::NotReached,
            }
        } else {
            let says_why = log.lines().any(|line| line.starts_with("duolb: "));
            ensure!(says_why, "it does not say why it ended: {}", told());
            Outcome::Ended
        };
        fs::remove_file(&self.inject)?;
        Ok(outcome)
    }

    /// The numbers of those of the main thread's calls of bpf(2) in a start without faults that have these words.
    fn find_calls(&mut self, words: &str) -> Result<Vec<usize>> {
        fs::write(&self.inject, "-e trace=bpf")?;
        self.faulty.agent_mut().start()?;
        self.faulty.agent().wait_ready()?;
        self.faulty.agent_mut().stop()?;
        fs::remove_file(&self.inject)?;
        let trace = fs::read_to_string(&self.trace)?;
        let main = trace.split_whitespace().next().context("no call")?;
        let calls = trace.lines().filter(|line| line.starts_with(main));
        let numbered = (1..).zip(calls);
        let found = numbered.filter(|(_, line)| line.contains(words));
        Ok(found.map(|(n, _)| n).collect())
    }

    /// Fails these calls of `kind` in turn under traffic, till no start has so many.
    fn sweep(
        &mut self,
        kind: &str,
        calls: impl Iterator<Item = usize>,
        streams: &Streams,
    ) -> Result<()> {
        let before = self.faulty.dump()?;
        let (mut served, mut ended) = (0, 0);
        for (time, n) in calls.enumerate() {
            let error = ERRORS[time % ERRORS.len()];
            match self.fail(kind, error, n)? {
                Outcome::NotReached => break,
                Outcome::Serves => served += 1,
                Outcome::Ended => ended += 1,
            }
            let told = || format!("{kind} {n} {error}\n{}", self.faulty.agent().log());
            streams.wait_rounds(20).with_context(told)?;
            self.faulty.check_served().with_context(told)?;
            ensure!(self.faulty.dump()? == before, "{}", told());
        }
        eprintln!("{kind}: the agent went on {served} times and ended {ended} times");
        ensure!(served + ended > 0, "no call of {kind} failed");
        Ok(())
    }

    /// An agent without faults, after all of them, finds and leaves everything as it was before.
    fn check_sound(&mut self, pins: &std::collections::BTreeSet<String>) -> Result<()> {
        self.faulty.agent_mut().start()?;
        self.faulty.agent().wait_ready()?;
        self.faulty.check_served()?;
        let status = self.faulty.status()?;
        ensure!(
            status["agent"]["problems"] == 0 && status["host_clients"] == true,
            "{status}"
        );
        ensure!(
            self.faulty.pins() == *pins,
            "{:?}, then {:?}",
            pins,
            self.faulty.pins()
        );
        Ok(())
    }
}

/// The calls of a restart fail, under traffic; those that exchange the programs of links in any case.
fn restarts(kinds: &[(&str, usize)], step: usize) -> Result<()> {
    let mut injected = Injected::start()?;
    let (pins, dump) = (injected.faulty.pins(), injected.faulty.dump()?);
    injected.faulty.agent_mut().stop()?;
    let updates = injected.find_calls("BPF_LINK_UPDATE")?;
    let streams = injected.faulty.stream()?;
    // Those of cgroups come first, then those of devices.
    let some = updates
        .iter()
        .copied()
        .step_by(updates.len().div_ceil(3).max(1));
    injected.sweep("bpf", some.chain(updates.last().copied()), &streams)?;
    for (kind, first) in kinds {
        injected.sweep(kind, (*first..MOST).step_by(step), &streams)?;
    }
    injected.check_sound(&pins)?;
    ensure!(injected.faulty.dump()? == dump);
    nothing_lost(streams)
}

/// The calls of a first start fail: what it leaves half done, the next one completes.
fn first_starts(step: usize) -> Result<()> {
    let mut injected = Injected::start()?;
    let pins = injected.faulty.pins();
    injected.faulty.agent_mut().stop()?;
    for (time, n) in (1..MOST).step_by(step).enumerate() {
        injected.faulty.agent().duolb(&["cleanup"])?;
        if let Outcome::NotReached = injected.fail("bpf", ERRORS[time % ERRORS.len()], n)? {
            break;
        }
        injected
            .check_sound(&pins)
            .with_context(|| format!("bpf {n}"))?;
        injected.faulty.agent_mut().stop()?;
    }
    Ok(())
}

#[test]
fn a_failing_call_of_bpf_ends_or_delays_a_restart_and_no_traffic() -> Result<()> {
    needs_root!();
    restarts(&[("bpf", 5)], 47)
}

#[test]
fn a_failing_call_of_bpf_in_a_first_start_leaves_nothing_in_the_way_of_the_next() -> Result<()> {
    needs_root!();
    first_starts(71)
}

/// The agent has to read what the kernel says of devices; a socket that cannot be read is replaced by another.
#[test]
fn a_netlink_socket_that_fails_is_replaced_and_devices_are_followed_on() -> Result<()> {
    needs_root!();
    let faulty = Faulty::start(&["--xdp", "off"])?;
    let pid = faulty.agent().pid().context("it runs")?.to_string();
    let strace = find_program("strace").context("no strace: cargo xtask setup installs it")?;
    let trace = faulty.lab.dir().join("trace");
    let mut strace = Command::new(strace)
        .args(["-f", "-qq", "-p", &pid, "-e", "trace=recvfrom"])
        .args(["-e", "inject=recvfrom:error=ENOMEM:when=1", "-o"])
        .arg(&trace)
        .spawn()?;
    let attached = |name: &str| -> Result<bool> {
        let status = faulty.status()?;
        let mut devices = status["devices"].as_array().into_iter().flatten();
        Ok(devices.any(|device| device["name"] == name))
    };
    let node = faulty.lab.node("node-1");
    let add = |name: &str| {
        let (name, peer) = (name.to_owned(), format!("{name}-peer"));
        let add = [
            "ip", "link", "add", &name, "type", "veth", "peer", "name", &peer,
        ];
        faulty.lab.exec(node, &add)
    };
    let result = (|| -> Result<()> {
        let is_traced = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            Ok(status
                .lines()
                .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")))
        };
        faulty.wait("strace looks on", is_traced)?;
        add("first")?;
        faulty.wait("it says so", || {
            Ok(faulty.agent().log().contains("the socket was closed"))
        })?;
        faulty.wait("what was missed is found", || attached("first"))?;
        add("second")?;
        faulty.wait("and what comes then", || attached("second"))
    })();
    signal::kill(Pid::from_raw(strace.id().try_into()?), Signal::SIGTERM)?;
    strace.wait()?;
    result.with_context(|| fs::read_to_string(&trace).unwrap_or_default())?;
    faulty.agent().check()?;
    faulty.check_served()
}

#[test]
#[ignore = "takes a quarter of an hour: every call"]
fn every_failing_call_of_bpf_ends_or_delays_a_restart_and_no_traffic() -> Result<()> {
    needs_root!();
    restarts(&[("bpf", 1)], 1)
}

#[test]
#[ignore = "takes a quarter of an hour: every third call"]
fn every_failing_call_of_bpf_in_a_first_start_leaves_nothing_in_the_way_of_the_next() -> Result<()>
{
    needs_root!();
    first_starts(3)
}

/// Sockets, files and directories: the first calls are the dynamic loader's. Not `recvfrom`: tokio takes signals off a
/// socket of its own, and panics if it cannot.
#[test]
#[ignore = "takes minutes: every call that opens, binds or sends"]
fn other_failing_calls_end_or_delay_a_restart_and_no_traffic() -> Result<()> {
    needs_root!();
    let kinds = [
        ("socket", 1),
        ("bind", 1),
        ("listen", 1),
        ("sendto", 1),
        ("setsockopt", 1),
        ("mkdir", 1),
        ("flock", 1),
        ("statx", 1),
        ("openat", 8),
    ];
    restarts(&kinds, 1)
}
