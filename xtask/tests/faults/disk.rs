//! Where nothing can be written any more: the log, the manifests; and a log that nobody reads.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    needs_root,
    node::{Faulty, PATIENCE},
};

/// Runs an agent whose log goes to `log`, has it serve, and ends it: neither panic nor exit in between.
fn serve_logging_to(faulty: &Faulty, log: Stdio) -> Result<()> {
    let duolb = std::env::var("DUOLB_BIN").context("DUOLB_BIN is not set: use cargo xtask test")?;
    let bpffs = format!("/sys/fs/bpf/{}-disk", faulty.lab.prefix());
    let node = faulty.lab.node("node-1");
    let say = |args: &[&str]| {
        let command = [&[duolb.as_str(), "--bpffs", &bpffs], args].concat();
        faulty.lab.exec(node, &command)
    };
    let run = || -> Result<_> {
        let mut agent = Command::new(&duolb)
            .args(["--bpffs", &bpffs, "agent", "--hostname-override", "node-1"])
            .args(["--log-level", "trace", "--manifests"])
            .arg(faulty.directory.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let ready = faulty.lab.wait_until(PATIENCE, || {
            ensure!(agent.try_wait()?.is_none(), "it ended");
            let status = say(&["status", "-o", "json"]).unwrap_or_default();
            Ok(status.contains("\"synced\": true"))
        });
        let served = faulty.check_served();
        kill(Pid::from_raw(agent.id().try_into()?), Signal::SIGTERM)?;
        let status = agent.wait()?;
        ensure!(ready?, "it does not serve");
        served?;
        ensure!(status.success(), "{status}");
        Ok(())
    };
    let result = faulty.lab.in_ns(node, run)?;
    say(&["cleanup"])?;
    let _ = fs::remove_dir_all(&bpffs);
    result
}

#[test]
fn an_agent_serves_on_when_its_log_is_full_or_closed() -> Result<()> {
    needs_root!();
    let faulty = Faulty::new()?;
    let full = File::options().write(true).open("/dev/full")?;
    serve_logging_to(&faulty, full.into()).context("a full disk")?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    serve_logging_to(&faulty, writer.into()).context("a closed pipe")
}

#[test]
fn what_cannot_be_said_is_still_an_exit_status() -> Result<()> {
    needs_root!();
    let duolb = std::env::var("DUOLB_BIN").context("DUOLB_BIN is not set: use cargo xtask test")?;
    for command in [
        &[
            "agent",
            "--manifests",
            "/no/such/directory",
            "--bpffs",
            "/no/bpffs",
        ][..],
        &["status", "--bpffs", "/no/bpffs"],
    ] {
        let full = File::options().write(true).open("/dev/full")?;
        let status = Command::new(&duolb).args(command).stderr(full).status()?;
        ensure!(status.code() == Some(1), "{command:?}: {status}");
    }
    Ok(())
}

#[test]
fn manifests_cut_off_by_a_full_disk_are_named_and_what_they_said_stays_in_force() -> Result<()> {
    needs_root!();
    let faulty = Faulty::start(&[])?;
    let before = faulty.dump()?;
    let path = faulty.directory.path().join("web.yaml");
    let whole = fs::read_to_string(&path)?;
    // As an editor leaves it that found no room half way: cut off, then empty, then whole again.
    let half = whole.find("endpoints:").context("a slice")? + 14;
    fs::write(&path, &whole[..half])?;
    faulty.wait("the file is named", || {
        Ok(faulty.agent().log().contains("web.yaml:"))
    })?;
    faulty.check_served()?;
    ensure!(faulty.dump()? == before, "{:?}", faulty.dump()?);
    let problems = faulty.status()?["problems"].to_string();
    ensure!(problems.contains("web.yaml"), "{problems}");
    fs::write(&path, &whole)?;
    faulty.wait("all is well", || {
        Ok(faulty.status()?["agent"]["problems"] == 0)
    })?;
    ensure!(faulty.dump()? == before);
    faulty.check_served()
}
