//! A lab with agents on it, and the questions tests ask of it.

pub mod server;
pub mod service;
pub mod stream;

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    sync::{Condvar, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask::lab::{
    Addresses, AgentOptions, ChecksumErrors, Lab, Netns, Node, Objects, Pod, SERVICE_RANGES,
};

use self::service::Service;

/// Returns from a test, with a line that says why, where it cannot run.
macro_rules! need_datapath {
    () => {
        if let Err(why) = $crate::support::find_duolb() {
            eprintln!("skipped: {why}");
            return Ok(());
        }
    };
}
pub(crate) use need_datapath;

/// The binary under test.
pub fn find_duolb() -> Result<PathBuf, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("namespaces and BPF need root; use cargo xtask test".into());
    }
    if let Some(named) = env::var_os("DUOLB_BIN") {
        return Ok(named.into());
    }
    // Tests stand in <target>/<profile>/deps.
    let test = env::current_exe().map_err(|error| error.to_string())?;
    let profile = test.parent().and_then(|deps| deps.parent());
    profile
        .map(|dir| dir.join("duolb"))
        .filter(|path| path.exists())
        .ok_or_else(|| "no duolb: set DUOLB_BIN, or cargo build -p lb-userspace".into())
}

/// A lab with an agent on every node, serving.
pub struct Cluster {
    pub lab: Lab,
    _turn: Turn,
}

impl Cluster {
    /// `node-1`, routed, and `node-2`, bridged, with four endpoint pods and a client each.
    pub fn start(services: &[Service]) -> Result<Self> {
        Self::start_with(services, &[])
    }

    /// The same, with further arguments for the agents.
    pub fn start_with(services: &[Service], args: &[&str]) -> Result<Self> {
        let mut cluster = Self::lab_only()?;
        cluster.serve(services, args)?;
        Ok(cluster)
    }

    /// The same lab without agents.
    pub fn lab_only() -> Result<Self> {
        let turn = Turn::take();
        let lab = Lab::builder()
            .node(Node::routed("node-1"))
            .node(Node::bridged("node-2"))
            .build()?;
        Ok(Self { lab, _turn: turn })
    }

    /// Starts the agents on `services`.
    pub fn serve(&mut self, services: &[Service], args: &[&str]) -> Result<()> {
        let manifests = self.lab.dir().join("manifests");
        service::write(&manifests, services)?;
        let mut options = AgentOptions {
            duolb: find_duolb().map_err(anyhow::Error::msg)?,
            objects: Objects::Manifests(manifests),
            service_ranges: SERVICE_RANGES,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        };
        // The lab's agents need not hold the flows of a large node.
        options.args.extend(["--max-flows".into(), "65536".into()]);
        self.lab.start_agents(&options)
    }

    /// The clients: `client-1` is routed, `client-2` on a bridge.
    pub fn clients(&self) -> [&Pod; 2] {
        [self.lab.pod("client-1"), self.lab.pod("client-2")]
    }

    /// The nodes' names.
    pub const NODES: [&'static str; 2] = ["node-1", "node-2"];

    /// The verdicts' counters of a node.
    pub fn verdicts(&self, node: &str) -> Result<BTreeMap<String, u64>> {
        let status = self.status(node)?;
        serde_json::from_value(status["verdicts"].clone()).context("verdicts of duolb status")
    }

    /// One of them.
    pub fn verdict(&self, node: &str, label: &str) -> Result<u64> {
        let verdicts = self.verdicts(node)?;
        verdicts
            .get(label)
            .copied()
            .with_context(|| format!("no verdict {label}"))
    }

    /// `duolb status -o json`.
    pub fn status(&self, node: &str) -> Result<Value> {
        let text = self.lab.agent(node).duolb(&["status", "-o", "json"])?;
        serde_json::from_str(&text).context("duolb status -o json")
    }

    /// No packet was dropped by us, on any node.
    pub fn check_no_drops(&self) -> Result<()> {
        for node in Self::NODES {
            for (label, count) in self.verdicts(node)? {
                let passes = [
                    "dnat",
                    "rev-nat",
                    "port-moved",
                    "icmp-to-client",
                    "icmp-to-endpoint",
                    "socket",
                    "echo",
                ]
                .contains(&label.as_str());
                ensure!(passes || count == 0, "{node}: {count} packets {label}");
            }
        }
        Ok(())
    }

    /// No namespace has seen a wrong checksum since it exists.
    pub fn check_checksums(&self) -> Result<()> {
        let hosts = self.lab.nodes().chain([self.lab.outside()]);
        let hosts = hosts.map(|host| (host.name.as_str(), &host.netns));
        let pods = self.lab.pods().map(|pod| (pod.name.as_str(), &pod.netns));
        for (name, netns) in hosts.chain(pods).chain([("fabric", self.lab.fabric())]) {
            let errors = self.lab.checksum_errors(netns)?;
            ensure!(
                errors == ChecksumErrors::default(),
                "wrong checksums in {name}: {errors:?}"
            );
        }
        Ok(())
    }

    /// Runs a line of words in a namespace.
    pub fn run(&self, netns: impl AsRef<Netns>, line: &str) -> Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.lab.exec(netns, &words)
    }
}

/// Addresses of the first `count` endpoint pods of a node.
pub fn pods_of(node: u8, count: u8) -> Vec<Addresses> {
    (10..10 + count)
        .map(|pod| Addresses::of_pod(node, pod))
        .collect()
}

/// The right to have a lab: there are two, so that a machine with many cores is not one with many labs.
struct Turn;

static TAKEN: Mutex<u8> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = GIVEN_BACK.wait_while(taken, |taken| *taken >= 2);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        GIVEN_BACK.notify_one();
    }
}
