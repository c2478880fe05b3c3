//! `duolb agent`: from what was typed to what the agent is told.

mod log;
mod node_name;

use std::path::PathBuf;

use anyhow::Context as _;

use super::{
    arguments::{
        AgentArguments, DatapathArguments, Format, HostRouting, OutputArguments, ProxyArguments,
        TcMode, Xdp,
    },
    cleanup,
};
use crate::{
    agent::{self, Options, Source},
    config::{
        Configuration, Meaningless, Origin, file::ConfigFile, find_meaningless,
        kube_proxy::KubeProxyConfiguration, resolve,
    },
    datapath::{
        attach::Mode,
        devices::{Pattern, XdpMode},
        object::Sizes,
        pins::Pins,
    },
    source::{self, manifests},
};

/// Serves until it is told to stop.
pub(super) fn run(arguments: AgentArguments, pins: Pins) -> anyhow::Result<()> {
    let AgentArguments {
        proxy: typed,
        manifests,
        service_cluster_ip_range,
        datapath,
        cleanup_kube_proxy,
        metrics_max_services,
        log,
        ignored,
    } = arguments;
    let (cleanup, init_only) = (typed.cleanup, typed.init_only);
    let (write_config_to, master) = (typed.write_config_to.clone(), typed.master.clone());
    let Said {
        proxy,
        origin,
        mut warnings,
    } = listen_to(typed)?;
    let datapath_log = log.datapath_log;
    let log_level = log::start(log, &proxy.logging)?;
    for (flag, why) in ignored.typed {
        warnings.push(format!("--{flag} has no effect: {why}"));
    }
    for Meaningless { key, flag, why } in find_meaningless(&proxy) {
        warnings.push(match &origin {
            Origin::Flags => format!("--{flag} has no effect: {why}"),
            Origin::File(path) => {
                format!("--config {}: {key} has no effect: {why}", path.display())
            }
        });
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let configuration = resolve(proxy, origin)?;
    tracing::debug!("the effective configuration: {}", configuration.configz());
    if let Some(path) = write_config_to {
        return write_config(&configuration, path);
    }
    if cleanup {
        let output = Format::Table;
        return cleanup::run(&pins, cleanup_kube_proxy, OutputArguments { output });
    }
    if init_only {
        tracing::info!("--init-only: nothing needs to be done beforehand");
        return Ok(());
    }
    let node = node_name::find(configuration.node_name.as_deref())?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let source = match manifests {
        Some(directory) => Source::Manifests(manifests::Options {
            directory,
            node: node.clone(),
            service_cidrs: service_cluster_ip_range.0,
        }),
        None => Source::Kube(source::kube::Options {
            kubeconfig: configuration.kubeconfig.clone(),
            master,
            node: node.clone(),
            qps: configuration.qps,
            burst: configuration.burst,
        }),
    };
    let DatapathArguments {
        devices,
        uplinks,
        xdp,
        host_routing,
        snat_ports,
        cgroup_root,
        tc_mode,
        tcp_reset_dead_endpoints,
        max_services,
        max_slots,
        max_flows,
        max_affinity,
        max_sockets,
        max_source_ranges,
        max_fragments,
    } = datapath;
    let options = Options {
        configuration,
        node,
        source,
        pins,
        devices: patterns(&devices),
        uplinks: patterns(&uplinks),
        mode: match tc_mode {
            TcMode::Auto => Mode::of_kernel(),
            TcMode::Tcx => Mode::Tcx,
            TcMode::Clsact => Mode::Clsact,
        },
        xdp: match xdp {
            Xdp::Auto => XdpMode::Auto,
            Xdp::Native => XdpMode::Native,
            Xdp::Generic => XdpMode::Generic,
            Xdp::Off => XdpMode::Off,
        },
        host_routing: host_routing == HostRouting::Bpf,
        snat_ports,
        cgroup_root,
        sizes: Sizes {
            services: max_services,
            slots: max_slots,
            affinity: max_affinity,
            sockets: max_sockets,
            sources: max_source_ranges,
            fragments: max_fragments,
            ..Sizes::default()
        },
        flows: max_flows,
        tcp_reset_dead: tcp_reset_dead_endpoints,
        datapath_log,
        cleanup_kube_proxy,
        metrics_max_services,
        log_level,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(agent::run(options))
}

fn patterns(texts: &[String]) -> Vec<Pattern> {
    let pattern = |text: &String| Pattern::from(text.as_str());
    texts.iter().map(pattern).collect()
}

/// What flags or file say, before anything is filled in.
struct Said {
    proxy: KubeProxyConfiguration,
    origin: Origin,
    /// What is passed over.
    warnings: Vec<String>,
}

/// With `--config` the file counts and not the flags, as for kube-proxy (cmd/kube-proxy/app/options.go,
/// `Complete`); the node's name is taken from the flag either way.
fn listen_to(mut typed: ProxyArguments) -> anyhow::Result<Said> {
    let hostname_override = typed.hostname_override.take();
    let mut from_flags = KubeProxyConfiguration::default();
    let path = typed.config.take();
    let flags = typed.write_to(&mut from_flags);
    let (mut proxy, origin, warnings) = match path {
        None => (from_flags, Origin::Flags, Vec::new()),
        Some(path) => {
            let file = ConfigFile::read(&path)?;
            let overruled = flags
                .iter()
                .map(|flag| format!("--{flag} has no effect: --config counts instead"));
            let unknown = file.unknown.iter().map(|key| {
                format!(
                    "--config {}: {key} is not a key that is known",
                    path.display()
                )
            });
            let warnings = overruled.chain(unknown).collect();
            (file.proxy, Origin::File(path), warnings)
        }
    };
    if let Some(name) = hostname_override.filter(|name| !name.is_empty()) {
        proxy.hostname_override = Some(name);
    }
    Ok(Said {
        proxy,
        origin,
        warnings,
    })
}

/// `--write-config-to`.
fn write_config(configuration: &Configuration, path: PathBuf) -> anyhow::Result<()> {
    let text = serde_saphyr::to_string(&configuration.proxy)?;
    std::fs::write(&path, text).with_context(|| format!("--write-config-to {}", path.display()))
}

#[cfg(test)]
mod tests;
