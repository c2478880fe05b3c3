//! One node with two endpoints and a client, whose traffic must not notice anything, and what its agent says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask::lab::{Agent, AgentOptions, Lab, Node};

use crate::{
    manifests::{Directory, frontends},
    stream::{Streams, who_answers},
};

/// How long anything may take that is to happen at all: the machine may have much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The function `serve` of scripts.
const SERVE: &str = r#"
serve() {
    : > "$LOG"
    $RUN "$DUOLB" $AGENT "$@" >> "$LOG" 2>&1 &
    agent=$! tries=0
    while kill -0 $agent 2>/dev/null && ! grep -q "in place" "$LOG" && [ $tries -lt 400 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -TERM $agent 2>/dev/null
    wait $agent
    status=$?
    cat "$LOG"
    return $status
}
"#;

/// The node, and the manifests that its agent reads.
pub(crate) struct Faulty {
    pub(crate) lab: Lab,
    pub(crate) directory: Directory,
}

impl Faulty {
    /// With an agent that serves Service `web`; these are its further arguments.
    pub(crate) fn start(args: &[&str]) -> Result<Self> {
        let options = |directory: &Directory| AgentOptions::from_env(directory.path());
        Self::start_with(args, options)
    }

    /// The same with other options.
    pub(crate) fn start_with(
        args: &[&str],
        options: impl FnOnce(&Directory) -> Result<AgentOptions>,
    ) -> Result<Self> {
        let mut this = Self::new()?;
        let mut options = options(&this.directory)?;
        options.args = args.iter().map(|&arg| arg.to_owned()).collect();
        this.lab.start_agents(&options)?;
        Ok(this)
    }

    /// Without an agent yet.
    pub(crate) fn new() -> Result<Self> {
        let directory = Directory::new()?;
        directory.serve(&[(1, 10), (1, 11)])?;
        let lab = Lab::builder()
            .node(Node::routed("node-1").endpoints(2))
            .build()?;
        Ok(Self { lab, directory })
    }

    pub(crate) fn agent(&self) -> &Agent {
        self.lab.agent("node-1")
    }

    pub(crate) fn agent_mut(&mut self) -> &mut Agent {
        self.lab.agent_mut("node-1")
    }

    /// Streams of the client to every frontend of `web`.
    pub(crate) fn stream(&self) -> Result<Streams> {
        Streams::start(&self.lab.pod("client-1").netns, &frontends())
    }

    /// New connections to every frontend of `web` are answered by its endpoints.
    pub(crate) fn check_served(&self) -> Result<()> {
        let pods = ["pod-1-10", "pod-1-11"].map(str::to_owned);
        let names = who_answers(&self.lab.pod("client-1").netns, &frontends(), 2)?;
        ensure!(names.is_subset(&BTreeSet::from(pods)), "{names:?} answered");
        Ok(())
    }

    /// What `duolb status` says.
    pub(crate) fn status(&self) -> Result<Value> {
        let text = self.agent().duolb(&["status", "-o", "json"])?;
        serde_json::from_str(&text).with_context(|| text.clone())
    }

    /// The frontends with their endpoints, as the pins tell.
    pub(crate) fn dump(&self) -> Result<BTreeMap<String, String>> {
        let text = self.agent().duolb(&["service", "list", "-o", "json"])?;
        let rows: Vec<Value> = serde_json::from_str(&text)?;
        let key = |row: &Value| format!("{} {}/{}", row["address"], row["port"], row["protocol"]);
        let entry = |row: &Value| (key(row), row["endpoints"].to_string());
        Ok(rows.iter().map(entry).collect())
    }

    /// Names of all that is pinned.
    pub(crate) fn pins(&self) -> BTreeSet<String> {
        let mut pins = BTreeSet::new();
        let mut left = vec![self.agent().bpffs().to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                pins.insert(entry.path().display().to_string());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(entry.path());
                }
            }
        }
        pins
    }

    /// Waits till something holds; what it says is not told if it fails for long.
    pub(crate) fn wait(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let mut last = None;
        let held = self.lab.wait_until(PATIENCE, || {
            let result = holds();
            let is_so = matches!(result, Ok(true));
            last = result.err();
            Ok(is_so)
        })?;
        let log = || self.agent().log();
        ensure!(held, "{what}: not so in time ({last:?})\n{}", log());
        Ok(())
    }

    /// A shell script in the node's network namespace and a mount namespace of its own. `$DUOLB` is the binary, `$PINS`
    /// a directory to pin in, and `serve` runs an agent with what it is told, which is ended as soon as its datapath is
    /// in place. Gives the script's status and all that was said.
    pub(crate) fn script(&self, script: &str) -> Result<(Option<i32>, String)> {
        let duolb =
            std::env::var("DUOLB_BIN").context("DUOLB_BIN is not set: use cargo xtask test")?;
        let agent = format!(
            "agent --hostname-override node-1 --healthz-bind-address= --metrics-bind-address= --manifests {}",
            self.directory.path().display()
        );
        let log = self.lab.dir().join("script.log");
        let script = format!("exec 2>&1; {SERVE}\n{script}");
        let pins = format!("/sys/fs/bpf/{}-script", self.lab.prefix());
        let output = self.lab.in_ns(self.lab.node("node-1"), || {
            Command::new("unshare")
                .args(["--mount", "sh", "-c", &script])
                .env("DUOLB", &duolb)
                .env("AGENT", &agent)
                .env("PINS", &pins)
                .env("LOG", &log)
                .output()
        })?;
        let cleanup = self.lab.exec(
            self.lab.node("node-1"),
            &[duolb.as_str(), "cleanup", "--bpffs", &pins],
        );
        let _ = fs::remove_dir_all(&pins);
        let output = output.context("unshare (util-linux)")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        cleanup.with_context(|| said.clone())?;
        ensure!(!said.contains("panicked"), "{said}");
        Ok((output.status.code(), said))
    }
}

/// Every stream went on, and lost nothing. A busy machine may have answered late, but it has answered.
pub(crate) fn nothing_lost(streams: Streams) -> Result<()> {
    for (name, done) in streams.finish()? {
        ensure!(done.is_whole(0), "{name}: {done:?}");
        ensure!(done.slowest < Duration::from_secs(5), "{name}: {done:?}");
    }
    Ok(())
}
