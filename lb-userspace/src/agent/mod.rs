//! The agent: sources on one side, the datapath on the other, and the loop between them.
//!
//! ```text
//!   source ──Event──> sync (control) ──> maps          devices: programs on what netlink tells of
//!                       └─> observe ──> health, metrics <── serve: who asks over HTTP
//! ```
//!
//! Everything that waits is here; what decides is in `control`. Nothing is torn down at the end (rule 7): the
//! programs and maps go on serving, and the next agent takes them over.

mod devices;
mod hosts;
mod machine;
mod observe;
mod process;
mod reading;
mod servers;
mod service_health;
mod source;
mod sweep;
mod sync;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use lb_common::tables::AgentState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};

use self::devices::Devices;
pub use self::source::Source;
use crate::{
    config::Configuration,
    conntrack::sizing::flow_entries,
    control::{
        maps::Maps as _, node_ports::NodePortSettings, reconcile::Reconciler,
        record::restored_cluster_ips,
    },
    datapath::{
        attach::{Attacher, Mode},
        clock,
        devices::{Pattern, Rules, Said, XdpMode},
        log,
        netlink::Netlink,
        object::{Settings, Sizes},
        pins::Pins,
        snat_ports::{SnatPorts, Taken},
        switch::{self, Switch},
        tables::{KernelMaps, LocalsMap},
    },
    health::Health,
    kube_proxy_rules,
    metrics::Metrics,
    serve::LogLevel,
    source::manifests::Assigned,
};

/// What the agent is told at start.
#[derive(Debug)]
pub struct Options {
    /// Everything that kube-proxy, too, is told.
    pub configuration: Configuration,
    /// Name of the node the agent runs on.
    pub node: String,
    /// Where objects come from.
    pub source: Source,
    /// Where the datapath is pinned.
    pub pins: Pins,
    /// Which devices get the programs; empty: all that fit.
    pub devices: Vec<Pattern>,
    /// Which devices the rest of the world is behind; empty: find out.
    pub uplinks: Vec<Pattern>,
    /// How programs are attached.
    pub mode: Mode,
    /// Where XDP is tried.
    pub xdp: XdpMode,
    /// Whether packets of services skip the stack where they can.
    pub host_routing: bool,
    /// Ports that SNAT gives to clients; `None`: find out.
    pub snat_ports: Option<SnatPorts>,
    /// From which cgroup the node's processes are served; `None`: from the root of all.
    pub cgroup_root: Option<PathBuf>,
    /// Sizes of the maps, but for the next one.
    pub sizes: Sizes,
    /// Flow entries per family; `None`: as many as kube-proxy would have connections tracked, as far as memory goes.
    pub flows: Option<u32>,
    /// Whether TCP clients of endpoints that have left every slice are reset.
    pub tcp_reset_dead: bool,
    /// Whether the programs log.
    pub datapath_log: bool,
    /// Whether what kube-proxy has left is removed once all is served.
    pub cleanup_kube_proxy: bool,
    /// How many service ports have traffic metrics of their own.
    pub metrics_max_services: u32,
    /// What is logged.
    pub log_level: LogLevel,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the datapath cannot be set up or the source cannot start; what was served before is served on.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let Options {
        configuration,
        node,
        source,
        pins,
        devices,
        uplinks,
        mode,
        xdp,
        host_routing,
        snat_ports,
        cgroup_root,
        sizes,
        flows,
        tcp_reset_dead,
        datapath_log,
        cleanup_kube_proxy,
        metrics_max_services,
        log_level,
    } = options;
    // Before anything that takes time: a signal in the middle of the start is not lost, nor does it
    // leave half a start behind.
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    // And before anything is touched: an agent that can be told nothing leaves all as it is.
    let source = source.connect().await?;
    process::set_oom_score(configuration.oom_score_adj);
    process::tell_missing_capabilities();
    pins.ensure()?;
    let _lock = pins.lock()?;
    let hz = clock::find_hz()?;
    let machine = machine::find();
    let flows = flows.unwrap_or_else(|| flow_entries(configuration.connections, machine));
    tracing::debug!(?machine, flows, "room for flows, in entries of each family");
    let settings = Settings {
        sizes: Sizes { flows, ..sizes },
        hz,
        seed: clock::boot_seed(),
        log: datapath_log,
        tcp_reset_dead,
        timeouts: configuration.timeouts,
        snat_ports: choose_ports(snat_ports),
        masquerade_all: configuration.masquerade_all,
        host_routing,
        netns_cookie: hosts::netns_cookie(),
        ..Settings::default()
    };
    let (mut ebpf, switch) = switch::open(&settings, &pins)?;
    let mut maps = KernelMaps::take(&mut ebpf)?;
    let state = AgentState {
        pid: std::process::id(),
        started_at: now(),
        hz,
        snat: [settings.snat_ports.first, settings.snat_ports.last],
        timeouts: settings.timeouts.0,
        ..Default::default()
    };
    maps.set_agent(&state)?;
    sweep::Sweeper::new(pins.clone(), hz, settings.timeouts).start();
    if datapath_log {
        tokio::spawn(log::drain(&mut ebpf)?);
    }

    let reading = reading::Pinned::new(pins.clone(), metrics_max_services);
    let metrics = Arc::new(Metrics::new(Box::new(reading)));
    let health = Arc::new(Mutex::new(Health::new(source.is_node_optional())));
    let (stop, stopped) = watch::channel(false);
    let mut servers = servers::start(&configuration, &health, &metrics, log_level, stopped);

