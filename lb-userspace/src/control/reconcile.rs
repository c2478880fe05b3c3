//! The loop body of the control plane: events in, maps brought up to date, problems out.
//!
//! It holds the index, the planner and the maps and says when which of them is asked. It has no loop, no
//! clock and no thread: the agent feeds it events, calls [`Reconciler::sync`] after each batch of them
//! and again when the report says so. However the batches are cut, the maps end up the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use lb_common::address::{V4, V6};

use super::{
    apply::{apply, is_rejection},
    backoff::Backoff,
    desired::{LacksLocal, find_desired},
    health_check::{HealthCheck, find_health_check},
    index::Index,
    maps::{FamilyMaps, Maps, MapsError},
    node_ports::NodePortSettings,
    plan::{Change, Occasion, Planner, Step, Surroundings},
    problem::{Cause, Problem},
    restore::restore_planner,
};
use crate::{model::ObjectKey, source::Event};

/// How soon to plan again when there will be room for what waits for it.
const ROOM_COMING: Duration = Duration::from_millis(100);
/// How soon to try again what waits for room that is not in sight.
const NO_ROOM: Duration = Duration::from_secs(30);

/// The control plane over its maps.
#[derive(Debug)]
pub struct Reconciler<M> {
    maps: M,
    index: Index,
    /// `None` till the maps have been read, and again when an operation has failed.
    planner: Option<Planner>,
    /// Services that may have changed since the last plan.
    dirty: BTreeSet<Arc<ObjectKey>>,
    /// Services that contradict themselves and are left as they are.
    refused: BTreeMap<Arc<ObjectKey>, Problem>,
    /// Services that lack local endpoints for some policy.
    lacking: BTreeMap<Arc<ObjectKey>, LacksLocal>,
    /// The health checks of Services that need one.
    checks: BTreeMap<Arc<ObjectKey>, HealthCheck>,
    /// What the last plan was made in.
    surroundings: Surroundings,
    /// Operations on the maps carried out so far.
    ops: u64,
    /// What failed in the last attempt.
    failures: Vec<Problem>,
    backoff: Backoff,
    /// When to plan again because there will be room.
    room: Option<Instant>,
    /// When to try again all that waits for room.
    retry: Option<Instant>,
    /// See [`SyncReport::is_somebody_gone`].
    is_somebody_gone: bool,
}

/// What a call of [`Reconciler::sync`] came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Number of operations on the maps that were carried out.
    pub ops: usize,
    /// Everything that is not served as its object says, whether found now or earlier.
    pub problems: Vec<Problem>,
    /// When to call again if nothing happens before.
    pub next_retry: Option<Instant>,
    /// Whether the maps say what the objects say, as far as there is room: false before the first
    /// listing is complete and while operations fail.
    pub in_sync: bool,
    /// Number of Services with endpoints but none on this node, by traffic policy: internal, external
    /// (rule 87).
    pub lacking_local: [usize; 2],
    /// Whether somebody may talk to an endpoint that no longer serves, or by a frontend that is gone: to be looked
    /// for where flows are not found out by their packets.
    pub is_somebody_gone: bool,
}

impl<M: Maps> Reconciler<M> {
    /// A control plane on the node of that name that knows nothing yet; what is in `maps` stays in force.
    pub fn new(maps: M, node_name: &str) -> Self {
        Self {
            maps,
            index: Index::new(node_name),
            planner: None,
            dirty: BTreeSet::new(),
            refused: BTreeMap::new(),
            lacking: BTreeMap::new(),
            checks: BTreeMap::new(),
            surroundings: Surroundings::default(),
            ops: 0,
            failures: Vec::new(),
            backoff: Backoff::default(),
            room: None,
            retry: None,
            is_somebody_gone: false,
        }
    }

    /// The same, with node ports on those of the node's addresses that `settings` name; before any event.
    pub fn with_node_ports(mut self, settings: NodePortSettings) -> Self {
        self.index.set_node_ports(settings);
        self
    }

    /// Takes in what a source says. Touches no map.
    pub fn handle(&mut self, event: Event) {
        self.dirty.extend(self.index.apply(event));
    }

    /// Brings the maps up to date. `now` only decides whether a retry is due.
    pub fn sync(&mut self, now: Instant) -> SyncReport {
        let mut ops = 0;
        if self.index.is_complete() && self.is_due(now) {
            ops = self.try_sync(now).unwrap_or_else(|error| {
                self.fail(now, vec![failure(None, &error)]);
                0
            });
        }
        let report = self.report(ops);
        self.is_somebody_gone = false;
        report
    }

    /// Compares the maps with what was last written to them; the number of entries that differ. If there are
    /// any, somebody else has changed them, and they are brought back to what they should say.
    ///
    /// Nothing is compared before the first plan and while operations fail.
    ///
    /// # Errors
    /// [`MapsError`] if the maps cannot be read.
    pub fn verify(&mut self, now: Instant) -> Result<usize, MapsError> {
        let Some(planner) = &self.planner else {
            return Ok(0);
        };
        let v4 = FamilyMaps::<V4>::dump(&self.maps)?;
        let v6 = FamilyMaps::<V6>::dump(&self.maps)?;
        let mismatches = planner.count_mismatches(&self.maps.services()?, &v4, &v6);
        if mismatches > 0 {
            // The mirror is made anew, and with it the next plan is a complete one.
            self.planner = None;
            let report = self.sync(now);
            // Nobody has heard of it yet.
            self.is_somebody_gone = report.is_somebody_gone;
        }
        Ok(mismatches)
    }

    /// How many operations on the maps have been carried out since this was made.
    pub fn ops(&self) -> u64 {
        self.ops
    }

