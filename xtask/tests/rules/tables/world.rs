//! The lab of one table: three nodes with an agent each, no ranges but those of ServiceCIDR objects, and
//! whoever answers what passes (`stack`).

use std::{
    cell::{Cell, RefCell},
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use lb_common::address::Family;
use serde_json::{Value, json};
use xtask::lab::{
    Addresses, AgentOptions, Endpoint, Lab, Netns, Node, Pod, Protocol, probe::Probe,
};

use super::{
    places::{self, FIRST, PODS, Places},
    stack,
    verdicts::Counts,
};
use crate::{
    cases::{Case, Client, Objects},
    http::{METRICS, get},
    operating::sample,
};

/// The ports that endpoints of the tables have.
const PORTS: [u16; 6] = [8080, 8081, 5300, 5353, 9090, 9153];
/// The metric of verdicts.
const VERDICTS: &str = "duolb_verdicts_total{verdict=\"";
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
    /// The node that packets from outside come to.
    entrance: RefCell<String>,
    _directory: tempfile::TempDir,
}

impl World {
    /// For these cases.
    pub(super) fn start(cases: &[Case]) -> Result<Self> {
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
        servers.extend(stack::lay(&lab, cases)?);
        let mut world = Self {
            _servers: servers,
            lab,
            manifests,
            written: Cell::new(0),
            entrance: RefCell::default(),
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
            let mut items = list["items"].as_array_mut().map(std::mem::take)?;
            // What has but one family whoever asks is in the other one's list all the same.
            items.retain(|item| {
                let stated = item["spec"]["ipFamilies"][0].as_str();
                stated.is_none_or(|stated| stated == family.name())
            });
            Some(items)
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
        let pod = &Addresses::of_pod(1, FIRST);
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
        while let Err(error) = probe.run_in(&self.pod(node).netns) {
            ensure!(
                start.elapsed() < IN_FORCE,
                "on {node}: what was written is not in force: {error}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The client pod of a node.
    fn pod(&self, node: &str) -> &Pod {
        self.lab.pod(&node.replace('n', "client-"))
    }

    /// Where a client of a node is.
    pub(super) fn netns(&self, node: &str, client: Client) -> &Netns {
        match client {
            Client::Pod => &self.pod(node).netns,
            Client::Host => &self.lab.node(node).netns,
            Client::Outside => &self.lab.outside().netns,
        }
    }

    /// Has packets from outside come to that node.
    pub(super) fn lead(&self, node: &str) -> Result<()> {
        if *self.entrance.borrow() != node {
            stack::lead(&self.lab, node)?;
            node.clone_into(&mut self.entrance.borrow_mut());
        }
        Ok(())
    }

    /// Which of a client's addresses packets may have as they leave it, but for loopback.
    pub(super) fn own(&self, node: &str, client: Client, family: Family) -> Vec<IpAddr> {
        let addresses = match client {
            Client::Pod => vec![self.pod(node).addresses],
            Client::Outside => vec![self.lab.outside().addresses],
            Client::Host => {
                let host = self.lab.node(node);
                let (number, _) = host.node.expect("it is a node");
                vec![host.addresses, Addresses::of_gateway(number)]
            }
        };
        let own = addresses.iter().flat_map(Addresses::both);
        let other = (client == Client::Host).then(|| places::other(family));
        own.chain(other)
            .filter(|ip| Family::of(ip) == family)
            .collect()
    }

    /// The frontends that are in a node's maps. To ask takes half a second on a busy machine.
    pub(super) fn frontends(&self, node: &str) -> Result<Vec<Value>> {
        let list = ["service", "list", "-o", "json"];
        let said = self.lab.agent(node).duolb(&list)?;
        serde_json::from_str(&said).with_context(|| format!("on {node}: {}", list.join(" ")))
    }

    /// How often a node has given each verdict so far.
    pub(super) fn verdicts(&self, node: &str) -> Result<Counts> {
        let (_, metrics) = get(self.lab.node(node), METRICS, "/metrics")?;
        let count = |line: &str| {
            let (label, rest) = line.strip_prefix(VERDICTS)?.split_once('"')?;
            let (_, count) = rest.split_once(' ')?;
            Some((label.to_owned(), count.parse().ok()?))
        };
        let counts: Counts = metrics.lines().filter_map(count).collect();
        ensure!(!counts.is_empty(), "on {node}: no {VERDICTS}");
        Ok(counts)
    }

    /// How many Services a node's agent counts as lacking local endpoints under a policy (rule 87).
    pub(super) fn lacking(&self, node: &str, policy: &str) -> Result<f64> {
        let (_, metrics) = get(self.lab.node(node), METRICS, "/metrics")?;
        let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
        let label = format!("traffic_policy=\"{policy}\"");
        sample(&metrics, name, &[&label]).with_context(|| format!("no {name} for {policy}"))
    }
}
