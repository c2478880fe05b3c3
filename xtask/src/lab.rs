//! The lab: nodes and pods of a cluster as network namespaces on this machine, dual stack throughout.
//!
//! ```text
//!   pod-1-10..13, client-1   pod-2-10..13, client-2   pod-3-10..11, client-3
//!     | | | veth, routed        \ | / bridge cni0         | | | routed
//!   [   node-1   ]           [   node-2   ]           [   node-3   ]          [ outside ]
//!         \_______________________|_______________________|______________________/
//!                     fabric: a router with a veth to each of them
//! ```
//!
//! Pods hang on their nodes in the two shapes that CNIs use. The fabric routes, rather than switches, so
//! that a hop with a smaller MTU can stand between two nodes; what load balancers and `externalIPs` announce
//! it routes to a node (`external.rs`). All addresses live inside namespaces of
//! our own, so labs coexist; [`Lab`] owns everything it made and takes it away when it is dropped, on a
//! panic and after Ctrl-C alike. What a killed process left, the next lab sweeps.
//!
//! Namespaces are entered with setns(2), never with `ip netns exec`, which hides bpffs.

mod address;
mod agent;
mod bare_udp;
mod bpf;
mod builder;
mod counters;
mod device;
mod dummy_xdp;
mod echo;
mod endpoint;
mod external;
mod foreign;
pub mod interrupt;
mod ip;
mod kernel_ids;
mod kernel_links;
mod netfilter;
mod netns;
mod object;
mod overlay;
pub mod patience;
pub mod probe;
mod raw;
pub mod reference;
pub(crate) mod spawn;
mod sweep;
mod tun;
mod verdicts;
mod wire;

use std::{io::Write as _, net::SocketAddr, os::fd::OwnedFd, path::Path};

use anyhow::{Context as _, Result};

pub use self::{
    address::{Addresses, Shape},
    agent::{Agent, AgentOptions, Objects, SERVICE_RANGES, next_version},
    bare_udp::leave_out_checksums,
    bpf::KernelObject,
    builder::{Builder, Node},
    counters::ChecksumErrors,
    echo::ping,
    endpoint::{Endpoint, PORTS},
    external::{EXTERNAL_IPS, LOAD_BALANCERS},
    foreign::{Foreign, Order, Place, Target},
    kernel_ids::KernelIds,
    netns::Netns,
    overlay::OVERLAY,
    probe::{Answer, ProbeError, Protocol},
    raw::{Halves, Raw},
    tun::Tunnel,
};

/// Whether a lab can be made here. If not, says on stderr in one line that `test` is skipped and why, past
/// the test harness, which would swallow it.
pub fn is_possible(test: &str) -> bool {
    let possible = nix::unistd::geteuid().is_root();
    if !possible {
        let _ = writeln!(
            std::io::stderr(),
            "{test} skipped: the lab needs root (cargo xtask test)"
        );
    }
    possible
}

/// A namespace with addresses: a node, or the client outside of the cluster.
#[derive(Debug)]
pub struct Host {
    /// `node-1` or `outside`.
    pub name: String,
    /// Its addresses.
    pub addresses: Addresses,
    /// Its namespace. The device to the fabric is called `eth0`.
    pub netns: Netns,
    /// How pods hang on it, and its number; `None` for `outside`.
    pub node: Option<(u8, Shape)>,
}

/// A pod's namespace, and the endpoint inside if it has one.
#[derive(Debug)]
pub struct Pod {
    /// `pod-<node>-<number>`, or `client-<node>` for number 100.
    pub name: String,
    /// Its node's name.
    pub node: String,
    /// Its addresses.
    pub addresses: Addresses,
    /// The host's side of its veth; inside it is `eth0`.
    pub device: String,
    /// The echo server; before the namespace, so that it is stopped first.
    pub endpoint: Option<Endpoint>,
    /// Its namespace.
    pub netns: Netns,
}

/// The cluster. Dropping it removes all of it.
#[derive(Debug)]
pub struct Lab {
    // In the order in which they have to go.
    agents: Vec<Agent>,
    pods: Vec<Pod>,
    hosts: Vec<Host>,
    /// Programs on the fabric's devices, see `wire`.
    wire: Vec<OwnedFd>,
    fabric: Netns,
    prefix: String,
    bpffs: sweep::PinDir,
    dir: tempfile::TempDir,
}