    /// What is known of the cluster.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The health checks to be served, as of the last plan (rule 83).
    pub fn health_checks(&self) -> &BTreeMap<Arc<ObjectKey>, HealthCheck> {
        &self.checks
    }

    /// The maps.
    pub fn maps(&self) -> &M {
        &self.maps
    }

    /// The maps, to do with them what is not the control plane's business. Whoever changes through
    /// this what the control plane has written is not noticed before something fails.
    pub fn maps_mut(&mut self) -> &mut M {
        &mut self.maps
    }

    /// The maps as they are; nothing is torn down (rule 7).
    pub fn into_maps(self) -> M {
        self.maps
    }

    fn is_due(&self, now: Instant) -> bool {
        if self.planner.is_none() {
            return self
                .backoff
                .find_next(!self.dirty.is_empty())
                .is_none_or(|at| at <= now);
        }
        !self.dirty.is_empty()
            || self.surroundings != surroundings(&self.index)
            || [self.room, self.retry]
                .into_iter()
                .flatten()
                .any(|at| at <= now)
    }

    /// One plan and its execution; the number of operations carried out.
    fn try_sync(&mut self, now: Instant) -> Result<usize, MapsError> {
        let retry = self.retry.is_some_and(|at| at <= now);
        let (mut planner, occasion) = match self.planner.take() {
            Some(planner) if retry => (planner, Occasion::Retry),
            Some(planner) => (planner, Occasion::Change),
            None => (restore_planner(&self.maps)?, Occasion::Complete),
        };
        if occasion == Occasion::Complete {
            self.dirty.extend(self.index.services().cloned());
            self.dirty.extend(planner.services().cloned());
        }
        let dirty = std::mem::take(&mut self.dirty);
        let (index, refused) = (&self.index, &mut self.refused);
        let (lacking, checks) = (&mut self.lacking, &mut self.checks);
        let changes = dirty.into_iter().filter_map(|service| {
            let change = find_change(index, refused, service)?;
            let lacks = change.desired.as_ref().map(|desired| desired.lacks_local);
            match lacks.filter(|lacks| *lacks != LacksLocal::default()) {
                Some(lacks) => lacking.insert(change.service.clone(), lacks),
                None => lacking.remove(&change.service),
            };
            match find_health_check(index, &change.service) {
                Some(check) => checks.insert(change.service.clone(), check),
                None => checks.remove(&change.service),
            };
            Some(change)
        });
        self.surroundings = surroundings(index);
        let plan = planner.plan(changes, occasion, &self.surroundings);
        self.is_somebody_gone |= plan.steps().iter().any(|step| step.op.leaves_somebody());
        let applied = apply(&mut self.maps, &plan);
        self.ops += applied.done as u64;
        let (rejected, failed): (Vec<_>, Vec<_>) = applied
            .failed
            .into_iter()
            .partition(|(_, error)| is_rejection(error));
        if failed.is_empty() {
            for (step, _) in rejected {
                planner.reject(&step.op);
            }
            self.backoff.succeed();
            self.failures.clear();
            let last = self.retry.filter(|_| !retry);
            self.retry = planner.is_waiting().then(|| last.unwrap_or(now + NO_ROOM));
            self.room = planner.is_room_coming().then(|| now + ROOM_COMING);
            self.planner = Some(planner);
        } else {
            let failures = failed
                .iter()
                .map(|(step, error)| failure(Some(step), error));
            self.fail(now, failures.collect());
        }
        Ok(applied.done)
    }

    /// The mirror of the maps may be wrong: it is made anew before the next attempt.
    fn fail(&mut self, now: Instant, failures: Vec<Problem>) {
        self.planner = None;
        (self.room, self.retry) = (None, None);
        self.failures = failures;
        self.backoff.fail(now);
    }

    fn report(&self, ops: usize) -> SyncReport {
        let mut problems: Vec<Problem> = self.failures.clone();
        problems.extend(self.refused.values().cloned());
        problems.extend(self.planner.iter().flat_map(Planner::problems));
        problems.sort();
        SyncReport {
            ops,
            problems,
            next_retry: [
                self.room,
                self.retry,
                self.backoff.find_next(!self.dirty.is_empty()),
            ]
            .into_iter()
            .flatten()
            .min(),
            lacking_local: [
                self.lacking.values().filter(|lacks| lacks.internal).count(),
                self.lacking.values().filter(|lacks| lacks.external).count(),
            ],
            is_somebody_gone: self.is_somebody_gone,
            in_sync: self.planner.is_some() && self.dirty.is_empty(),
        }
    }
}

fn surroundings(index: &Index) -> Surroundings {
    Surroundings {
        cidrs: index.service_cidrs(),
        own: index.node_addresses(),
    }
}

/// What `service` should look like now; `None` if it contradicts itself and is to be left as it is.
fn find_change(
    index: &Index,
    refused: &mut BTreeMap<Arc<ObjectKey>, Problem>,
    service: Arc<ObjectKey>,
) -> Option<Change> {
    refused.remove(&service);
    match find_desired(index, &service) {
        Ok(desired) => Some(Change { service, desired }),
        Err(problem) => {
            refused.insert(service, problem);
            None
        }
    }
}

fn failure(step: Option<&Step>, error: &MapsError) -> Problem {
    let table = match error {
        MapsError::Full { table } | MapsError::Io { table, .. } => *table,
    };
    let (field, value) = match step {
        None => ("map", table.to_string()),
        Some(step) => step.subject(),
    };
    Problem {
        service: step.and_then(|step| step.service.clone()),
        field: field.into(),
        value,
        cause: match error {
            MapsError::Full { table } => Cause::NoRoom(*table),
            MapsError::Io { .. } => Cause::Failed(error.to_string()),
        },
    }
}
