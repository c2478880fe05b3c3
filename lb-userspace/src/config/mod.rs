//! What the agent was told, and what it means: the second stage of its arguments.
//!
//! ```text
//!   flags (cli::arguments) ──┐
//!                            ├─> KubeProxyConfiguration ─> defaults ─> resolve ─> Configuration ─> agent
//!   --config (file) ─────────┘        (kube_proxy)            └─> meaningless: warnings
//! ```
//!
//! The language is kube-proxy's, so that its flags and files start this agent unchanged; what of it has no
//! meaning here is told and passed over. Everything but reading the file is pure.

mod address;
mod defaults;
pub mod duration;
pub mod file;
mod invalid;
pub mod kube_proxy;
mod meaningless;
mod networks;
mod resolve;

#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use lb_common::flow::state::Timeouts;

pub use self::{
    address::with_port,
    invalid::{Invalid, InvalidConfiguration, Origin},
    meaningless::{Meaningless, find_meaningless},
    resolve::resolve,
};
use kube_proxy::KubeProxyConfiguration;

/// The effective configuration: everything typed, checked and filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// The same in kube-proxy's words, for `/configz`.
    pub proxy: KubeProxyConfiguration,
    /// Name of the node the agent runs on; `None`: the host's.
    pub node_name: Option<String>,
    /// The kubeconfig to use; `None`: in-cluster.
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Requests to the API server a second, on average; not above 0: unlimited.
    pub qps: f32,
    /// Requests to the API server at once.
    pub burst: u32,
    /// Where `/healthz` and `/livez` are served; `None`: nowhere.
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` and its neighbours are served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Whether an address that cannot be listened on ends the agent.
    pub bind_address_hard_fail: bool,
    /// Whether the log level may be changed from other machines, too.
    pub profiling: bool,
    /// The node's primary address, if it was told; else its Node object says (rule 63).
    pub node_ip: Option<IpAddr>,
    /// Whether all traffic to cluster IPs is masqueraded (rule 56).
    pub masquerade_all: bool,
    /// How traffic of local pods is recognised (rule 59).
    pub detect_local: DetectLocal,
    /// On which of the node's addresses node ports are served (rules 62-64).
    pub node_port_addresses: Vec<NodePortAddress>,
    /// Score for the kernel's out-of-memory killer, -1000 to 1000.
    pub oom_score_adj: i32,
    /// After how many seconds without packets a flow is forgotten, by its state.
    pub timeouts: Timeouts,
    /// How many connections there should be room for.
    pub connections: ConnectionLimit,
    /// How often the maps are read back and compared with what they should hold.
    pub read_back_period: Duration,
}

impl Configuration {
    /// What `/configz` shows, as kube-proxy does, but in the spelling of the configuration file, which can be
    /// read back.
    pub fn configz(&self) -> String {
        serde_json::json!({ "kubeproxy.config.k8s.io": self.proxy }).to_string()
    }
}

/// How many connections kube-proxy would have Linux track (rule 82).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// For each CPU core; 0: nobody says how many.
    pub per_core: u32,
    /// At least, whatever the number of cores.
    pub min: u32,
}

/// How traffic of local pods is told from other traffic (rule 59).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetectLocal {
    /// By its source address: at most one range of each family.
    ClusterCidr(Vec<IpNet>),
    /// By its source address: the node's `spec.podCIDRs`.
    NodeCidr,
    /// By the bridge it comes from.
    BridgeInterface(String),
    /// By how the name of the device it comes from begins.
    InterfaceNamePrefix(String),
}

/// Some of the node's addresses (rule 63).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddress {
    /// `primary`: the Node's primary address of each family.
    Primary,
    /// `localhost`.
    Localhost,
    /// `all`.
    All,
    /// Those in a range.
    Network(IpNet),
}