    let hosts = if settings.netns_cookie == 0 {
        hosts::Hosts::none()
    } else {
        hosts::Hosts::serve(&mut ebpf, &pins, cgroup_root.as_deref(), tcp_reset_dead)
    };
    let rules = Rules {
        devices,
        said: Said {
            uplinks,
            detect_local: configuration.detect_local.clone(),
        },
        xdp,
        node: Vec::new(),
    };
    let locals = LocalsMap::take(&mut ebpf)?;
    let attacher = Attacher::new(ebpf, pins, rules, mode)?;
    let (device_problems_in, device_problems) = watch::channel(Vec::new());
    let mut devices = Devices {
        netlink: Netlink::open()?,
        locals,
        written: None,
        attacher,
        detect_local: configuration.detect_local.clone(),
        node_ip: configuration.node_ip,
        count: metrics.own.devices.clone(),
        problems: device_problems_in,
    };
    // With very many devices this takes its time, which whoever stops the agent does not have.
    let found = tokio::select! {
        found = devices.start() => found?,
        _ = term.recv() => return Ok(()),
        _ = int.recv() => return Ok(()),
    };
    let (addresses_in, addresses) = watch::channel(found);
    if let Some(switch) = switch
        && let Err(error) = finish_switch(switch, &mut devices, &hosts, cgroup_root, datapath_log)
    {
        tracing::error!(
            "what is served is served, but maps of before are kept until the next start: {error:#}"
        );
    }
    tracing::info!(
        node,
        devices = devices.attacher.attached(),
        hz,
        snat_ports = %settings.snat_ports,
        "the datapath is in place"
    );

    let restored = restored_assignments(&maps)?;
    let (events_in, events) = mpsc::channel(1024);
    let (problems_in, source_problems) = watch::channel(Vec::new());
    let reporter = source.announce();
    // Before anything the source says: the node's ports are on them.
    devices::tell(&events_in, addresses.borrow().clone()).await;
    tokio::spawn(devices::keep_telling(events_in.clone(), addresses));
    let source = tokio::spawn(source.run(restored, events_in, problems_in));
    let (node_in, node_object) = watch::channel(None);
    let devices = tokio::spawn(devices.follow(node_object, addresses_in));
    let node_ports = NodePortSettings {
        addresses: configuration.node_port_addresses,
        node_ip: configuration.node_ip,
    };
    let mut sync = sync::Sync::new(
        Reconciler::new(maps, &node).with_node_ports(node_ports.clone()),
        observe::Observer::new(metrics, health.clone(), SystemTime::now()),
        service_health::ServiceHealths::new(node_ports, health),
        reporter,
        hosts,
        state,
        configuration.read_back_period,
    )
    .telling_node(node_in)
    .hearing_of(device_problems);
    if cleanup_kube_proxy {
        let (synced_in, synced) = oneshot::channel();
        sync = sync.telling_first(synced_in);
        tokio::spawn(cleanup_after(synced));
    }

    let result = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        ended = source => ended.context("the source")?,
        ended = devices => match ended.context("following the devices")? {},
        error = servers.failed() => Err(error),
        ended = sync.run(events, source_problems) => ended,
    };
    tracing::info!("stopping; what is in the kernel goes on serving");
    let _ = stop.send(true);
    servers.closed().await;
    result
}

/// All programs have been exchanged for those that know the former maps, too: now for those that do not.
fn finish_switch(
    mut switch: Switch,
    devices: &mut Devices,
    hosts: &hosts::Hosts,
    cgroup_root: Option<PathBuf>,
    datapath_log: bool,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        devices.attacher.is_exchanged(),
        "the programs on some devices could not be exchanged"
    );
    let mut ebpf = switch.finish()?;
    if datapath_log {
        tokio::spawn(log::drain(&mut ebpf)?);
    }
    hosts.exchange(&mut ebpf, cgroup_root.as_deref())?;
    devices.attacher.exchange(ebpf);
    while !devices.attacher.settle() {}
    anyhow::ensure!(
        devices.attacher.is_exchanged(),
        "the programs on some devices could not be exchanged a second time"
    );
    tracing::info!("the switch is done");
    Ok(())
}

/// Removes what kube-proxy has left, once all is served: not before, so that there is no gap.
async fn cleanup_after(synced: oneshot::Receiver<()>) {
    if synced.await.is_err() {
        return;
    }
    match tokio::task::spawn_blocking(kube_proxy_rules::remove).await {
        Ok(Ok(removed)) => tracing::info!("{removed}"),
        Ok(Err(error)) => tracing::error!("what kube-proxy has left stays: {error:#}"),
        Err(error) => tracing::error!("what kube-proxy has left stays: {error}"),
    }
}

/// The addresses that an agent before this one assigned.
fn restored_assignments(maps: &KernelMaps) -> anyhow::Result<Vec<Assigned>> {
    let records = maps.services()?;
    let assigned = restored_cluster_ips(&records)
        .into_iter()
        .map(|(service, cluster_ips)| Assigned {
            service,
            cluster_ips,
        });
    Ok(assigned.collect())
}

/// The ports for SNAT: those that were asked for, else such as nobody else takes.
fn choose_ports(asked: Option<SnatPorts>) -> SnatPorts {
    let taken = Taken::of_kernel();
    let ports = asked.or_else(|| taken.choose()).unwrap_or_default();
    if !taken.is_clear_of(ports) {
        tracing::warn!(
            snat_ports = %ports,
            "these are node ports as well, or ports that this node's sockets take by themselves \
             (net.ipv4.ip_local_port_range): flows may collide; --snat-ports or net.ipv4.ip_local_reserved_ports \
             keep them apart"
        );
    }
    ports
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
