//! kube-proxy's flags that mean nothing here: taken, told, passed over.
//!
//! A command line that starts kube-proxy (1.36) starts this agent. They are rows of a table rather than
//! fields, because nobody reads their values; `--help` has them, `-h` does not.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};

/// What a flag takes.
#[derive(Clone, Copy)]
enum Takes {
    /// A truth value, which may be left out.
    Bool,
    /// A value.
    Value,
}
use Takes::{Bool, Value};

/// Flags, what they take, and why they are passed over.
const IGNORED: &[(&str, Takes, &str)] = &[
    (
        "proxy-mode",
        Value,
        "packets are translated by eBPF whatever the mode",
    ),
    ("feature-gates", Value, "there are no feature gates"),
    (
        "show-hidden-metrics-for-version",
        Value,
        "no metric is hidden",
    ),
    (
        "kube-api-content-type",
        Value,
        "the API server is spoken to in JSON",
    ),
    ("iptables-masquerade-bit", Value, NO_RULES),
    ("iptables-localhost-nodeports", Bool, NO_RULES),
    ("iptables-sync-period", Value, AT_ONCE),
    ("iptables-min-sync-period", Value, AT_ONCE),
    ("nftables-masquerade-bit", Value, NO_RULES),
    ("nftables-sync-period", Value, AT_ONCE),
    ("nftables-min-sync-period", Value, AT_ONCE),
    ("ipvs-sync-period", Value, NO_IPVS),
    ("ipvs-min-sync-period", Value, NO_IPVS),
    ("ipvs-scheduler", Value, NO_IPVS),
    ("ipvs-exclude-cidrs", Value, NO_IPVS),
    ("ipvs-strict-arp", Bool, NO_IPVS),
    ("ipvs-tcp-timeout", Value, NO_IPVS),
    ("ipvs-tcpfin-timeout", Value, NO_IPVS),
    ("ipvs-udp-timeout", Value, NO_IPVS),
    (
        "conntrack-tcp-be-liberal",
        Bool,
        "flows are tracked without looking at TCP windows",
    ),
    ("vmodule", Value, "--log-level takes target=level"),
    ("log-flush-frequency", Value, UNBUFFERED),
    ("log-json-info-buffer-size", Value, UNBUFFERED),
    ("log-json-split-stream", Bool, UNBUFFERED),
    ("log-text-info-buffer-size", Value, UNBUFFERED),
    ("log-text-split-stream", Bool, UNBUFFERED),
    (
        "boot-id-file",
        Value,
        "nothing depends on the machine's identity",
    ),
    (
        "machine-id-file",
        Value,
        "nothing depends on the machine's identity",
    ),
];

const NO_RULES: &str = "there are no netfilter rules";
const AT_ONCE: &str = "changes are written at once";
const NO_IPVS: &str = "ipvs is not used";
const UNBUFFERED: &str = "the log is not buffered";

/// The flags of the table that were typed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IgnoredFlags {
    /// Names, without dashes, each with the reason.
    pub typed: Vec<(&'static str, &'static str)>,
}

impl Args for IgnoredFlags {
    fn augment_args(command: Command) -> Command {
        let flag = |(name, takes, why): &(&'static str, Takes, &'static str)| {
            let arg = Arg::new(*name)
                .long(*name)
                .help(format!("No effect: {why}"))
                .help_heading("Accepted for kube-proxy's sake")
                .hide_short_help(true)
                // Lists are repeated as well as separated by commas.
                .action(ArgAction::Append);
            match takes {
                Bool => arg
                    .value_name("BOOL")
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true"),
                Value => arg.value_name("VALUE").allow_hyphen_values(true),
            }
        };
        command.args(IGNORED.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for IgnoredFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        let typed = IGNORED.iter().filter(|(name, ..)| is_typed(name));
        Ok(Self {
            typed: typed.map(|(name, _, why)| (*name, *why)).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
