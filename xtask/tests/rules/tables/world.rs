//! The lab of one table: three nodes with an agent each, no ranges but those of ServiceCIDR objects, and
//! behind the nodes' default route somebody who has every VIP's address and answers what passes.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lb_common::address::Family;
use serde_json::{Value, json};
use xtask::lab::{AgentOptions, Endpoint, Lab, Node, Pod, Protocol, probe::Probe};

use super::places::{self, FIRST, PODS, Places};
use crate::{
    cases::Objects,
    http::{METRICS, get},
    operating::sample,
};

/// The ports that endpoints of the tables have.
const PORTS: [u16; 6] = [8080, 8081, 5300, 5353, 9090, 9153];
/// The ports that who answers what passes has.
const BEYOND: [u16; 1] = [80];
/// The metric of verdicts.
const VERDICTS: &str = "duolb_verdicts_total{verdict=";
/// Its name.
pub(super) const STACK: &str = "stack";
/// How long a change of a manifest may take to be in force.
pub(super) const IN_FORCE: Duration = Duration::from_secs(2);
/// The last number of the VIP that shows which manifest is in force; no name of a Service has it.
const MARKER: u8 = 250;

/// The lab with its agents and their manifests.
pub(super) struct World {
    // In the order in which they have to go.
    _servers: Vec<Endpoint>,
    pub(super) lab: Lab,
    manifests: PathBuf,
    written: Cell<u16>,
    _directory: tempfile::TempDir,
}

impl World {
    pub(super) fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let manifests = directory.path().join("manifests");
        fs::create_dir(&manifests)?;
        // Pods without the lab's endpoints: here an answer also tells the port.
        let mut lab = Lab::builder()
            .node(Node::routed("n1").endpoints(0))
            .node(Node::bridged("n2").endpoints(0))
            .node(Node::routed("n3").endpoints(0))
            .build()?;
        let mut servers = Vec::new();
        for (node, count) in ["n1", "n2", "n3"].into_iter().zip(PODS) {
            for number in (FIRST..).take(count.into()) {
                let pod = lab.add_pod(node, number, false)?;
                let names = PORTS.map(|port| (port, format!("{}:{port}", pod.name)));
                servers.push(Endpoint::start_as(&pod.netns, &pod.name, names.into())?);
            }
        }
        for (flag, family) in [("-4", Family::V4), ("-6", Family::V6)] {
            let route = format!("ip {flag} route add local {} dev lo", places::range(family));
            lab.exec(lab.fabric(), &route.split(' ').collect::<Vec<_>>())?;
        }
        let names = BEYOND.map(|port| (port, STACK.to_owned()));
        servers.push(Endpoint::start_as(lab.fabric(), STACK, names.into())?);
        let mut world = Self {
            _servers: servers,
            lab,
            manifests,
            written: Cell::new(0),
            _directory: directory,
        };
        world.write(&[])?;
        let mut options = AgentOptions::from_env(&world.manifests)?;
        options.service_ranges = "";
        options.args = ["--max-flows", "65536"].map(str::to_owned).into();
        world.lab.start_agents(&options)?;
        Ok(world)
    }

    /// Replaces all objects by `objects` in both families.
    pub(super) fn apply(&self, objects: &Objects, places: &Places) -> Result<()> {
        let items = |family| {
            let mut list = objects.manifest(family, places);
            list["items"].as_array_mut().map(std::mem::take)
        };
        let mut all = items(Family::V4).context("no list")?;
        for mut item in items(Family::V6).context("no list")? {
            if item["kind"] == "Node" {
                continue; // the same
            }
            // A Service here has one family: so that there can be both, each family has a namespace.
            let metadata = &mut item["metadata"];
            let field = if metadata["namespace"].is_string() {
                "namespace"
            } else {
                "name"
            };
            let text = metadata[field].as_str().context("no name")?;
            metadata[field] = format!("{text}-ipv6").into();
            all.push(item);
        }
        self.write(&all)
    }

    /// Writes these objects, and the marker with a new port.
    fn write(&self, items: &[Value]) -> Result<()> {
        self.written.set(self.written.get() + 1);
        let items: Vec<Value> = items.iter().cloned().chain(self.marker()).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        let draft = self.manifests.with_extension("draft");
        fs::write(&draft, list.to_string())?;
        fs::rename(draft, self.manifests.join("objects.json")).context("manifests")
    }

    /// The frontend that only the manifest written last has.
    fn marker_frontend(&self) -> SocketAddr {
        SocketAddr::new(places::vip(MARKER, Family::V4), 10_000 + self.written.get())
    }

    fn marker(&self) -> [Value; 2] {
        let frontend = self.marker_frontend();
        let pod = &xtask::lab::Addresses::of_pod(1, FIRST);
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "marker", "namespace": "marker"},
            "spec": {
                "clusterIP": frontend.ip(),
                "clusterIPs": [frontend.ip()],
                "ports": [{"protocol": "TCP", "port": frontend.port()}],
            },
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "marker-1",
                "namespace": "marker",
                "labels": {"kubernetes.io/service-name": "marker"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "", "protocol": "TCP", "port": PORTS[0]}],
            "endpoints": [{"addresses": [pod.v4]}],
        });
        [service, slice]
    }

    /// Waits until what was written last is in force on a node.
    pub(super) fn wait_in_force(&self, node: &str) -> Result<()> {
        let probe = Probe::new(Protocol::Tcp, self.marker_frontend()).timeout(IN_FORCE);
        let start = Instant::now();
        while let Err(error) = probe.run_in(&self.client(node).netns) {
            ensure!(
                start.elapsed() < IN_FORCE,
                "on {node}: what was written is not in force: {error}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The client pod of a node.
    pub(super) fn client(&self, node: &str) -> &Pod {
        self.lab.pod(&node.replace('n', "client-"))
    }

    /// The frontends that are in a node's maps. To ask takes half a second on a busy machine.
    pub(super) fn frontends(&self, node: &str) -> Result<Vec<Value>> {
        let list = ["service", "list", "-o", "json"];
        let said = self.lab.agent(node).duolb(&list)?;
        serde_json::from_str(&said).with_context(|| format!("on {node}: {}", list.join(" ")))
    }

    /// The samples of the verdicts that a node has counted so far.
    pub(super) fn verdicts(&self, node: &str) -> Result<BTreeSet<String>> {
        let (_, metrics) = get(self.lab.node(node), METRICS, "/metrics")?;
        let samples = metrics.lines().filter(|line| line.starts_with(VERDICTS));
        let samples: BTreeSet<_> = samples.map(str::to_owned).collect();
        ensure!(!samples.is_empty(), "on {node}: no {VERDICTS}");
        Ok(samples)
    }

    /// How many Services a node's agent counts as lacking local endpoints under a policy (rule 87).
    pub(super) fn lacking(&self, node: &str, policy: &str) -> Result<f64> {
        let (_, metrics) = get(self.lab.node(node), METRICS, "/metrics")?;
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        let label = format!("traffic_policy=\"{policy}\"");
        sample(&metrics, name, &[&label]).with_context(|| format!("no {name} for {policy}"))
    }
}
