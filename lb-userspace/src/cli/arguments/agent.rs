//! The agent's own flags; kube-proxy's are in `proxy`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{
    ignored::IgnoredFlags,
    proxy::ProxyArguments,
    values::{OptionalCidrs, parse_bool},
};
use crate::datapath::snat_ports::SnatPorts;

/// What the agent is told.
#[derive(Debug, Args)]
pub struct AgentArguments {
    #[command(flatten)]
    pub proxy: ProxyArguments,
    /// Serve a directory of manifests (YAML or JSON, as `kubectl get -o yaml` prints them) instead of a
    /// cluster
    #[arg(long, value_name = "DIR", help_heading = "Where objects come from")]
    pub manifests: Option<PathBuf>,
    /// With --manifests: ranges that cluster IPs are assigned from: one, or one of each family, the first
    /// being the default
    #[arg(
        long,
        value_name = "CIDR[,CIDR]",
        default_value = "",
        help_heading = "Where objects come from"
    )]
    pub service_cluster_ip_range: OptionalCidrs,
    #[command(flatten)]
    pub datapath: DatapathArguments,
    /// When all is served for the first time, remove what kube-proxy has left: its nftables tables and iptables
    /// chains; with --cleanup, at once
    #[arg(long, help_heading = "Configuration")]
    pub cleanup_kube_proxy: bool,
    /// Service ports that have traffic metrics of their own, by id; the others are summed up as one
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000,
        help_heading = "Health and metrics"
    )]
    pub metrics_max_services: u32,
    #[command(flatten)]
    pub log: LogArguments,
    #[command(flatten)]
    pub ignored: IgnoredFlags,
}

/// How packets are served.
#[derive(Debug, Args)]
#[command(next_help_heading = "Datapath")]
pub struct DatapathArguments {
    /// Devices to put the programs on, `*` standing for anything; default: all that fit
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub devices: Vec<String>,
    /// How the programs are put on devices
    #[arg(long, value_enum, default_value_t = TcMode::Auto)]
    pub tc_mode: TcMode,
    /// Devices that the rest of the world is behind, `*` standing for anything; default: all but those of pods
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub uplinks: Vec<String>,
    /// Where traffic from outside is translated before the stack sees it; what is refused is left to TC
    #[arg(long, value_enum, default_value_t = Xdp::Auto)]
    pub xdp: Xdp,
    /// Which way packets of services go
    #[arg(long, value_enum, default_value_t = HostRouting::Kernel)]
    pub host_routing: HostRouting,
    /// Ports that clients get when they need an address of this node; default: 11000-29999, or what is free of this
    /// node's ephemeral and of node ports
    #[arg(long, value_name = "FROM-TO")]
    pub snat_ports: Option<SnatPorts>,
    /// Directory of the cgroup whose processes are served as the node's own; default: the root of all cgroups
    #[arg(long, value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// Reset TCP connections to endpoints that have left every EndpointSlice
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        value_parser = parse_bool,
        action = clap::ArgAction::Set
    )]
    pub tcp_reset_dead_endpoints: bool,
    /// Service ports there can be
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub max_services: u32,
    /// Endpoint slots per family; a change needs room for a service's endpoints twice
    #[arg(long, value_name = "N", default_value_t = 524_288, value_parser = clap::value_parser!(u32).range(1..=67_108_864))]
    pub max_slots: u32,
    /// Flow entries per family; a connection needs two, with another client address four; default: two for each
    /// connection of --conntrack-max-per-core and --conntrack-min, but no more than 1/32 of the memory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=67_108_864))]
    pub max_flows: Option<u32>,
    /// Clients that session affinity is remembered for, per family
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(64..=67_108_864))]
    pub max_affinity: u32,
    /// Entries for sockets of the node's own processes, per family; one needs two for each address it calls
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(64..=67_108_864))]
    pub max_sockets: u32,
    /// Source ranges of load balancers there can be, per family
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(64..=67_108_864))]
    pub max_source_ranges: u32,
    /// Packets in pieces that can be on their way at once, per family; one that is translated twice needs two
    #[arg(long, value_name = "N", default_value_t = 8_192, value_parser = clap::value_parser!(u32).range(64..=67_108_864))]
    pub max_fragments: u32,
}

/// What is logged. Without any of these it is what `--config` says, else `info` as text.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct LogArguments {
    /// What is logged: a level, or `target=level,...`; default: as -v says, else info
    #[arg(long, value_name = "FILTER", env = "DUOLB_LOG")]
    pub log_level: Option<String>,
    /// Form of the log; default: as --logging-format says, else text
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
    /// Have the programs in the kernel log new flows, too (slow)
    #[arg(long)]
    pub datapath_log: bool,
    /// Verbosity in kube-proxy's numbers: info up to 3, debug up to 5, trace from 6
    #[arg(short = 'v', long = "v", value_name = "N")]
    pub verbosity: Option<u32>,
    /// Form of the log, in kube-proxy's words
    #[arg(long, value_enum, hide_short_help = true)]
    pub logging_format: Option<LogFormat>,
}

/// How programs are put on devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TcMode {
    /// tcx where the kernel has it (6.6), else clsact
    Auto,
    /// tcx links
    Tcx,
    /// Filters of a clsact qdisc
    Clsact,
}

/// `--xdp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Xdp {
    /// In the driver of physical uplinks
    Auto,
    /// In the driver of every uplink, else in the stack's stead
    Native,
    /// In the stack's stead on every uplink
    Generic,
    /// Nowhere
    Off,
}

/// `--host-routing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostRouting {
    /// Through the stack and its firewall
    Kernel,
    /// Past them, from device to device, where that can be done
    Bpf,
}

/// A form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}
