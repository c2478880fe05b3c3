//! Three nodes with an agent each, what is around them, and what they have counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask::lab::{AgentOptions, ChecksumErrors, Endpoint, Lab, Netns, Node};

use crate::{
    reference::{Client, Surroundings},
    services::{Numbered, TARGET, place},
};

/// Cluster IPs, as the agents are told them.
const CLUSTER_IPS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];

/// How packets from outside are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By TC alone.
    Tc,
    /// By XDP in the stack's stead.
    Generic,
    /// By XDP in the driver, which here is veth.
    Native,
}

impl Mode {
    /// The agent's `--xdp`.
    pub(crate) const fn flag(self) -> &'static str {
        match self {
            Self::Tc => "off",
            Self::Generic => "generic",
            Self::Native => "native",
        }
    }
}

/// What a cluster has besides nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// See [`Mode`].
    pub(crate) mode: Mode,
    /// A vxlan between the nodes, strict reverse paths, a CNI that masquerades, and a firewall that drops what
    /// conntrack finds invalid: all at once.
    pub(crate) composed: bool,
    /// The firewall alone.
    pub(crate) firewall: bool,
}

impl Kind {
    /// Nothing but `mode`.
    pub(crate) const fn plain(mode: Mode) -> Self {
        Self {
            mode,
            composed: false,
            firewall: false,
        }
    }

    /// Nothing but `mode` and the firewall, so that packets take the shortest way past it.
    pub(crate) const fn behind_firewall(mode: Mode) -> Self {
        Self {
            firewall: true,
            ..Self::plain(mode)
        }
    }

    /// What the rules must know of it.
    pub(crate) const fn surroundings(self) -> Surroundings {
        Surroundings {
            cluster_ips: 3,
            load_balancers: 1,
            external_ips: 2,
            cni_masquerades: self.composed,
        }
    }
}

/// The lab with agents that serve.
pub(crate) struct Cluster {
    // Before the lab, whose namespaces it holds.
    _servers: Vec<Endpoint>,
    pub(crate) lab: Lab,
    kind: Kind,
    manifests: PathBuf,
}

impl Cluster {
    /// `node-1`, `node-2` (bridged) and `node-3` with two endpoint pods and a client each, a server on
    /// `node-1` itself, and agents that serve `services`.
    pub(crate) fn start(kind: Kind, services: &[Numbered], args: &[&str]) -> Result<Self> {
        let node = |name| Node::routed(name).endpoints(2);
        let mut lab = Lab::builder()
            .node(node("node-1"))
            .node(Node::bridged("node-2").endpoints(2))
            .node(node("node-3"))
            .rp_filter(u8::from(kind.composed))
            .build()?;
        lab.be_a_wire()?;
        lab.route_to(&CLUSTER_IPS, "node-3")?;
        if kind.composed {
            lab.lay_overlay()?;
            lab.masquerade_pods()?;
        }
        if kind.firewall {
            lab.drop_invalid()?;
        }
        // Kernels refuse a few datagrams a second, and no more.
        for node in lab.nodes() {
            node.netns.sysctl(&[
                ("net/ipv4/icmp_ratelimit", "0"),
                ("net/ipv6/icmp/ratelimit", "0"),
            ])?;
        }
        let host = lab.node("node-1");
        let at = host.addresses.both().map(|ip| (ip, TARGET).into());
        let names = at.map(|at| (at, host.name.clone()));
        let server = Endpoint::start_at(&host.netns, "host-1", names.into())?;
        let mut cluster = Self {
            _servers: vec![server],
            manifests: lab.dir().join("manifests"),
            lab,
            kind,
        };
        fs::create_dir(&cluster.manifests)?;
        let nodes = cluster.lab.nodes().map(|node| node.as_object());
        cluster.write("nodes.json", &nodes.collect::<Result<Vec<_>>>()?)?;
        cluster.apply(services)?;
        let mut options = AgentOptions::from_env(&cluster.manifests)?;
        let own = ["--xdp", kind.mode.flag()];
        options.args = own.iter().chain(args).map(|&arg| arg.to_owned()).collect();
        cluster.lab.start_agents(&options)?;
        Ok(cluster)
    }

