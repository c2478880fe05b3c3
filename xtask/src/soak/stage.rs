//! The lab of a soak: three nodes that do all differently, servers that say by which port they were asked, agents.
//!
//! ```text
//!   node-1   routed    TC alone            also an endpoint itself
//!   node-2   bridged   XDP in the driver   behind a hop with an MTU of 1280
//!   node-3   routed    XDP in the stack's stead, past the stack where it can be
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{
    datagram::{self, Patience},
    echo,
    evidence::Witness,
    judge::{Call, Outcome},
    random::Random,
    scene::Served,
    service::{Service, targets, who},
    stray, traffic,
};
use crate::lab::{
    AgentOptions, Endpoint as Server, Lab, Node, Objects, Protocol, SERVICE_RANGES, interrupt,
    reference::{Client, Endpoint, Frontend, Policy, Surroundings},
};

/// The nodes.
pub(super) const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
/// Cluster IPs, as agents are told them.
const CLUSTER_IPS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
/// Where the fabric routes what nobody has.
pub(super) const AROUND: Surroundings = Surroundings {
    cluster_ips: 3,
    load_balancers: 1,
    external_ips: 2,
    cni_masquerades: false,
};
/// What agents are told, each node's own first. Timeouts are short, so that what is not given back shows.
const COMMON: [&str; 5] = [
    // A veth without a network, as the lab has it, looks like a pod's while no route leads there.
    "--uplinks=eth0",
    "--conntrack-udp-timeout=20s",
    "--conntrack-udp-timeout-stream=20s",
    "--conntrack-tcp-timeout-established=60s",
    "--conntrack-tcp-timeout-close-wait=20s",
];
const OWN: [&[&str]; 3] = [
    &["--xdp", "off", "--max-services", "64"],
    &["--xdp", "native"],
    &["--xdp", "generic", "--host-routing", "bpf"],
];

/// How long an agent may take to serve: loading programs takes long on a machine that compiles.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// The lab with agents and servers.
pub(super) struct Stage {
    // Before the lab, whose namespaces they hold.
    servers: BTreeMap<String, Server>,
    pub(super) lab: Lab,
    manifests: PathBuf,
}

impl Stage {
    /// Makes all of it and starts agents on `services`.
    ///
    /// # Errors
    /// If something cannot be made.
    pub(super) fn start(duolb: &Path, services: &[Service]) -> Result<Self> {
        let node = |name| Node::routed(name).endpoints(3);
        let mut lab = Lab::builder()
            .node(node("node-1"))
            .node(Node::bridged("node-2").endpoints(3))
            .node(node("node-3"))
            .build()?;
        lab.be_a_wire()?;
        lab.route_to(&CLUSTER_IPS, "node-3")?;
        lab.set_path_mtu("node-2", Some(1280))?;
        for host in lab.nodes() {
            host.netns.sysctl(&[
                ("net/ipv4/icmp_ratelimit", "0"),
                ("net/ipv6/icmp/ratelimit", "0"),
                ("net/ipv6/conf/all/keep_addr_on_down", "1"),
                ("net/ipv6/conf/eth0/keep_addr_on_down", "1"),
            ])?;
        }
        stray::watch(&lab)?;
        let mut stage = Self {
            servers: BTreeMap::new(),
            manifests: lab.dir().join("manifests"),
            lab,
        };
        let pods = stage.lab.pods().filter(|pod| pod.endpoint.is_some());
        let pods: Vec<String> = pods.map(|pod| pod.name.clone()).collect();
        pods.iter().try_for_each(|pod| stage.serve(pod))?;
        stage.serve_host("node-1")?;
        fs::create_dir(&stage.manifests)?;
        let nodes = stage.lab.nodes().map(|node| node.as_object());
        stage.write("nodes.json", &nodes.collect::<Result<Vec<_>>>()?)?;
        stage.apply(services)?;
        // A copy: who builds meanwhile would have agents start again as something else.
        let copy = stage.lab.dir().join("duolb");
        fs::copy(duolb, &copy).with_context(|| duolb.display().to_string())?;
        stage.start_agents(copy)?;
        Ok(stage)
    }

