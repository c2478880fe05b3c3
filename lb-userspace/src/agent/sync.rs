//! The control plane's loop: collects events, has the maps brought up to date, and publishes the outcome.

use std::time::{Duration, Instant};

use lb_common::tables::AgentState;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time,
};

use super::{hosts::Hosts, now, observe::Observer, service_health::ServiceHealths};
use crate::{
    control::{
        problem::Problem,
        reconcile::{Reconciler, SyncReport},
    },
    datapath::tables::KernelMaps,
    health::Moment,
    model::Node,
    source::{
        Event,
        kube::{About, Reporter, Severity},
        objects,
    },
};

/// How long the loop collects events before it writes maps. A change of a file or object comes as
/// several events, and one plan for all of them writes less than several (rule 6; kube-proxy waits for
/// a whole second because its writes cost that much).
const COALESCE: Duration = Duration::from_millis(20);
/// How long it collects at most, under a stream of events that never pauses.
const PATIENCE: Duration = Duration::from_millis(200);

/// How soon to publish again what could not be published.
const REPUBLISH: Duration = Duration::from_secs(1);

/// The control plane's loop and what it publishes.
pub(super) struct Sync {
    reconciler: Reconciler<KernelMaps>,
    observer: Observer,
    service_healths: ServiceHealths,
    /// Where events are told to, if there is a cluster.
    reporter: Option<Reporter>,
    hosts: Hosts,
    /// Where the Node object is told to.
    node: watch::Sender<Option<Node>>,
    /// Who waits for the maps to be in step with the source for the first time.
    first: Option<oneshot::Sender<()>>,
    /// What cannot be done with devices.
    devices: watch::Receiver<Vec<String>>,
    /// Problems already told, so that each is told once.
    known: Vec<Problem>,
    state: AgentState,
    read_back_period: Duration,
}

impl Sync {
    pub(super) fn new(
        reconciler: Reconciler<KernelMaps>,
        observer: Observer,
        service_healths: ServiceHealths,
        reporter: Option<Reporter>,
        hosts: Hosts,
        state: AgentState,
        read_back_period: Duration,
    ) -> Self {
        Self {
            reconciler,
            observer,
            service_healths,
            reporter,
            hosts,
            node: watch::Sender::new(None),
            first: None,
            devices: watch::Sender::new(Vec::new()).subscribe(),
            known: Vec::new(),
            state,
            read_back_period,
        }
    }

    /// The same, telling the Node object as it changes.
    pub(super) fn telling_node(self, node: watch::Sender<Option<Node>>) -> Self {
        Self { node, ..self }
    }

    /// The same, telling once that the maps are in step with the source.
    pub(super) fn telling_first(self, first: oneshot::Sender<()>) -> Self {
        Self {
            first: Some(first),
            ..self
        }
    }

    /// The same, publishing what cannot be done with devices as well.
    pub(super) fn hearing_of(self, devices: watch::Receiver<Vec<String>>) -> Self {
        Self { devices, ..self }
    }

    /// Runs till something fails that is not to be expected.
    pub(super) async fn run(
        &mut self,
        mut events: mpsc::Receiver<Event>,
        mut source_problems: watch::Receiver<Vec<objects::Problem>>,
    ) -> anyhow::Result<()> {
        let mut retry: Option<Instant> = None;
        let mut read_back = time::interval_at(
            time::Instant::now() + self.read_back_period,
            self.read_back_period,
        );
        read_back.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            let due = async {
                match retry {
                    Some(at) => time::sleep_until(at.into()).await,
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
                Ok(()) = self.devices.changed() => {}
                _ = read_back.tick() => self.read_back(),
            }
            let started = Instant::now();
            let report = self.reconciler.sync(started);
            retry = report.next_retry;
            let unread = source_problems
                .borrow_and_update()
                .iter()
                .map(ToString::to_string)
                .collect();
            let took = started.elapsed();
            if report.is_somebody_gone {
                self.hosts.release();
            }
            let republish = self.publish(report, unread, took);
            self.serve_health_checks();
            self.tell_node();
            let again = self.service_healths.next_retry();
            retry = [retry, again, republish].into_iter().flatten().min();
        }
    }

    /// Its addresses and podCIDRs are of use elsewhere.
    fn tell_node(&self) {
        let node = self.reconciler.index().node();
        self.node.send_if_modified(|known| {
            let is_changed = known.as_ref() != node;
            if is_changed {
                *known = node.cloned();
            }
            is_changed
        });
    }

    /// Rules 83 and 84.
    fn serve_health_checks(&mut self) {
        let (checks, node) = (
            self.reconciler.health_checks(),
            self.reconciler.index().node(),
        );
        for refused in self.service_healths.update(checks, node, Instant::now()) {
            let (service, address) = (&refused.service, refused.address);
            let port = address.port();
            let why = format!(
                "healthCheckNodePort {port}: cannot listen on {address}: {}",
                refused.reason
            );
            tracing::warn!("service {service}: {why}; trying again");
            if let Some(reporter) = &self.reporter {
                let about = About::Service((**service).clone());
                let reason = "FailedToStartServiceHealthcheck";
                reporter.report(&about, Severity::Warning, reason, "Listen", &why);
            }
        }
    }

    /// Takes in `first` and what follows it closely.
    async fn collect(&mut self, first: Event, events: &mut mpsc::Receiver<Event>) {
        let until = Instant::now() + PATIENCE;
        let mut next = Some(first);
        while let Some(event) = next {
            self.observer.take_in(&event, Moment::now());
            self.reconciler.handle(event);
            let pause = COALESCE.min(until.saturating_duration_since(Instant::now()));
            next = time::timeout(pause, events.recv()).await.ok().flatten();
        }
    }

    /// Compares the maps with what they should hold, and has them repaired: something else may have
    /// written to them.
    fn read_back(&mut self) {
        match self.reconciler.verify(Instant::now()) {
            Ok(mismatches) => {
                if mismatches > 0 {
                    tracing::warn!(
                        mismatches,
                        "maps were not as they had been written; repaired"
                    );
                }
                self.observer.read_back(mismatches, Moment::now());
            }
            // It is tried again, as any failed operation is.
            Err(error) => tracing::warn!("cannot read the maps back: {error}"),
        }
    }

    /// Tells log, metrics and status of it; when to do so again if that failed.
    fn publish(
        &mut self,
        report: SyncReport,
        unread: Vec<String>,
        took: Duration,
    ) -> Option<Instant> {
        let devices = self.devices.borrow_and_update().clone();
        let counts = [unread.len(), devices.len()];
        self.observer.conclude(&report, took, counts, Moment::now());
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
        let told = problems.iter().map(ToString::to_string);
        let told: Vec<String> = told.chain(devices).chain(unread).collect();
        self.state.problems = u32::try_from(told.len()).unwrap_or(u32::MAX);
        if in_sync {
            self.state.synced_at = now();
            // Nobody may be waiting any more.
            let _ = self.first.take().map(|first| first.send(()));
        }
        self.known = problems;
        let maps = self.reconciler.maps_mut();
        let published = maps
            .set_problems(&told)
            .and_then(|()| maps.set_agent(&self.state));
        match published {
            Ok(()) => None,
            // Those who ask are told less than there is; nobody's traffic suffers.
            Err(error) => {
                tracing::warn!("`duolb status` is out of date: {error}");
                Some(Instant::now() + REPUBLISH)
            }
        }
    }
}
