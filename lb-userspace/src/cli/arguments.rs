//! What can be typed.

mod agent;
mod conntrack;
mod ignored;
mod proxy;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::{
    agent::{AgentArguments, DatapathArguments, HostRouting, LogArguments, LogFormat, TcMode, Xdp},
    conntrack::{By, ConntrackCommand, FilterArguments, ProtocolArgument},
    proxy::ProxyArguments,
};
use crate::datapath::pins::DEFAULT_DIR;

/// A Kubernetes service load balancer in eBPF, for IPv4 and IPv6 alike.
#[derive(Debug, Parser)]
#[command(name = "duolb", version, propagate_version = true)]
pub struct Arguments {
    /// Directory on a bpffs where maps and links are pinned
    #[arg(long, value_name = "DIR", env = "DUOLB_BPFFS", default_value = DEFAULT_DIR, global = true)]
    pub bpffs: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: watch Services and EndpointSlices and keep the kernel's maps in step
    Agent(Box<AgentArguments>),
    /// Show the agent, the devices, the maps' fill and what became of packets
    Status {
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Show services as the kernel serves them
    Service {
        #[command(subcommand)]
        command: ServiceCommand,
    },
    /// Show and forget flows: what is remembered of connections
    Conntrack {
        #[command(subcommand)]
        command: ConntrackCommand,
    },
    /// Remove everything duolb left in the kernel: programs, maps, pins
    Cleanup {
        /// Remove what kube-proxy has left as well, before: its nftables tables and iptables chains
        #[arg(long)]
        cleanup_kube_proxy: bool,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// The commands of `duolb service`.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// List every frontend with its endpoints and counters
    List {
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Show one Service with everything that was filled in
    Get {
        /// The Service: NAMESPACE/NAME, or NAME in namespace `default`
        name: String,
        #[command(flatten)]
        output: OutputArguments,
    },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArguments {
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For both
    Yaml,
}