    fn start_agents(&mut self, duolb: PathBuf) -> Result<()> {
        let options = AgentOptions {
            duolb,
            objects: Objects::Manifests(self.manifests.clone()),
            service_ranges: SERVICE_RANGES,
            args: Vec::new(),
        };
        self.lab.add_agents(&options);
        for (node, own) in NODES.into_iter().zip(OWN) {
            let agent = self.lab.agent_mut(node);
            let args = own.iter().chain(&COMMON).map(|&arg| arg.to_owned());
            *agent.args_mut() = args.collect();
            agent.start()?;
        }
        NODES
            .iter()
            .try_for_each(|node| self.lab.agent(node).wait_ready_for(PATIENCE))
    }

    /// Who keeps in `dir` what it was like when something was wrong.
    pub(super) fn witness(&self, dir: &Path) -> Witness {
        let pins = NODES.map(|node| self.lab.agent(node).bpffs().to_owned());
        let (duolb, dir) = (self.lab.dir().join("duolb"), dir.to_owned());
        Witness::new(duolb, pins.into(), self.lab.prefix(), dir)
    }

    /// What of the traffic there is something for.
    ///
    /// # Errors
    /// If a namespace cannot be entered.
    pub(super) fn served(&self) -> Result<Served> {
        let agent = self.lab.agent(NODES[0]);
        let client = Client::Pod {
            node: 1,
            number: 100,
        };
        let netns = traffic::netns(&self.lab, client);
        let service = Service::new(1, Policy::Cluster, &[]);
        let (mut fragments, mut echo) = (true, true);
        for v6 in [false, true] {
            let to = service.socket(Frontend::ClusterIp, v6);
            let call = Call {
                client,
                service: 1,
                frontend: Frontend::ClusterIp,
                v6,
                protocol: Protocol::Udp,
                to,
                port: 0,
            };
            let patience = Patience {
                each: Duration::from_secs(1),
                attempts: 4,
            };
            netns.run(|| -> Result<()> {
                for _ in 0..4 {
                    let socket = datagram::bind(v6, 0)?;
                    let (outcome, _) = datagram::exchange(&socket, false, &call, 6000, patience);
                    fragments &= matches!(outcome, Outcome::Answered { .. });
                }
                let mut random = Random::new(1, "echo");
                let (is_answered, _) = echo::ask(to.ip(), &mut random, patience.each, 4)?;
                echo &= is_answered;
                Ok(())
            })??;
        }
        Ok(Served {
            fragments,
            echo,
            conntrack: agent.duolb(&["conntrack", "list"]).is_ok(),
        })
    }

    /// A server in an endpoint pod.
    ///
    /// # Errors
    /// If a port cannot be bound.
    pub(super) fn serve(&mut self, pod: &str) -> Result<()> {
        let names = targets().map(|target| (target, format!("{pod}/{target}")));
        let netns = &self.lab.pod(pod).netns;
        let server = Server::start_as(netns, pod, names.collect())?;
        self.servers.insert(pod.to_owned(), server);
        Ok(())
    }

    fn serve_host(&mut self, node: &str) -> Result<()> {
        let host = self.lab.node(node);
        let (number, _) = host.node.context("a node has a number")?;
        let endpoint = Endpoint::Host { node: number };
        let names = targets().flat_map(|target| {
            let at = host.addresses.both().map(|ip| SocketAddr::new(ip, target));
            at.map(|at| (at, who(endpoint, target)))
        });
        let server = Server::start_at(&host.netns, "host-1", names.collect())?;
        self.servers.insert(node.to_owned(), server);
        Ok(())
    }

