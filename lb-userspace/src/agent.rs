//! The agent: sources on one side, the datapath on the other, and the loop between them.
//!
//! Everything that waits is here; what decides is in `control`. Nothing is torn down at the end: the
//! programs and maps go on serving, and the next agent takes them over.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lb_common::tables::AgentState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::{
    control::{
        maps::Maps as _,
        problem::Problem,
        reconcile::{Reconciler, SyncReport},
        record::restored_cluster_ips,
    },
    datapath::{
        attach::{Attacher, Mode},
        clock,
        devices::Pattern,
        log,
        netlink::{Change, Netlink},
        object::{self, Settings, Sizes},
        pins::Pins,
        tables::{KernelMaps, forget_agent},
    },
    source::{
        Event,
        manifests::{self, Assigned},
    },
};

/// How long the loop collects events before it writes maps. A change of a file or object comes as
/// several events, and one plan for all of them writes less than several.
const COALESCE: Duration = Duration::from_millis(20);
/// How long it collects at most, under a stream of events that never pauses.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often the kernel's list of devices is compared with what was done, in case a change was missed.
const RELIST_DEVICES: Duration = Duration::from_secs(10);

/// What the agent is told at start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where objects come from.
    pub manifests: manifests::Options,
    /// Where the datapath is pinned.
    pub pins: Pins,
    /// Which devices get the programs; empty: all that fit.
    pub devices: Vec<Pattern>,
    /// How they are attached.
    pub mode: Mode,
    /// Sizes of the maps.
    pub sizes: Sizes,
    /// Whether the programs log.
    pub datapath_log: bool,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the datapath cannot be set up or the source cannot start; what was served before is served on.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let Options {
        manifests,
        pins,
        devices,
        mode,
        sizes,
        datapath_log,
    } = options;
    // Before anything that takes time: a signal in the middle of the start is not lost, nor does it
    // leave half a start behind.
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    pins.ensure()?;
    let _lock = pins.lock()?;
    forget_agent(&pins);
    let hz = clock::find_hz()?;
    let settings = Settings {
        sizes,
        hz,
        seed: clock::boot_seed(),
        log: datapath_log,
        ..Settings::default()
    };
    let mut ebpf = object::load(&settings, Some(&pins))?;
    let mut maps = KernelMaps::take(&mut ebpf)?;
    let mut state = AgentState {
        pid: std::process::id(),
        started_at: now(),
        hz,
        ..Default::default()
    };
    maps.set_agent(&state)?;
    if datapath_log {
        tokio::spawn(log::drain(&mut ebpf)?);
    }

    let netlink = Netlink::open()?;
    let mut attacher = Attacher::new(ebpf, pins, devices, mode)?;
    attacher.replace(netlink.list().await?);
    tracing::info!(
        devices = attacher.attached(),
        hz,
        "the datapath is in place"
    );

    let restored = restored_assignments(&maps)?;
    let (events_in, events) = mpsc::channel(1024);
    let (problems_in, source_problems) = watch::channel(Vec::new());
    let source = tokio::spawn(manifests::run(manifests, restored, events_in, problems_in));
    let devices = tokio::spawn(follow_devices(netlink, attacher));
    let mut sync = Sync {
        reconciler: Reconciler::new(maps),
        known: Vec::new(),
        state: &mut state,
    };

    let result = tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        ended = source => ended.context("the source")?.context("cannot read the manifests"),
        ended = devices => ended.context("following the devices")?,
        ended = sync.run(events, source_problems) => ended,
    };
    tracing::info!("stopping; what is in the kernel goes on serving");
    result
}

/// The control plane's loop and what it publishes.
struct Sync<'a> {
    reconciler: Reconciler<KernelMaps>,
    /// Problems already told, so that each is told once.
    known: Vec<Problem>,
    state: &'a mut AgentState,
}

impl Sync<'_> {
    async fn run(
        &mut self,
        mut events: mpsc::Receiver<Event>,
        mut source_problems: watch::Receiver<Vec<manifests::Problem>>,
    ) -> anyhow::Result<()> {
        let mut retry: Option<Instant> = None;
        loop {
            let due = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.collect(event, &mut events).await,
                    // The source says itself why it ended.
                    None => std::future::pending().await,
                },
                () = due => {}
                Ok(()) = source_problems.changed() => {}
            }
            let report = self.reconciler.sync(Instant::now());
            retry = report.next_retry;
            let unread = source_problems.borrow_and_update().len();
            self.publish(report, unread)?;
        }
    }

    /// Takes in `first` and what follows it closely.
    async fn collect(&mut self, first: Event, events: &mut mpsc::Receiver<Event>) {
        let until = Instant::now() + PATIENCE;
        let mut next = Some(first);
        while let Some(event) = next {
            self.reconciler.handle(event);
            let pause = COALESCE.min(until.saturating_duration_since(Instant::now()));
            next = tokio::time::timeout(pause, events.recv())
                .await
                .ok()
                .flatten();
        }
    }

    fn publish(&mut self, report: SyncReport, unread: usize) -> anyhow::Result<()> {
        let SyncReport {
            ops,
            problems,
            in_sync,
            ..
        } = report;
        for problem in problems
            .iter()
            .filter(|problem| !self.known.contains(problem))
        {
            tracing::warn!("{problem}");
        }
        for solved in self
            .known
            .iter()
            .filter(|problem| !problems.contains(problem))
        {
            tracing::info!("solved: {solved}");
        }
        if ops > 0 {
            tracing::info!(operations = ops, in_sync, "maps written");
        }
        self.state.problems = u32::try_from(problems.len() + unread).unwrap_or(u32::MAX);
        if in_sync {
            self.state.synced_at = now();
        }
        self.known = problems;
        self.reconciler.maps_mut().set_agent(self.state)?;
        Ok(())
    }
}

/// Keeps the programs on the devices, as they come and go.
async fn follow_devices(mut netlink: Netlink, mut attacher: Attacher) -> anyhow::Result<()> {
    let mut relist = tokio::time::interval(RELIST_DEVICES);
    loop {
        tokio::select! {
            change = netlink.changes.recv() => match change {
                Some(Change::Link(link)) => attacher.put(link),
                Some(Change::Gone(index)) => attacher.remove(index),
                Some(Change::Lost) => attacher.replace(netlink.list().await?),
                None => anyhow::bail!("the netlink socket was closed"),
            },
            _ = relist.tick() => attacher.replace(netlink.list().await?),
        }
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

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
