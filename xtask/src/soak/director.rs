//! Who changes what while clients talk: one thing after the other, each until every node has followed.
//!
//! Nothing is assumed about how fast that is, only that it comes to an end. What cannot but cost somebody a flow says
//! so as an excuse for exactly those flows and that time.

mod changes;
mod faults;
mod restarts;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    random::Random,
    scene::{STICKY, Scene},
    service::{NUMBERS, Service},
    stage::{NODES, Stage},
    stray,
};
use crate::lab::{
    interrupt,
    reference::{Endpoint, Policy},
};

/// How long all nodes may take to follow a change: machines that compile something else are slow.
const FOLLOW: Duration = Duration::from_secs(300);

/// Something to do.
type Action = fn(&mut Director) -> Result<()>;

/// What there is to do, and how often beside the others.
const ACTIONS: &[(&str, usize, Action)] = &[
    ("endpoints come and go", 30, changes::endpoints),
    ("scale to zero and back", 10, changes::zero),
    ("a service dies and is born again", 10, changes::reborn),
    ("another port", 6, changes::port),
    ("a pod is replaced", 8, changes::pod),
    ("an agent is killed", 6, restarts::kill),
    ("an agent is stopped", 6, restarts::stop),
    ("an agent starts with other flags", 6, restarts::flags),
    ("changes while no agent runs", 6, restarts::meanwhile),
    ("manifests that are none", 6, faults::manifests),
    ("more services than fit", 4, faults::burst),
    ("devices come and go", 6, faults::devices),
    ("addresses of nodes come and go", 6, faults::addresses),
    ("an uplink goes down and up", 2, faults::uplink),
    ("the flow tables are flushed", 2, faults::flush),
];

/// The services that everything begins with, and ends with.
pub(super) fn beginning() -> Vec<Service> {
    let pod = |node, number| Endpoint::Pod { node, number };
    let (cluster, local) = (Policy::Cluster, Policy::Local);
    let mut services = vec![
        Service::new(1, cluster, &[pod(1, 10), pod(2, 10), pod(3, 10)]),
        Service::new(2, local, &[pod(1, 10), pod(2, 11)]),
        Service::new(3, cluster, &[Endpoint::Host { node: 1 }]),
        Service::new(STICKY, cluster, &[pod(1, 11), pod(2, 10), pod(3, 11)]),
        Service::new(5, cluster, &[pod(1, 10), pod(3, 10)]),
        Service::new(6, cluster, &[pod(1, 11)]),
        Service::new(7, cluster, &[pod(2, 11)]),
        Service::new(
            8,
            cluster,
            &[pod(1, 10), pod(1, 11), pod(2, 10), pod(3, 11)],
        ),
        Service::new(9, cluster, &[pod(2, 10), pod(3, 10)]),
        Service::new(10, cluster, &[pod(1, 10), pod(2, 10)]),
        Service::new(11, cluster, &[pod(1, 12), pod(2, 12), pod(3, 12)]),
    ];
    services[usize::from(STICKY) - 1].affinity = 60;
    let ranges = [
        "192.0.2.0/24",
        "10.244.1.0/24",
        "2001:db8::/64",
        "fd00:10:244:1::/64",
    ];
    services[4].sources = ranges
        .map(|range| range.parse().expect("written here"))
        .into();
    services
}

/// The pods that endpoints are chosen from; those of number 12 come and go.
pub(super) fn pods() -> Vec<Endpoint> {
    let of = |node| [10, 11].map(|number| Endpoint::Pod { node, number });
    [1, 2, 3].into_iter().flat_map(of).collect()
}

/// Who does it.
pub(super) struct Director {
    pub(super) stage: Stage,
    scene: Arc<Scene>,
    random: Random,
    /// Those that are in order.
    due: Vec<usize>,
    /// Packets that somebody saw and should not have: who, how many, which.
    strays: Vec<(String, u64, String)>,
}

impl Director {
    /// Before the first change.
    pub(super) fn new(stage: Stage, scene: Arc<Scene>) -> Self {
        Self {
            stage,
            random: Random::new(scene.seed, "director"),
            scene,
            due: Vec::new(),
            strays: Vec::new(),
        }
    }

    /// One thing after the other until then.
    pub(super) fn direct(&mut self, until: Instant) {
        self.revive();
        while Instant::now() < until && !self.scene.is_over() {
            let (name, action) = self.next();
            self.scene.set_phase(name);
            if let Err(error) = action(self) {
                if interrupt::is_set() {
                    break;
                }
                self.scene.complain(format!("{name}: {error:#}"));
            }
            *self.scene.ledger().actions.entry(name).or_default() += 1;
            self.scene.set_phase("quiet");
            self.revive();
            let quiet = self.random.between(300, 3000) as u64;
            self.scene.pause(Duration::from_millis(quiet));
        }
    }