    /// Replaces the Services; the agents follow within a second.
    pub(crate) fn apply(&self, services: &[Numbered]) -> Result<()> {
        let objects: Vec<Value> = services.iter().flat_map(Numbered::objects).collect();
        self.write("services.json", &objects)
    }

    fn write(&self, name: &str, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let draft = self.manifests.with_extension("draft");
        fs::write(&draft, list.to_string())?;
        fs::rename(draft, self.manifests.join(name)).context("manifests")
    }

    /// Ends the agents one after the other and starts them again, to translate packets that way.
    pub(crate) fn restart_as(&mut self, mode: Mode) -> Result<()> {
        for node in ["node-1", "node-2", "node-3"] {
            let agent = self.lab.agent_mut(node);
            agent.stop()?;
            let args = agent.args_mut();
            let at = args.iter().position(|arg| arg == "--xdp");
            args[at.context("an agent without --xdp")? + 1] = mode.flag().to_owned();
            agent.start()?;
            agent.wait_ready()?;
        }
        Ok(())
    }

    /// The namespace of a client.
    pub(crate) fn netns(&self, client: Client) -> &Netns {
        match client {
            Client::Pod { .. } => &self.lab.pod(&place(client)).netns,
            Client::Host { .. } | Client::Outside => &self.lab.node(&place(client)).netns,
        }
    }

    /// Every address of every node, as its kernel lists them now.
    pub(crate) fn node_addresses(&self) -> Result<BTreeMap<u8, BTreeSet<IpAddr>>> {
        let mut all = BTreeMap::new();
        for host in self.lab.nodes() {
            let (number, _) = host.node.context("a node has a number")?;
            let devices: Value =
                serde_json::from_str(&self.lab.exec(host, &["ip", "-json", "addr"])?)?;
            let devices = devices.as_array().context("ip's list")?;
            let addresses = devices
                .iter()
                .flat_map(|device| device["addr_info"].as_array().into_iter().flatten())
                .filter_map(|address| address["local"].as_str()?.parse().ok());
            all.insert(number, addresses.collect());
        }
        Ok(all)
    }

    /// The verdicts' counters of a node.
    pub(crate) fn verdicts(&self, node: u8) -> Result<BTreeMap<String, u64>> {
        let status = self.status(node)?;
        serde_json::from_value(status["verdicts"].clone()).context("verdicts of duolb status")
    }

    /// One verdict's counter, of all nodes together.
    pub(crate) fn verdict(&self, label: &str) -> Result<u64> {
        let counts = (1..=3).map(|node| {
            let counts = self.verdicts(node)?;
            let count = counts.get(label).copied();
            count.with_context(|| format!("no verdict {label}"))
        });
        counts.sum()
    }

    /// `duolb status -o json`.
    pub(crate) fn status(&self, node: u8) -> Result<Value> {
        let agent = self.lab.agent(&format!("node-{node}"));
        let text = agent.duolb(&["status", "-o", "json"])?;
        serde_json::from_str(&text).context("duolb status -o json")
    }

    /// No namespace has seen a wrong checksum, and no firewall an invalid packet.
    pub(crate) fn check_counters(&self) -> Result<()> {
        let hosts = self.lab.nodes().chain([self.lab.outside()]);
        let hosts = hosts.map(|host| (host.name.as_str(), &host.netns));
        let pods = self.lab.pods().map(|pod| (pod.name.as_str(), &pod.netns));
        for (name, netns) in hosts.chain(pods).chain([("fabric", self.lab.fabric())]) {
            let errors = self.lab.checksum_errors(netns)?;
            let none = ChecksumErrors::default();
            ensure!(errors == none, "wrong checksums in {name}: {errors:?}");
        }
        for host in self.lab.nodes().filter(|_| self.kind.firewall) {
            let invalid = self.lab.invalid(host)?;
            ensure!(invalid == 0, "{}: {invalid} packets invalid", host.name);
        }
        Ok(())
    }
}
