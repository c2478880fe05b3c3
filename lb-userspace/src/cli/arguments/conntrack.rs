//! `duolb conntrack`.

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use lb_common::flow::state::State;

use super::OutputArguments;
use crate::conntrack::filter::Socket;

/// The commands of `duolb conntrack`.
#[derive(Debug, Subcommand)]
pub enum ConntrackCommand {
    /// List flows: one a line, whatever number of entries it has
    List {
        #[command(flatten)]
        filter: FilterArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Forget flows: all their entries. An open TCP connection whose endpoint still serves is found again with its
    /// client's next packet, else goes to another endpoint, which resets it; UDP goes to any endpoint with the next
    /// datagram. Answers that come before that are not translated: a connection on which only the endpoint speaks
    /// breaks
    Flush {
        #[command(flatten)]
        filter: FilterArguments,
        /// Forget every flow; without it something must be said about which
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Show who has most flows
    Top {
        /// By what flows are counted
        #[arg(long, value_enum, default_value_t = By::Client)]
        by: By,
        /// How many are shown
        #[arg(short, value_name = "N", default_value_t = 10)]
        n: usize,
        #[command(flatten)]
        filter: FilterArguments,
        #[command(flatten)]
        output: OutputArguments,
    },
}

/// Which flows.
#[derive(Clone, Debug, Default, Args)]
pub struct FilterArguments {
    /// Only flows of this Service: NAMESPACE/NAME, or NAME in namespace `default`
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only flows of clients in this network
    #[arg(long, value_name = "CIDR", value_parser = parse_network)]
    pub client: Option<IpNet>,
    /// Only flows to this VIP
    #[arg(long, value_name = "IP[:PORT]")]
    pub vip: Option<Socket>,
    /// Only flows to this endpoint
    #[arg(long, value_name = "IP[:PORT]")]
    pub endpoint: Option<Socket>,
    /// Only flows of this protocol
    #[arg(long, value_enum, ignore_case = true)]
    pub protocol: Option<ProtocolArgument>,
    /// Only flows in this state
    #[arg(long, value_enum)]
    pub state: Option<StateArgument>,
}

/// A network, or a single address.
fn parse_network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| "must be an address or a range of addresses: 10.0.0.0/8".to_owned())
}

/// `--by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// By the client's address
    Client,
    /// By Service and port
    Service,
    /// By endpoint
    Endpoint,
    /// By VIP and port
    Vip,
}

/// `--protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolArgument {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// `--state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArgument {
    /// TCP, SCTP: the client has not gone beyond opening
    SynSent,
    /// TCP, SCTP: open
    Established,
    /// TCP: one side has closed
    CloseWait,
    /// TCP, SCTP: both sides have closed, or one has reset
    Closed,
    /// UDP: not answered
    Unreplied,
    /// UDP: answered
    Stream,
}

impl From<StateArgument> for State {
    fn from(state: StateArgument) -> Self {
        match state {
            StateArgument::SynSent => Self::SynSent,
            StateArgument::Established => Self::Established,
            StateArgument::CloseWait => Self::CloseWait,
            StateArgument::Closed => Self::Closed,
            StateArgument::Unreplied => Self::Unreplied,
            StateArgument::Stream => Self::Stream,
        }
    }
}