    /// Every action comes once before chance has its way, in an order that follows from the seed.
    fn next(&mut self) -> (&'static str, Action) {
        if self.due.is_empty() && self.scene.ledger().actions.is_empty() {
            self.due = (0..ACTIONS.len()).collect();
            for at in (1..self.due.len()).rev() {
                let other = self.random.below(at + 1);
                self.due.swap(at, other);
            }
        }
        let at = self.due.pop().unwrap_or_else(|| {
            let all: usize = ACTIONS.iter().map(|(_, weight, _)| weight).sum();
            let mut ticket = self.random.below(all);
            let chosen = ACTIONS.iter().position(|(_, weight, _)| {
                let is_it = ticket < *weight;
                ticket = ticket.saturating_sub(*weight);
                is_it
            });
            chosen.unwrap_or_default()
        });
        let (name, _, action) = ACTIONS[at];
        (name, action)
    }

    /// An agent that ended by itself is a complaint, and is started again.
    fn revive(&mut self) {
        for node in NODES {
            let agent = self.stage.lab.agent_mut(node);
            if let Err(error) = agent.check() {
                self.scene.complain(format!("{error:#}"));
                let _ = agent.start(); // else it is said again
            }
        }
        let pids = NODES
            .into_iter()
            .filter_map(|node| Some((node, self.stage.lab.agent(node).pid()?)));
        self.scene.set_pids(pids.collect());
    }

    /// Notes all strays so far, and counts anew.
    fn note_strays(&mut self) -> Result<()> {
        self.strays.extend(stray::seen(&self.stage.lab)?);
        stray::forget(&self.stage.lab)
    }

    /// All strays there were.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn strays(&mut self) -> Result<Vec<(String, u64, String)>> {
        self.note_strays()?;
        Ok(self.strays.clone())
    }

    /// The newest version of a service.
    fn newest(&self, number: u8) -> Option<Service> {
        self.scene.history().newest(number).cloned()
    }

    /// All services as they should be now.
    pub(super) fn desired(&self) -> Vec<Service> {
        let history = self.scene.history();
        let all = NUMBERS
            .into_iter()
            .filter_map(|number| history.newest(number).cloned());
        all.collect()
    }

    /// Changes a service, and waits until all nodes have followed.
    fn change(&mut self, number: u8, service: Option<Service>) -> Result<()> {
        self.write(number, service)?;
        self.follow()
    }

    /// Changes a service.
    fn write(&mut self, number: u8, service: Option<Service>) -> Result<()> {
        let mut history = self.scene.history_mut();
        history.write(Instant::now(), number, service);
        drop(history);
        self.stage.apply(&self.desired())
    }

    /// Waits until all nodes have followed.
    ///
    /// # Errors
    /// What one has not, after a long time.
    pub(super) fn follow(&mut self) -> Result<()> {
        let (desired, start) = (self.desired(), Instant::now());
        loop {
            let compared = self.stage.compare(&desired);
            match compared {
                Ok(()) => break,
                Err(error) if start.elapsed() > FOLLOW => {
                    bail!("not followed after {FOLLOW:?}: {error:#}")
                }
                Err(_) => interrupt::check()?,
            }
            std::thread::sleep(Duration::from_millis(150));
        }
        self.scene.history_mut().settle(Instant::now());
        Ok(())
    }

    /// Everything is again as it was in the beginning.
    ///
    /// # Errors
    /// If a node does not follow.
    pub(super) fn restore(&mut self) -> Result<()> {
        for service in beginning() {
            if self.newest(service.number).as_ref() != Some(&service) {
                self.write(service.number, Some(service))?;
            }
        }
        self.follow()
    }

    /// A node, of which is said that it is the one.
    fn node(&mut self) -> &'static str {
        let node = NODES[self.random.below(NODES.len())];
        let phase = format!("{}: {node}", self.scene.phase());
        self.scene.set_phase(&phase);
        node
    }

    /// What is being done has come so far.
    fn step(&self, step: &str) {
        let phase = self.scene.phase();
        let phase = phase.split(", ").next().unwrap_or_default();
        self.scene.set_phase(&format!("{phase}, {step}"));
    }

    /// Between so many and so many pods.
    fn some_pods(&mut self, at_least: usize) -> BTreeSet<Endpoint> {
        let all = pods();
        let count = self.random.between(at_least, all.len() + 1);
        let mut some = BTreeSet::new();
        while some.len() < count {
            some.insert(*self.random.one(&all));
        }
        some
    }

    fn pause(&mut self, from: usize, to: usize) {
        let time = self.random.between(from, to) as u64;
        self.scene.pause(Duration::from_millis(time));
    }
}