    /// Takes a pod away with its namespace.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn remove_pod(&mut self, pod: &str) -> Result<()> {
        self.servers.remove(pod);
        self.lab.remove_pod(pod)
    }

    /// Brings one back with the same addresses.
    ///
    /// # Errors
    /// As above.
    pub(super) fn add_pod(&mut self, node: u8, number: u8) -> Result<()> {
        let pod = self.lab.add_pod(&format!("node-{node}"), number, true)?;
        let name = pod.name.clone();
        stray::watch_pod(&self.lab, &name)?;
        self.serve(&name)
    }

    /// Replaces all Services.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn apply(&self, services: &[Service]) -> Result<()> {
        let objects: Vec<Value> = services.iter().flat_map(Service::objects).collect();
        self.write("services.json", &objects)
    }

    /// Writes a file of objects.
    ///
    /// # Errors
    /// As above.
    pub(super) fn write(&self, name: &str, objects: &[Value]) -> Result<()> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.write_text(name, &list.to_string())
    }

    /// Writes a file, which appears at once and whole.
    ///
    /// # Errors
    /// As above.
    pub(super) fn write_text(&self, name: &str, text: &str) -> Result<()> {
        let draft = self.manifests.with_extension("draft");
        fs::write(&draft, text)?;
        fs::rename(draft, self.manifests.join(name)).context("manifests")
    }

    /// Removes a file.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.manifests.join(name)).context("manifests")
    }

    /// `duolb status` of a node.
    ///
    /// # Errors
    /// If it fails.
    pub(super) fn status(&self, node: &str) -> Result<Value> {
        let mut attempts = 1..=10;
        loop {
            let said = self.lab.agent(node).duolb(&["status", "-o", "json"]);
            match said {
                // It has patience of its own with the kernel, less than a busy machine asks for.
                Err(_) if attempts.next().is_some() => {
                    interrupt::check()?;
                    thread::sleep(Duration::from_secs(1));
                }
                said => return serde_json::from_str(&said?).context("duolb status -o json"),
            }
        }
    }

    /// Whether the maps of every node are as `services` say.
    ///
    /// # Errors
    /// What is not.
    pub(super) fn compare(&self, services: &[Service]) -> Result<()> {
        for (number, node) in (1..).zip(NODES) {
            let text = self
                .lab
                .agent(node)
                .duolb(&["service", "list", "-o", "json"])?;
            let rows: Vec<Value> = serde_json::from_str(&text).context("duolb service list")?;
            compare(&rows, services, number).with_context(|| node.to_owned())?;
        }
        Ok(())
    }
}

/// The rows of one node's list beside what they should be.
fn compare(rows: &[Value], services: &[Service], node: u8) -> Result<()> {
    let by_name: BTreeMap<String, &Service> = services
        .iter()
        .map(|service| (service.name(), service))
        .collect();
    let mut found = BTreeSet::new();
    for row in rows {
        let name = row["name"].as_str().context("a row without a name")?;
        let service = by_name.get(name);
        let service = service.with_context(|| format!("{name} is still listed"))?;
        let kind = row["kind"].as_str().context("a row without a kind")?;
        let port = match kind {
            "NodePort" => service.node_port(),
            _ => service.port,
        };
        ensure!(row["port"] == port, "{name} {kind}: port {}", row["port"]);
        let v6 = row["family"] == "IPv6";
        let mut endpoints = BTreeSet::new();
        for endpoint in row["endpoints"].as_array().into_iter().flatten() {
            let address: std::net::IpAddr = serde_json::from_value(endpoint["address"].clone())?;
            let port: u16 = serde_json::from_value(endpoint["port"].clone())?;
            endpoints.insert(SocketAddr::new(address, port));
        }
        // The node's own processes have the endpoints of all nodes where others may have other ones.
        if row["hostOnly"] != true {
            let expected = service.listed(node, v6);
            ensure!(
                endpoints == expected,
                "{name} {kind}: {endpoints:?} instead of {expected:?}"
            );
        }
        found.insert((name, kind, v6, row["protocol"].as_str()));
    }
    let wanted = services.len() * 4 * 2 * 2;
    ensure!(
        found.len() == wanted,
        "{} kinds of frontends instead of {wanted}",
        found.len()
    );
    Ok(())
}
