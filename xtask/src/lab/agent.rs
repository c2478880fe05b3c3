//! `duolb agent` on a node of the lab.
//!
//! A thread of its own starts each agent and waits for it: the kernel kills a child when the thread that
//! started it ends, so that thread must live as long as the agent.

mod process;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use self::process::Process;
use super::{Lab, interrupt, netns::Door, patience::stretched, spawn, verdicts};

/// How long an agent may take to serve, and to end when asked to.
const PATIENCE: Duration = Duration::from_secs(90);
/// Lines of its log that an error about an agent shows.
const TAIL: usize = 25;

/// The ranges of Services in the lab, if nothing else is said.
pub const SERVICE_RANGES: &str = "10.96.0.0/16,fd00:10:96::/112";

/// How agents are started.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The binary.
    pub duolb: PathBuf,
    /// Where its objects come from.
    pub objects: Objects,
    /// With manifests, the ranges of Services, with commas; none if empty, so that the manifests say them or
    /// nobody does.
    pub service_ranges: &'static str,
    /// Further arguments for `duolb agent`.
    pub args: Vec<String>,
}

/// Where an agent's objects come from.
#[derive(Clone, Debug)]
pub enum Objects {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// An API server, as a kubeconfig tells.
    Kubeconfig(PathBuf),
}

impl AgentOptions {
    /// The binary that `$DUOLB_BIN` names (xtask sets it for tests), on `manifests`.
    ///
    /// # Errors
    /// If the variable is not set.
    pub fn from_env(manifests: impl Into<PathBuf>) -> Result<Self> {
        let duolb =
            std::env::var_os("DUOLB_BIN").context("DUOLB_BIN is not set: use cargo xtask test")?;
        Ok(Self {
            duolb: duolb.into(),
            objects: Objects::Manifests(manifests.into()),
            service_ranges: SERVICE_RANGES,
            args: Vec::new(),
        })
    }
}

/// The binary of a version after this one (xtask builds it and sets `$DUOLB_NEXT_BIN`); `None`, with a line that says
/// so, where nobody has built it.
pub fn next_version() -> Option<PathBuf> {
    let path = std::env::var_os("DUOLB_NEXT_BIN").map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: DUOLB_NEXT_BIN is not set; use cargo xtask test");
    }
    path
}

/// An agent of one node; ends, by SIGKILL, when dropped.
#[derive(Debug)]
pub struct Agent {
    node: String,
    door: Door,
    options: AgentOptions,
    bpffs: PathBuf,
    log: PathBuf,
    process: Option<Arc<Process>>,
}

impl Lab {
    /// Starts an agent on every node and waits until all of them serve.
    ///
    /// # Errors
    /// If one does not; with the end of its log.
    pub fn start_agents(&mut self, options: &AgentOptions) -> Result<()> {
        self.add_agents(options);
        self.agents.iter_mut().try_for_each(Agent::start)?;
        self.agents.iter().try_for_each(Agent::wait_ready)
    }

    /// An agent for every node, to be started.
    pub fn add_agents(&mut self, options: &AgentOptions) {
        let names: Vec<String> = self.nodes().map(|node| node.name.clone()).collect();
        for name in names {
            let agent = Agent {
                door: self.node(&name).netns.door(),
                options: options.clone(),
                bpffs: self.bpffs.join(&name),
                log: self.dir().join(format!("{name}.log")),
                node: name,
                process: None,
            };
            self.agents.push(agent);
        }
    }

    /// The agent of a node.
    ///
    /// # Panics
    /// If there is none.
    pub fn agent(&self, node: &str) -> &Agent {
        self.agents
            .iter()
            .find(|agent| agent.node == node)
            .unwrap_or_else(|| panic!("no agent on {node}"))
    }

    /// The same, to be stopped or started.
    ///
    /// # Panics
    /// If there is none.
    pub fn agent_mut(&mut self, node: &str) -> &mut Agent {
        let mut agents = self.agents.iter_mut();
        agents
            .find(|agent| agent.node == node)
            .unwrap_or_else(|| panic!("no agent on {node}"))
    }
}

impl Agent {
    /// The node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The directory of its pins.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// All it has logged, over restarts.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its further arguments, from the next start on.
    pub fn args_mut(&mut self) -> &mut Vec<String> {
        &mut self.options.args
    }

