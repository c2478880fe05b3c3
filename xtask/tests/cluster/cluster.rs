//! One node with an agent and, outside, an API server; and the questions that tests ask of them.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask::lab::{Agent, AgentOptions, Host, Lab, Netns, Node, Objects};

use crate::{
    http::{self, HEALTH},
    objects::{NODE, service_cidr},
    server::Server,
    stream::{Streams, who_answers},
    workload::{self, Pod, frontends, web},
};

/// How long the agent may take to notice a trouble or its end: its pauses after failures grow with each.
const NOTICED: Duration = Duration::from_secs(25);

/// What there is.
pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    pub(crate) api: Server,
    pub(crate) kubeconfig: PathBuf,
}

/// Endpoint pods of the node, by their numbers.
pub(crate) fn pods(numbers: &[u8]) -> Vec<Pod> {
    numbers.iter().map(|&number| Pod::new(1, number)).collect()
}

/// Service `web` with these pods.
pub(crate) fn web_of(numbers: &[u8]) -> Vec<Value> {
    web(&json!({}), &pods(numbers))
}

impl Cluster {
    /// The node with three pods and a client, in zone a; Service `web` with the pods 10 and 11; the agent serves.
    pub(crate) fn start() -> Result<Self> {
        let mut cluster = Self::prepare()?;
        cluster.agent_mut().start()?;
        cluster.agent().wait_ready()?;
        Ok(cluster)
    }

    /// The same with the agent yet to be started.
    pub(crate) fn prepare() -> Result<Self> {
        let mut lab = Lab::builder()
            .node(Node::routed(NODE).endpoints(3))
            .build()?;
        let api = Server::start(lab.outside(), 0, None)?;
        let kubeconfig = lab.dir().join("kubeconfig");
        let mut options = AgentOptions::from_env("")?;
        options.objects = Objects::Kubeconfig(kubeconfig.clone());
        options.args = ["--max-flows", "65536"].map(str::to_owned).to_vec();
        lab.add_agents(&options);
        let cluster = Self {
            lab,
            api,
            kubeconfig,
        };
        cluster.configure("", "user: {}")?;
        cluster.populate();
        Ok(cluster)
    }

    /// Gives the API server its objects.
    pub(crate) fn populate(&self) {
        self.api.put(&[
            workload::node(1, "a"),
            service_cidr("kubernetes", "10.96.0.0/16"),
        ]);
        self.api.put(&web_of(&[10, 11]));
    }

    /// Writes the kubeconfig: with further fields of the cluster, and this user.
    pub(crate) fn configure(&self, cluster: &str, user: &str) -> Result<()> {
        let url = self.api.double().url();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: '{url}'{cluster}}}}}]\n\
             users: [{{name: u, {user}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
        );
        fs::write(&self.kubeconfig, text).context("kubeconfig")
    }

    pub(crate) fn agent(&self) -> &Agent {
        self.lab.agent(NODE)
    }

    pub(crate) fn agent_mut(&mut self) -> &mut Agent {
        self.lab.agent_mut(NODE)
    }

    /// The agent's node.
    pub(crate) fn host(&self) -> &Host {
        self.lab.node(NODE)
    }

    /// Serves again after [`Server::down`].
    pub(crate) fn api_up(&mut self) -> Result<()> {
        self.api.up(self.lab.outside())
    }

    pub(crate) fn client(&self) -> &Netns {
        &self.lab.pod("client-1").netns
    }

    /// Streams from the client to all of `web`.
    pub(crate) fn streams(&self) -> Result<Streams> {
        let streams = Streams::start(self.client(), &frontends())?;
        streams.wait_rounds(100)?;
        Ok(streams)
    }

    /// Fails unless new clients of `web` are answered by exactly these pods.
    pub(crate) fn answers(&self, numbers: &[u8]) -> Result<()> {
        let names = who_answers(self.client(), &frontends(), 16)?;
        let wanted: BTreeSet<_> = pods(numbers).iter().map(Pod::name).collect();
        ensure!(names == wanted, "{names:?} answer, not {wanted:?}");
        Ok(())
    }

    /// Waits for these status codes of `/healthz` and `/livez`: a server that starts does not listen at once.
    pub(crate) fn wait_health(&self, wanted: [u16; 2]) -> Result<()> {
        self.wait(&format!("/healthz and /livez answer {wanted:?}"), || {
            Ok(self.health().is_ok_and(|codes| codes == wanted))
        })
    }

    /// Status codes of `/healthz` and `/livez`.
    pub(crate) fn health(&self) -> Result<[u16; 2]> {
        let ask = |path| http::get(self.host(), HEALTH, path).map(|(code, _)| code);
        Ok([ask("/healthz")?, ask("/livez")?])
    }

    /// What `duolb status` says.
    pub(crate) fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.agent().duolb(&["status", "-o", "json"])?,
        )?)
    }

    /// Waits for so many problems in `duolb status`.
    pub(crate) fn wait_problems(&self, wanted: u64) -> Result<()> {
        self.wait(&format!("{wanted} problems in status"), || {
            Ok(self.status()?["agent"]["problems"] == wanted)
        })
    }

    /// Lines of the agent's log that warn and say all of `parts`.
    pub(crate) fn warnings(&self, parts: &[&str]) -> usize {
        self.logged("WARN", parts)
    }

    /// Lines of the agent's log that tell of the solution of what says all of `parts`.
    pub(crate) fn solutions(&self, parts: &[&str]) -> usize {
        let parts = [&["solved: "], parts].concat();
        self.logged("INFO", &parts)
    }

    fn logged(&self, level: &str, parts: &[&str]) -> usize {
        let log = self.agent().log();
        let says =
            |line: &&str| line.contains(level) && parts.iter().all(|part| line.contains(part));
        log.lines().filter(says).count()
    }

    /// Waits for the first warning that says all of `parts`.
    pub(crate) fn wait_warning(&self, parts: &[&str]) -> Result<()> {
        self.wait(&format!("a warning with {parts:?}"), || {
            Ok(self.warnings(parts) > 0)
        })
    }

    /// Waits until `is` holds.
    pub(crate) fn wait(&self, what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !is()? {
            ensure!(
                start.elapsed() < NOTICED,
                "not so after {NOTICED:?}: {what} (the agent: {:?})\n{}",
                self.agent().check(),
                self.agent().log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Ends `streams`; nothing may have been lost.
pub(crate) fn lost_nothing(streams: Streams) -> Result<()> {
    streams.wait_rounds(100)?;
    for (name, done) in streams.finish()? {
        ensure!(done.is_whole(10), "{name}: {done:?}");
        ensure!(done.slowest < Duration::from_secs(1), "{name}: {done:?}");
    }
    Ok(())
}
