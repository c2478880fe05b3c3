//! What the loop does, as health and metrics tell it.
//!
//! Pure but for what it tells: the loop hands over each event and each report with the time, and this knows what
//! kube-proxy would have counted (rules 86-88).

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use lb_common::address::Family;

use crate::{
    control::reconcile::SyncReport,
    health::{Moment, families_of},
    metrics::Metrics,
    serve::{SharedHealth, with_health},
    source::{Event, Kind},
};

/// Tells health and metrics what happens.
#[derive(Debug)]
pub(super) struct Observer {
    metrics: Arc<Metrics>,
    health: SharedHealth,
    /// When the agent started: changes before that are not its doing (rule 88).
    started: SystemTime,
    /// Whether a listing of slices is open. It says what is, again and again, not what has changed.
    is_listing: bool,
    /// When the changes of slices happened that are not in the maps yet.
    triggers: Vec<(Family, SystemTime)>,
    /// Whether anything was taken in since the last success.
    is_pending: bool,
    was_in_sync: bool,
}

impl Observer {
    pub(super) fn new(metrics: Arc<Metrics>, health: SharedHealth, started: SystemTime) -> Self {
        Self {
            metrics,
            health,
            started,
            is_listing: false,
            triggers: Vec::new(),
            is_pending: false,
            was_in_sync: false,
        }
    }

    /// `event` is taken in.
    pub(super) fn take_in(&mut self, event: &Event, now: Moment) {
        with_health(&self.health, |health| health.queue(event, now));
        let counters = &self.metrics.kube_proxy;
        for family in families_of(event) {
            self.is_pending = true;
            counters.queued(*family, since_1970(now.wall));
        }
        match event {
            Event::Init(Kind::Slices) => self.is_listing = true,
            Event::InitDone(Kind::Slices) => self.is_listing = false,
            Event::ApplyService(_) | Event::DeleteService(_) => {
                counters.service_changes.inc();
                counters.service_changes_pending.inc();
            }
            Event::ApplySlice(_) | Event::DeleteSlice(_) => {
                counters.endpoint_changes.inc();
                counters.endpoint_changes_pending.inc();
            }
            _ => {}
        }
        if let Event::ApplySlice(slice) = event
            && !self.is_listing
            && let Some(triggered) = slice.triggered
        {
            let at = UNIX_EPOCH + Duration::from_millis(triggered);
            if at > self.started {
                self.triggers.push((slice.family, at));
            }
        }
    }

    /// The maps were brought up to date, or that was tried, with this outcome; it took `took`. So many
    /// problems have the source (`unread`) and the devices.
    pub(super) fn conclude(
        &mut self,
        report: &SyncReport,
        took: Duration,
        [unread, devices]: [usize; 2],
        now: Moment,
    ) {
        let own = &self.metrics.own;
        own.in_sync.set(i64::from(report.in_sync));
        own.set_problems(unread, report.problems.len(), devices);
        let services = report.problems.iter().filter_map(|problem| {
            let service = problem.service.as_deref()?;
            Some((service.namespace.as_str(), service.name.as_str()))
        });
        own.set_service_problems(services);
        own.operations.inc_by(report.ops as u64);
        if report.in_sync {
            self.succeed(report, took, now);
        }
        self.was_in_sync = report.in_sync;
    }

    fn succeed(&mut self, report: &SyncReport, took: Duration, now: Moment) {
        with_health(&self.health, |health| health.update(now));
        let counters = &self.metrics.kube_proxy;
        let [internal, external] = report.lacking_local;
        counters.set_no_local_endpoints(internal, external);
        if !self.is_pending && report.ops == 0 && self.was_in_sync {
            return;
        }
        // At the start and after a failure everything is compared; else only what has changed.
        counters.synced(since_1970(now.wall), took.as_secs_f64(), !self.was_in_sync);
        counters.service_changes_pending.set(0);
        counters.endpoint_changes_pending.set(0);
        for (family, at) in self.triggers.drain(..) {
            // Clocks differ: what is to come has taken no time (kube-proxy counts it so, too).
            let passed = now.wall.duration_since(at).unwrap_or_default();
            counters.programmed(family, passed.as_secs_f64());
        }
        self.is_pending = false;
    }

    /// The maps were read back at `now`, and so many entries had to be repaired.
    pub(super) fn read_back(&self, mismatches: usize, now: Moment) {
        let own = &self.metrics.own;
        own.read_back_mismatches.inc_by(mismatches as u64);
        own.read_back.set(since_1970(now.wall));
    }
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests;