    /// Another binary, from the next start on.
    pub fn set_duolb(&mut self, duolb: impl Into<PathBuf>) {
        self.options.duolb = duolb.into();
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| process.lock().is_none())
    }

    /// Fails if it does not run, saying how it ended and what it said last.
    ///
    /// # Errors
    /// If it does not run.
    pub fn check(&self) -> Result<()> {
        let status = self.process.as_ref().map(|process| *process.lock());
        let how = match status {
            Some(None) => return Ok(()),
            Some(Some(status)) => status.to_string(),
            None => "not started".to_owned(),
        };
        bail!(
            "agent on {} ended ({how}); the end of its log:\n{}",
            self.node,
            self.log_tail()
        )
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        let process = self.process.as_ref().filter(|_| self.is_running())?;
        process.pid.as_raw().try_into().ok()
    }

    /// Starts it, with the options of [`Lab::start_agents`]; does not wait until it serves.
    ///
    /// # Errors
    /// If it runs already, or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("agent on {} runs already", self.node);
        }
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut command = Command::new(&self.options.duolb);
        command.args(["agent", "--hostname-override", &self.node]);
        match &self.options.objects {
            Objects::Manifests(directory) => command
                .args(
                    Some(self.options.service_ranges)
                        .filter(|ranges| !ranges.is_empty())
                        .map(|ranges| format!("--service-cluster-ip-range={ranges}")),
                )
                .arg("--manifests")
                .arg(directory),
            Objects::Kubeconfig(file) => command.arg("--kubeconfig").arg(file),
        };
        command
            .arg("--bpffs")
            .arg(&self.bpffs)
            .args(&self.options.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share a file")?)
            .stderr(log);
        // Ctrl-C goes to a terminal's foreground group; the lab ends agents in its own order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        spawn::dies_with_parent(&mut command);
        let (report, started) = mpsc::channel();
        let door = self.door.clone();
        let body = move || match door
            .enter()
            .and_then(|()| command.spawn().context("cannot start duolb"))
        {
            Err(error) => drop(report.send(Err(error))),
            Ok(child) => {
                let process = Arc::new(Process::of(&child));
                let _ = report.send(Ok(Arc::clone(&process)));
                process.wait(child);
            }
        };
        thread::Builder::new()
            .name(self.node.clone())
            .spawn(body)
            .context("no thread")?;
        let process = started.recv().context("the thread ended").flatten();
        self.process = Some(process.with_context(|| format!("agent on {}", self.node))?);
        Ok(())
    }

    /// Waits until `duolb status` says that it serves what its source says.
    ///
    /// # Errors
    /// If it ends or takes too long; with the end of its log.
    pub fn wait_ready(&self) -> Result<()> {
        self.wait_ready_for(PATIENCE)
    }

    /// The same with another patience.
    ///
    /// # Errors
    /// As above.
    pub fn wait_ready_for(&self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            interrupt::check()?;
            let status = self.duolb(&["status", "-o", "json"]);
            let synced = status
                .as_ref()
                .ok()
                .and_then(|text| serde_json::from_str(text).ok());
            if synced.is_some_and(|json: serde_json::Value| json["agent"]["synced"] == true) {
                return Ok(());
            }
            self.check()?;
            if start.elapsed() > stretched(patience) {
                let said = status.unwrap_or_else(|error| format!("{error:#}"));
                bail!(
                    "agent on {} is not ready: {said}\n{}",
                    self.node,
                    self.log_tail()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs `duolb` with `args` and `--bpffs` on the agent's node; returns what it printed.
    ///
    /// # Errors
    /// If it fails.
    pub fn duolb(&self, args: &[&str]) -> Result<String> {
        let program = self
            .options
            .duolb
            .to_str()
            .context("path of duolb is not text")?;
        let bpffs = self.bpffs.to_str().context("path of pins is not text")?;
        let command = [&[program], args, &["--bpffs", bpffs]].concat();
        let door = self.door.clone();
        let work = move || door.enter().and_then(|()| spawn::output_here(&command, ""));
        thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
    }

    /// SIGKILL: it gets no chance to do anything.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// SIGTERM, and waits; SIGKILL if that takes too long.
    ///
    /// # Errors
    /// If it had to be killed or did not exit with success.
    pub fn stop(&mut self) -> Result<()> {
        match self.end(Signal::SIGTERM) {
            Some(status) if !status.success() => bail!("agent on {}: {status}", self.node),
            _ => Ok(()),
        }
    }

    /// Sends `signal` and waits; its status if it was running.
    fn end(&mut self, signal: Signal) -> Option<ExitStatus> {
        let process = self.process.take()?;
        process.signal(signal);
        let timeout = |status: &mut Option<ExitStatus>| status.is_none();
        let wait = process
            .ended
            .wait_timeout_while(process.lock(), stretched(PATIENCE), timeout);
        let (status, _) = wait.unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = *status {
            return Some(status);
        }
        drop(status);
        process.signal(Signal::SIGKILL);
        let wait = process
            .ended
            .wait_while(process.lock(), |status| status.is_none());
        *wait.unwrap_or_else(PoisonError::into_inner)
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        // The maps outlive it.
        if let Some(directory) = std::env::var_os("DUOLB_VERDICTS") {
            verdicts::leave(self, directory.as_ref());
        }
    }
}
