//! Devices and addresses that come, change and go under a running agent, and XDP on those that take it and
//! those that do not.

mod addresses;
mod crowd;
mod following;
mod xdp;

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::Value;
use xtask::lab::{AgentOptions, Lab, Netns, Node};

/// Skips the test with a line if namespaces cannot be made.
macro_rules! needs_root {
    () => {
        if !xtask::lab::is_possible(module_path!()) {
            return Ok(());
        }
    };
}
pub(crate) use needs_root;

/// One routed node with one endpoint.
fn one_node() -> Result<Lab> {
    let node = Node::routed("node-1").endpoints(1);
    Lab::builder().node(node).build()
}

/// The same with an agent that has nothing to serve.
fn with_agent(args: &[&str]) -> Result<Lab> {
    let mut lab = one_node()?;
    let mut options = AgentOptions::from_env(manifests(&lab)?)?;
    options.args = args.iter().map(|&arg| arg.to_owned()).collect();
    lab.start_agents(&options)?;
    Ok(lab)
}

fn manifests(lab: &Lab) -> Result<PathBuf> {
    let manifests = lab.dir().join("manifests");
    fs::create_dir_all(&manifests)?;
    Ok(manifests)
}

/// Runs a line of words in a namespace.
fn run(lab: &Lab, netns: impl AsRef<Netns>, line: &str) -> Result<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    lab.exec(netns, &words).map(drop)
}

/// A VLAN on a device of the node, or where the kernel has none, a macvlan: another uplink that stands on the
/// first, without a driver of its own.
fn add_vlan(lab: &Lab, on: &str, name: &str) -> Result<()> {
    let node = lab.node("node-1");
    let line = format!("ip link add link {on} name {name} type");
    run(lab, node, &format!("{line} vlan id 5")).or_else(|error| {
        eprintln!("no VLAN, macvlan instead: {error:#}");
        run(lab, node, &format!("{line} macvlan"))
    })
}

/// The device of that name in `duolb status`; null if it has no programs.
fn device(lab: &Lab, name: &str) -> Result<Value> {
    let text = lab.agent("node-1").duolb(&["status", "-o", "json"])?;
    Ok(find(&serde_json::from_str(&text)?, name))
}

fn find(status: &Value, name: &str) -> Value {
    let mut devices = status["devices"].as_array().into_iter().flatten();
    let found = devices.find(|device| device["name"] == name);
    found.cloned().unwrap_or_default()
}

/// Fails unless the device is like that within a second (issue: changes are followed within a second).
fn soon(lab: &Lab, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
    let mut last = Value::Null;
    let held = lab.wait_until(Duration::from_secs(1), || {
        last = device(lab, name)?;
        Ok(is_so(&last))
    })?;
    ensure!(held, "{name} {what}: not within a second: {last}");
    Ok(())
}

/// Agents on pins of their own, one after the other; each ends as soon as its datapath is in place, and leaves it
/// behind.
struct Brief<'a> {
    lab: &'a Lab,
    bpffs: String,
}

impl<'a> Brief<'a> {
    fn new(lab: &'a Lab, name: &str) -> Self {
        let bpffs = format!("/sys/fs/bpf/{}-{name}", lab.prefix());
        Self { lab, bpffs }
    }

    fn duolb() -> Result<String> {
        std::env::var("DUOLB_BIN").context("DUOLB_BIN is not set: use cargo xtask test")
    }

    /// What it logged.
    fn serve(&self, args: &[&str]) -> Result<String> {
        let duolb = Self::duolb()?;
        let manifests = manifests(self.lab)?;
        let log = self.lab.dir().join("brief.log");
        let run = || -> Result<String> {
            let mut agent = Command::new(&duolb)
                .args(["--bpffs", &self.bpffs, "agent"])
                .args(["--healthz-bind-address", "", "--manifests"])
                .arg(&manifests)
                .args(args)
                .stderr(File::create(&log)?)
                .spawn()?;
            let in_place = || Ok(fs::read_to_string(&log)?.contains("the datapath is in place"));
            let held = self.lab.wait_until(Duration::from_secs(30), in_place);
            signal::kill(Pid::from_raw(agent.id().try_into()?), Signal::SIGTERM)?;
            agent.wait()?;
            let log = fs::read_to_string(&log)?;
            ensure!(held?, "{log}");
            Ok(log)
        };
        self.lab.in_ns(self.lab.node("node-1"), run)?
    }

    /// What `duolb` says with these arguments.
    fn say(&self, args: &[&str]) -> Result<String> {
        let duolb = Self::duolb()?;
        let command = [&[duolb.as_str(), "--bpffs", &self.bpffs], args].concat();
        self.lab.exec(self.lab.node("node-1"), &command)
    }

    fn device(&self, name: &str) -> Result<Value> {
        let status = self.say(&["status", "-o", "json"])?;
        Ok(find(&serde_json::from_str(&status)?, name))
    }
}

impl Drop for Brief<'_> {
    fn drop(&mut self) {
        let _ = self.say(&["cleanup"]);
        let _ = fs::remove_dir(&self.bpffs);
    }
}