impl AsRef<Netns> for Netns {
    fn as_ref(&self) -> &Netns {
        self
    }
}

impl AsRef<Netns> for Host {
    fn as_ref(&self) -> &Netns {
        &self.netns
    }
}

impl AsRef<Netns> for Pod {
    fn as_ref(&self) -> &Netns {
        &self.netns
    }
}

impl Lab {
    /// A lab to be described.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The lab that `run` shows: three nodes, ten endpoints, a client on each node.
    ///
    /// # Errors
    /// If we are not root, or a namespace, link or route cannot be made.
    pub fn standard() -> Result<Self> {
        Self::builder()
            .node(Node::routed("node-1"))
            .node(Node::bridged("node-2"))
            .node(Node::routed("node-3").endpoints(2))
            .build()
    }

    /// The nodes, in the order of their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.node.is_some())
    }

    /// All pods, clients included.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter()
    }

    /// The client pods, one on each node.
    pub fn clients(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(|pod| pod.endpoint.is_none())
    }

    /// The node called `name`.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&self, name: &str) -> &Host {
        self.hosts
            .iter()
            .find(|host| host.name == name)
            .unwrap_or_else(|| panic!("no node {name}"))
    }

    /// The client outside of the cluster.
    pub fn outside(&self) -> &Host {
        self.node(builder::OUTSIDE)
    }

    /// The pod called `name`.
    ///
    /// # Panics
    /// If there is none.
    pub fn pod(&self, name: &str) -> &Pod {
        self.pods
            .iter()
            .find(|pod| pod.name == name)
            .unwrap_or_else(|| panic!("no pod {name}"))
    }

    /// The router between the nodes; its device to a host is called like the host.
    pub fn fabric(&self) -> &Netns {
        &self.fabric
    }

    /// A directory for files of this lab, removed with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The prefix that the names of this lab's namespaces share.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Adds pod `number` (2 to 254) to a node, with an endpoint inside or as a bare client.
    ///
    /// # Errors
    /// If the number is taken or a command fails.
    pub fn add_pod(&mut self, node: &str, number: u8, endpoint: bool) -> Result<&Pod> {
        let host = self.node(node);
        let pod = builder::add_pod(&self.prefix, host, number, endpoint)?;
        // A CNI announces a pod, so that neighbours forget the MAC its address may have had before.
        let forget = pod
            .addresses
            .both()
            .map(|ip| format!("neigh flush to {ip}"));
        let neighbours = self
            .pods
            .iter()
            .filter(|other| other.node == node)
            .map(|pod| &pod.netns);
        neighbours
            .chain([&host.netns])
            .try_for_each(|netns| ip::batch(Some(netns), &forget))?;
        self.pods.push(pod);
        self.pods.last().context("just pushed")
    }

    /// Removes a pod with its namespace and links.
    ///
    /// # Panics
    /// If there is none of that name.
    ///
    /// # Errors
    /// If a command fails.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let at = self.pods.iter().position(|pod| pod.name == name);
        let pod = self
            .pods
            .remove(at.unwrap_or_else(|| panic!("no pod {name}")));
        // The veth goes now, not when the kernel gets round to the namespace.
        let host = self.node(&pod.node);
        ip::batch(Some(&host.netns), &[format!("link del {}", pod.device)])
    }

    /// Runs a command in a namespace and returns what it printed.
    ///
    /// # Errors
    /// If it cannot be started or fails; with what it said.
    pub fn exec(&self, netns: impl AsRef<Netns>, command: &[&str]) -> Result<String> {
        spawn::output(netns.as_ref(), command, "")
    }

    /// Runs `work` on a thread of its own inside a namespace. Sockets it makes belong there for good.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn in_ns<T: Send>(
        &self,
        netns: impl AsRef<Netns>,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        netns.as_ref().run(work)
    }

    /// One probe with the usual patience and a small payload; see [`probe`] for more.
    ///
    /// # Errors
    /// What went wrong between socket and answer.
    pub fn probe(
        &self,
        from: impl AsRef<Netns>,
        protocol: Protocol,
        to: SocketAddr,
    ) -> Result<Answer, ProbeError> {
        probe::Probe::new(protocol, to).run_in(from.as_ref())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Agents end first: they would see every device go, and hold pins.
        self.agents.clear();
    }
}
