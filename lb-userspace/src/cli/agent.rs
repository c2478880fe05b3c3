//! `duolb agent`.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use super::arguments::{AgentArguments, LogFormat, TcMode};
use crate::{
    agent::{self, Options},
    datapath::{attach::Mode, devices::Pattern, object::Sizes, pins::Pins},
    source::manifests,
};

/// Serves until it is told to stop.
pub(super) fn run(arguments: AgentArguments, pins: Pins) -> anyhow::Result<()> {
    start_log(&arguments)?;
    let options = Options {
        manifests: manifests::Options {
            directory: arguments.manifests,
            node: node_name().context("cannot tell the name of this node")?,
            service_cidrs: arguments.service_cluster_ip_range.0,
        },
        pins,
        devices: arguments
            .devices
            .iter()
            .map(|text| Pattern::from(text.as_str()))
            .collect(),
        mode: match arguments.tc_mode {
            TcMode::Auto => Mode::of_kernel(),
            TcMode::Tcx => Mode::Tcx,
            TcMode::Clsact => Mode::Clsact,
        },
        sizes: Sizes {
            services: arguments.max_services,
            slots: arguments.max_slots,
            flows: arguments.max_flows,
            affinity: 65_536,
        },
        datapath_log: arguments.datapath_log,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(agent::run(options))
}

/// What the kernel says, in lower case, as kubelet and kube-proxy name a node.
fn node_name() -> std::io::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    Ok(name.trim().to_lowercase())
}

fn start_log(arguments: &AgentArguments) -> anyhow::Result<()> {
    let AgentArguments {
        log_level,
        log_format,
        ..
    } = arguments;
    let filter =
        EnvFilter::try_new(log_level).with_context(|| format!("--log-level {log_level:?}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
