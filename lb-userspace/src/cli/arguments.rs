//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{datapath::pins::DEFAULT_DIR, source::manifests::ServiceCidrs};

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
    /// Remove everything duolb left in the kernel: programs, maps, pins
    Cleanup {
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

/// What the agent is told.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// Directory of manifests (YAML or JSON, as `kubectl get -o yaml` prints them) to serve
    #[arg(long, value_name = "DIR")]
    pub manifests: PathBuf,
    /// Ranges that cluster IPs are assigned from: one, or one of each family, the first being the
    /// default
    #[arg(long, value_name = "CIDR[,CIDR]", default_value = "")]
    pub service_cluster_ip_range: OptionalCidrs,
    /// Name of this node, if it is not the host name (for local policies, which are not served yet)
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// Devices to put the programs on, `*` standing for anything; default: all that fit
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub devices: Vec<String>,
    /// How the programs are put on devices
    #[arg(long, value_enum, default_value_t = TcMode::Auto)]
    pub tc_mode: TcMode,
    /// Service ports there can be
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub max_services: u32,
    /// Endpoint slots per family; a change needs room for a service's endpoints twice
    #[arg(long, value_name = "N", default_value_t = 524_288, value_parser = clap::value_parser!(u32).range(1..=67_108_864))]
    pub max_slots: u32,
    /// Flow entries per family; a connection needs two
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(64..=67_108_864))]
    pub max_flows: u32,
    /// What is logged: a level, or `target=level,...`
    #[arg(long, value_name = "FILTER", env = "DUOLB_LOG", default_value = "info")]
    pub log_level: String,
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Have the programs in the kernel log new flows, too (slow)
    #[arg(long)]
    pub datapath_log: bool,
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

/// A form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// Service ranges; the empty text is none.
#[derive(Clone, Debug, Default)]
pub struct OptionalCidrs(pub ServiceCidrs);

impl std::str::FromStr for OptionalCidrs {
    type Err = crate::source::manifests::CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            Ok(Self::default())
        } else {
            text.parse().map(Self)
        }
    }
}
