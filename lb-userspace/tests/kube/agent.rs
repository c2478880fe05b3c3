//! The source and, behind it, a control plane over maps in memory.

use std::time::{Duration, Instant};

use duolb::{
    control::{index::Index, maps::fake::FakeMaps, reconcile::Reconciler},
    model::ObjectKey,
    source::{
        Event,
        kube::{Connection, Options, connect},
        objects::Problem,
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::{meaning::Meaning, objects::NODE};

/// How long anything may take: a few pauses after failures, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Agent {
    reconciler: Reconciler<FakeMaps>,
    events: mpsc::Receiver<Event>,
    problems: watch::Receiver<Vec<Problem>>,
    source: JoinHandle<()>,
    /// All that the source has said.
    pub(crate) said: Vec<Event>,
}

/// How an agent is started that talks to `url` and is not held back.
pub(crate) fn options(url: String) -> Options {
    Options {
        kubeconfig: None,
        master: Some(url),
        node: NODE.to_owned(),
        qps: 0.0,
        burst: 0,
    }
}

impl Agent {
    pub(crate) async fn start(options: &Options) -> Self {
        let connection = connect(options).await.expect("a usable configuration");
        Self::follow(connection, &options.node)
    }

    fn follow(connection: Connection, node: &str) -> Self {
        let (events_in, events) = mpsc::channel(64);
        let (problems_in, problems) = watch::channel(Vec::new());
        let source = tokio::spawn(async move { connection.run(events_in, problems_in).await });
        Self {
            reconciler: control_plane(node),
            events,
            problems,
            source,
            said: Vec::new(),
        }
    }

    /// Takes in events until `is` holds.
    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is(self) {
            assert!(
                Instant::now() < deadline,
                "not so after {PATIENCE:?}: {what}\n{}\nproblems: {:#?}\nlast said: {:#?}",
                self.meaning(),
                self.problems(),
                &self.said[self.said.len().saturating_sub(5)..],
            );
            self.take_for(Duration::from_millis(20)).await;
        }
    }

    /// Takes in what comes in that time.
    pub(crate) async fn take_for(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while let Ok(Some(event)) = tokio::time::timeout_at(until, self.events.recv()).await {
            self.said.push(event.clone());
            self.reconciler.handle(event);
        }
        settle(&mut self.reconciler);
    }

    /// Takes in what comes in that time and keeps none of it.
    pub(crate) async fn absorb_for(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while let Ok(Some(event)) = tokio::time::timeout_at(until, self.events.recv()).await {
            self.reconciler.handle(event);
        }
        settle(&mut self.reconciler);
    }

    /// Whether everything was listed.
    pub(crate) fn is_complete(&self) -> bool {
        self.index().is_complete()
    }

    /// What the maps say.
    pub(crate) fn meaning(&self) -> Meaning {
        Meaning::of(self.reconciler.maps())
    }

    /// Whether the maps have a frontend that begins so and leads to exactly these endpoints.
    pub(crate) fn leads(&self, frontend: &str, endpoints: &[&str]) -> bool {
        let text = self.meaning().to_string();
        let line = text.lines().find(|line| line.starts_with(frontend));
        line.is_some_and(|line| {
            let (_, found) = line.split_once(" ->").expect("an arrow");
            let mut found: Vec<_> = found.split_whitespace().collect();
            found.sort_unstable();
            found == endpoints
        })
    }

    /// Whether the maps have no frontend that begins so.
    pub(crate) fn lacks(&self, frontend: &str) -> bool {
        let text = self.meaning().to_string();
        !text.lines().any(|line| line.starts_with(frontend))
    }

    pub(crate) fn index(&self) -> &Index {
        self.reconciler.index()
    }

    pub(crate) fn knows(&self, service: &str) -> bool {
        let key = ObjectKey::new("default", service);
        self.index().find_service(&key).is_some()
    }

    /// What is wrong now, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = self.problems.borrow();
        problems.iter().map(ToString::to_string).collect()
    }

    /// Whether a problem is told that says all of this.
    pub(crate) fn tells(&self, parts: &[&str]) -> bool {
        let says = |problem: &String| parts.iter().all(|part| problem.contains(part));
        self.problems().iter().any(says)
    }

    /// Whether everything was listed and nothing is wrong.
    pub(crate) fn is_well(&self) -> bool {
        self.index().is_complete() && self.problems().is_empty()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.source.abort();
    }
}

/// A control plane with enough room for any test.
pub(crate) fn control_plane(node: &str) -> Reconciler<FakeMaps> {
    Reconciler::new(FakeMaps::new(1 << 16, 1 << 17, 1 << 21), node)
}

/// Lets it work until it has nothing to do soon.
pub(crate) fn settle(reconciler: &mut Reconciler<FakeMaps>) {
    let mut now = Instant::now();
    for _ in 0..1000 {
        match reconciler.sync(now) {
            report
                if report
                    .next_retry
                    .is_none_or(|at| at > now + Duration::from_secs(1)) =>
            {
                return;
            }
            report => now = report.next_retry.unwrap_or(now),
        }
    }
    panic!("it does not come to rest");
}
