//! Three nodes in two zones with an agent each, and the questions that tests ask of them.

use std::{
    collections::BTreeSet,
    fs, io,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use xtask::lab::{AgentOptions, Lab, Netns, Node, Protocol, probe::Probe};

use crate::objects;

/// A silence as long as this is a drop.
const SILENCE: Duration = Duration::from_millis(400);
/// A refusal comes sooner.
const AT_ONCE: Duration = Duration::from_millis(300);
/// How long a change of a manifest may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(2);

/// What becomes of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// These endpoints answer, all of them and no others.
    Answered(BTreeSet<String>),
    /// Refused at once.
    Refused,
    /// Nothing comes back.
    Dropped,
}

/// The fate of clients that are answered by these pods.
pub(crate) fn answered(pods: &[objects::Pod]) -> Fate {
    Fate::Answered(pods.iter().map(objects::Pod::name).collect())
}

/// The lab with its agents and their manifests.
pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    manifests: PathBuf,
    _directory: tempfile::TempDir,
}

impl Cluster {
    /// `node-1` in zone a, `node-2` (bridged) and `node-3` in zone b; four pods on the first two, none on
    /// the third; a client on each. The ServiceCIDRs are the lab's.
    pub(crate) fn start(objects: &[Value], args: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let manifests = directory.path().join("manifests");
        fs::create_dir(&manifests)?;
        let lab = Lab::builder()
            .node(Node::routed("node-1"))
            .node(Node::bridged("node-2"))
            .node(Node::routed("node-3").endpoints(0))
            .build()?;
        let mut cluster = Self {
            lab,
            manifests,
            _directory: directory,
        };
        cluster.apply(objects)?;
        let nodes =
            [(1, "a"), (2, "b"), (3, "b")].map(|(number, zone)| objects::node(number, zone));
        cluster.write("nodes.json", &nodes)?;
        let mut options = AgentOptions::from_env(&cluster.manifests)?;
        options.args = args.iter().map(|&arg| arg.to_owned()).collect();
        options
            .args
            .extend(["--max-flows", "65536"].map(str::to_owned));
        cluster.lab.start_agents(&options)?;
        Ok(cluster)
    }

    /// Replaces the objects (not the nodes). In force within [`IN_FORCE`].
    pub(crate) fn apply(&self, objects: &[Value]) -> Result<()> {
        self.write("objects.json", objects)
    }

    fn write(&self, name: &str, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let draft = self.manifests.with_extension("draft");
        fs::write(&draft, list.to_string())?;
        fs::rename(draft, self.manifests.join(name)).context("manifests")
    }

    /// The namespace of the client pod of a node.
    pub(crate) fn client(&self, node: u8) -> &Netns {
        &self.lab.pod(&format!("client-{node}")).netns
    }

    /// How often a node has given a verdict.
    pub(crate) fn verdict(&self, node: u8, label: &str) -> Result<u64> {
        let status = self.lab.agent(&format!("node-{node}"));
        let status: Value = serde_json::from_str(&status.duolb(&["status", "-o", "json"])?)?;
        let count = status["verdicts"][label].as_u64();
        count.with_context(|| format!("no verdict {label}"))
    }

    /// What becomes of new clients on a node, over both families and protocols.
    ///
    /// # Errors
    /// If it is not the same for all of them.
    pub(crate) fn fate(&self, node: u8, frontends: &[SocketAddr]) -> Result<Fate> {
        let mut fates = Vec::new();
        for &to in frontends {
            for protocol in Protocol::BOTH {
                fates.push(((to, protocol), self.fate_of(node, protocol, to)?));
            }
        }
        let (_, first) = fates[0].clone();
        if fates.iter().any(|(_, fate)| *fate != first) {
            bail!("client on node {node}: {fates:#?}");
        }
        Ok(first)
    }

    fn fate_of(&self, node: u8, protocol: Protocol, to: SocketAddr) -> Result<Fate> {
        // With four endpoints one goes unseen in one of 8 million rounds of 64.
        let mut names = BTreeSet::new();
        for _ in 0..64 {
            let probe = Probe::new(protocol, to)
                .timeout(SILENCE)
                .attempts(1)
                .connected();
            let start = Instant::now();
            match probe.run_in(self.client(node)) {
                Ok(answer) => drop(names.insert(answer.endpoint)),
                Err(error) if names.is_empty() => {
                    return match error.source.kind() {
                        io::ErrorKind::ConnectionRefused if start.elapsed() < AT_ONCE => {
                            Ok(Fate::Refused)
                        }
                        io::ErrorKind::TimedOut => Ok(Fate::Dropped),
                        _ => Err(error.into()),
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Fate::Answered(names))
    }

    /// Waits until clients on a node have this fate.
    pub(crate) fn wait_for(&self, node: u8, wanted: &Fate) -> Result<()> {
        let start = Instant::now();
        loop {
            let begun = start.elapsed();
            let fate = self.fate(node, &objects::frontends());
            if fate.as_ref().is_ok_and(|fate| fate == wanted) {
                return Ok(());
            }
            ensure!(
                begun < IN_FORCE,
                "client on node {node}: {fate:?} instead of {wanted:?}"
            );
        }
    }
}
