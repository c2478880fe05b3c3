//! Devices that come and go faster than the kernel's word of it is read: what is lost is found out.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    needs_root,
    node::{Faulty, nothing_lost},
};

/// What a process has of the machine.
#[derive(Debug)]
struct Held {
    files: usize,
    kibibytes: u64,
}

impl Held {
    fn by(pid: u32) -> Result<Self> {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let words = line.context("VmRSS")?.split_whitespace().next();
        let kibibytes = words.context("a number")?.parse()?;
        Ok(Self { files, kibibytes })
    }
}

/// Makes so many veths and removes all but a few, three times; the agent sees half of it, having been stopped.
fn flood(veths: usize) -> Result<()> {
    const STAY: usize = 5;
    let faulty = Faulty::start(&["--xdp", "off"])?;
    let node = faulty.lab.node("node-1");
    let pid = faulty.agent().pid().context("it runs")?;
    let signal = |signal| kill(Pid::from_raw(i32::try_from(pid)?), signal).context("a signal");
    let attached = || -> Result<Vec<String>> {
        let status = faulty.status()?;
        let devices = status["devices"].as_array().into_iter().flatten();
        let name = |device: &Value| device["name"].as_str().unwrap_or_default().to_owned();
        Ok(devices.map(name).collect())
    };
    let (before, pins, held) = (attached()?, faulty.pins(), Held::by(pid)?);
    let streams = faulty.stream()?;
    let file = faulty.lab.dir().join("flood");
    let batch = |lines: &str| -> Result<()> {
        fs::write(&file, lines)?;
        let file = file.display().to_string();
        faulty.lab.exec(node, &["ip", "-batch", &file]).map(drop)
    };
    let mut first = None;
    for round in 0..3 {
        let (mut make, mut remove) = (String::new(), "link del group 77\n".to_owned());
        for index in 0..veths {
            writeln!(make, "link add flood{index} type veth peer name f{index}")?;
            writeln!(make, "link set flood{index} group 77 up")?;
            writeln!(make, "link set f{index} group 77 up")?;
        }
        for index in 0..STAY {
            writeln!(remove, "link add stay{index} type veth peer name s{index}")?;
            writeln!(remove, "link set stay{index} group 78 up")?;
        }
        batch(&make)?;
        // What comes now overflows its socket (ENOBUFS).
        signal(Signal::SIGSTOP)?;
        let rest = batch(&remove);
        signal(Signal::SIGCONT)?;
        rest?;
        streams.wait_rounds(50)?;
        faulty.wait("what is there has the programs, and nothing else", || {
            let now = attached()?;
            let staying = now.iter().filter(|name| name.starts_with("stay")).count();
            Ok(staying == STAY && now.iter().all(|name| !name.starts_with("flood")))
        })?;
        batch("link del group 78\n")?;
        faulty
            .wait("all is as before", || {
                Ok(attached()? == before && faulty.pins() == pins)
            })
            .with_context(|| format!("round {round}"))?;
        if first.is_none() {
            first = Some(Held::by(pid)?);
        }
    }
    let after = Held::by(pid)?;
    let first = first.context("there was a first time")?;
    eprintln!(
        "{veths} veths: {held:?} before, {first:?} after the first time, {after:?} after the third"
    );
    ensure!(after.files <= held.files + 2, "{held:?}, then {after:?}");
    // The allocator keeps what was needed once; the next time needs no more.
    let most = first.kibibytes + first.kibibytes / 4;
    ensure!(after.kibibytes < most, "{first:?}, then {after:?}");
    faulty.agent().check()?;
    faulty.check_served()?;
    nothing_lost(streams)
}

#[test]
fn veths_that_come_and_go_unseen_leave_nothing_behind() -> Result<()> {
    needs_root!();
    flood(150)
}

#[test]
#[ignore = "takes minutes: the same with two thousand"]
fn two_thousand_veths_that_come_and_go_unseen_leave_nothing_behind() -> Result<()> {
    needs_root!();
    flood(2_000)
}
