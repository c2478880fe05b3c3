//! What was true when: services as they were over time, and what is excused. Pure; moments are arguments.
//!
//! A change takes effect at some moment between being written and being seen on every node. So each version of a
//! service holds from the moment it is written until its successor has *settled*, with some grace for what follows
//! the maps (the agent ends sockets after it has written). A flow may be treated by any version that held while
//! it was begun; that makes no assumption about how fast anything is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::service::Service;

/// The excuse of who removes all flows at once: not only are packets lost, answers come that nobody translates.
pub(super) const FLUSHED: &str = "the flow tables were flushed";
/// How long a version may still be seen after its successor has settled.
const GRACE: Duration = Duration::from_secs(5);
/// How long what has passed is remembered: longer than any flow waits.
const MEMORY: Duration = Duration::from_secs(120);

/// From one moment to another, or still.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: Instant,
    pub(super) until: Option<Instant>,
}

impl Span {
    /// Whether it and the time from `begin` to `end` have a moment in common.
    fn meets(&self, begin: Instant, end: Instant) -> bool {
        self.from <= end && self.until.is_none_or(|until| until >= begin)
    }
}

/// Whose losses are excused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Everyone's.
    All,
    /// Those of flows to the endpoint pod of this name, or to nobody yet, of the service with this number.
    Pod(String, u8),
    /// Those of established flows to this service.
    Service(u8),
}

/// An excuse, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExcuseId(u64);

#[derive(Clone, Debug)]
struct Excuse {
    id: ExcuseId,
    reason: &'static str,
    whose: Whose,
    span: Span,
}

/// Everything that was, as far back as anyone asks.
#[derive(Debug, Default)]
pub(super) struct History {
    services: BTreeMap<u8, Vec<(Span, Option<Service>)>>,
    excuses: Vec<Excuse>,
    next: u64,
}

impl History {
    /// The next version of service `number`; `None`: it is deleted.
    pub(super) fn write(&mut self, now: Instant, number: u8, service: Option<Service>) {
        let span = Span {
            from: now,
            until: None,
        };
        self.services
            .entry(number)
            .or_default()
            .push((span, service));
    }

    /// Every node has the newest version of everything.
    pub(super) fn settle(&mut self, now: Instant) {
        for versions in self.services.values_mut() {
            let former = versions.len().saturating_sub(1);
            for (span, _) in &mut versions[..former] {
                span.until.get_or_insert(now + GRACE);
            }
            let past = |until: Instant| now.saturating_duration_since(until) > MEMORY;
            versions.retain(|(span, _)| !span.until.is_some_and(past));
        }
        self.excuses
            .retain(|excuse| excuse.span.until.is_none_or(|until| until + MEMORY >= now));
    }

    /// The newest version.
    pub(super) fn newest(&self, number: u8) -> Option<&Service> {
        self.services.get(&number)?.last()?.1.as_ref()
    }

    /// Those that may have treated a flow begun between two moments.
    pub(super) fn versions(
        &self,
        number: u8,
        begin: Instant,
        end: Instant,
    ) -> impl Iterator<Item = Option<&Service>> {
        let all = self.services.get(&number).into_iter().flatten();
        all.filter(move |(span, _)| span.meets(begin, end))
            .map(|(_, service)| service.as_ref())
    }

    /// Whether nothing about a service changed between two moments.
    pub(super) fn is_quiet(&self, number: u8, begin: Instant, end: Instant) -> bool {
        self.versions(number, begin, end).count() == 1
    }

    /// From now on losses are excused.
    pub(super) fn excuse(&mut self, now: Instant, reason: &'static str, whose: Whose) -> ExcuseId {
        self.next += 1;
        let id = ExcuseId(self.next);
        let span = Span {
            from: now,
            until: None,
        };
        self.excuses.push(Excuse {
            id,
            reason,
            whose,
            span,
        });
        id
    }

    /// Until then.
    pub(super) fn excuse_until(&mut self, id: ExcuseId, until: Instant) {
        let mut excuses = self.excuses.iter_mut();
        if let Some(excuse) = excuses.find(|excuse| excuse.id == id) {
            excuse.span.until = Some(until);
        }
    }

    /// Why a flow to `service` that ended between two moments may have failed; `pod` is its endpoint's, if it had one.
    pub(super) fn excuse_for(
        &self,
        service: u8,
        pod: Option<&str>,
        begin: Instant,
        end: Instant,
    ) -> Option<&'static str> {
        let mut excuses = self.excuses.iter();
        let fits = |excuse: &&Excuse| {
            let concerned = match &excuse.whose {
                Whose::All => true,
                Whose::Pod(name, number) => pod.map_or(*number == service, |pod| pod == name),
                Whose::Service(number) => *number == service && pod.is_some(),
            };
            concerned && excuse.span.meets(begin, end)
        };
        excuses.find(fits).map(|excuse| excuse.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::reference::Policy;

    #[test]
    fn a_version_holds_until_its_successor_has_settled() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::default();
        let service = Service::new(1, Policy::Cluster, &[]);
        history.write(at(0), 1, Some(service.clone()));
        history.write(at(10), 1, None);
        let count = |history: &History, begin, end| history.versions(1, at(begin), at(end)).count();
        assert_eq!(count(&history, 1, 2), 1);
        assert_eq!(count(&history, 1, 10), 2);
        assert_eq!(count(&history, 90, 91), 2, "not settled");
        history.settle(at(20));
        assert_eq!(count(&history, 24, 30), 2, "grace");
        assert_eq!(count(&history, 26, 30), 1);
        assert!(history.is_quiet(1, at(26), at(30)) && history.newest(1).is_none());
    }

    #[test]
    fn an_excuse_is_for_whom_it_is_and_for_its_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::default();
        let id = history.excuse(at(10), "pod gone", Whose::Pod("pod-1-12".into(), 1));
        history.excuse_until(id, at(20));
        let why = |pod, begin, end| history.excuse_for(1, pod, at(begin), at(end));
        assert_eq!(why(Some("pod-1-12"), 19, 30), Some("pod gone"));
        assert_eq!(why(None, 5, 10), Some("pod gone"));
        assert_eq!(why(Some("pod-1-10"), 12, 13), None);
        assert_eq!(why(Some("pod-1-12"), 21, 30), None);
    }
}
