//! The guest's first process: mounts what a system has, runs the order, switches the machine off.
//!
//! It is this very program, called by the kernel as `/init guest SLOWNESS`. What it says and what the tests print goes over the
//! second serial port; the first one is the kernel's console, which only failures are explained with.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, killpg},
    },
    unistd::Pid,
};

use super::order::{Job, ORDER, Order, Word};
use crate::lab::patience;

/// The port that the host listens to.
const PORT: &str = "/dev/ttyS1";

/// What is mounted where: type, place.
const MOUNTS: [(&str, &str); 9] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
];

/// How often a running test is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the order and switches the machine off; never returns on success.
///
/// # Errors
/// If this is not the first process, or the machine does not go off.
pub(super) fn main(slowness: u32) -> Result<()> {
    if std::process::id() != 1 {
        bail!("`guest` is what the virtual machine starts, for `cargo xtask vm`");
    }
    let done = work(slowness);
    if let Ok(mut port) = port() {
        let word = match done {
            Ok(()) => Word::Done,
            Err(error) => Word::Trouble {
                what: format!("{error:#}"),
            },
        };
        let _ = writeln!(port, "\n{}", word.line());
    }
    // What was written last is still on its way through the port.
    thread::sleep(Duration::from_millis(200));
    reboot(RebootMode::RB_POWER_OFF).context("the machine does not go off")?;
    Ok(())
}

fn work(slowness: u32) -> Result<()> {
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).with_context(|| place.to_owned())?;
        let none: Option<&str> = None;
        let mounted = mount(Some(kind), place, Some(kind), MsFlags::empty(), none);
        if !matches!(kind, "tracefs" | "debugfs") {
            mounted.with_context(|| format!("mount {kind} on {place}"))?;
        }
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let release = release.trim().to_owned();
    writeln!(port()?, "{}", Word::Hello { release }.line())?;
    let mut up = Command::new("/sbin/ip");
    let up = up
        .args(["link", "set", "lo", "up"])
        .status()
        .context("ip")?;
    anyhow::ensure!(up.success(), "ip link set lo up: {up}");
    let mut order: Order = serde_json::from_slice(&fs::read(ORDER)?).context(ORDER)?;
    let slowness = (patience::VARIABLE.to_owned(), slowness.to_string());
    order.env.push(slowness);
    order.jobs.iter().try_for_each(|job| run(job, &order.env))
}

fn port() -> io::Result<File> {
    OpenOptions::new().write(true).open(PORT)
}

/// Runs a job with its output on the port.
fn run(job: &Job, env: &[(String, String)]) -> Result<()> {
    let mut port = port()?;
    let name = job.name.clone();
    writeln!(port, "{}", Word::Begin { name }.line())?;
    let start = Instant::now();
    let child = Command::new(&job.program)
        .args(&job.args)
        .current_dir(&job.dir)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(port.try_clone()?)
        .stderr(port.try_clone()?)
        .process_group(0)
        .spawn();
    let failure = match child {
        Ok(child) => wait(child, Duration::from_secs(job.seconds))?,
        Err(error) => Some(format!("{}: {error}", job.program.display())),
    };
    let end = Word::End {
        name: job.name.clone(),
        failure,
        seconds: start.elapsed().as_secs(),
    };
    writeln!(port, "\n{}", end.line())?;
    Ok(())
}

/// What a child failed with, if it did; it is ended with all it has started when its time is up.
fn wait(mut child: Child, most: Duration) -> Result<Option<String>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((!status.success()).then(|| status.to_string()));
        }
        if start.elapsed() > most {
            killpg(Pid::from_raw(child.id().try_into()?), Signal::SIGKILL)?;
            child.wait()?;
            return Ok(Some(format!("not done within {} s", most.as_secs())));
        }
        thread::sleep(PAUSE);
    }
}
