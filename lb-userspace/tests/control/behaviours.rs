//! Runs every script in `behaviours/`, with maps that work and with maps that fail.

use std::{fs, path::Path, time::Instant};

use duolb::{
    control::{
        maps::{
            fake::{Calls, FakeMaps},
            faulty::FaultyMaps,
        },
        node_ports::NodePortSettings,
        reconcile::{Reconciler, SyncReport},
    },
    source::Event,
};

use crate::{
    audit::AuditedMaps,
    meaning::Meaning,
    script::{self, Step},
    world::{Audited, restart, sync},
};

/// Runs a script on the maps that `wrap` makes; `counts` if calls to them mean anything.
fn run<M: Audited>(name: &str, steps: &[Step], wrap: impl Fn(AuditedMaps) -> M, counts: bool) {
    let mut now = Instant::now();
    let (mut services, mut frontends, mut slots) = (64, 64, 64);
    if let Some(Step::Maps {
        services: s,
        frontends: f,
        slots: n,
    }) = steps.first()
    {
        (services, frontends, slots) = (*s, *f, *n);
    }
    let maps = AuditedMaps::new(FakeMaps::new(services, frontends, slots), counts);
    let mut settings = NodePortSettings::default();
    let mut agent = Reconciler::new(wrap(maps), crate::NODE);
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Maps { .. } => assert_eq!(at, 0, "{name}: sizes come first"),
            Step::NodePorts(addresses) => {
                settings.addresses.clone_from(addresses);
                agent = agent.with_node_ports(settings.clone());
            }
            Step::Event(event) => agent.handle(Event::clone(event)),
            Step::Restart => agent = restart(agent).with_node_ports(settings.clone()),
            Step::Expect { calls, lines } => {
                let report = if agent.index().is_complete() {
                    sync(&mut agent, &mut now)
                } else {
                    agent.sync(now)
                };
                let maps = agent.maps_mut().audited();
                let spent = std::mem::take(&mut maps.inner.calls);
                check(&format!("{name}, step {at}"), &maps.inner, &report, lines);
                if let (true, Some(calls)) = (counts, calls) {
                    check_calls(name, at, spent, *calls);
                }
            }
        }
    }
}

fn check(place: &str, maps: &FakeMaps, report: &SyncReport, expected: &[String]) {
    let mut actual: Vec<String> = Meaning::of(maps)
        .to_string()
        .lines()
        .map(str::to_owned)
        .collect();
    actual.extend(report.problems.iter().map(|problem| format!("! {problem}")));
    actual.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(
        actual,
        expected,
        "{place}\nactual:\n  {}\n",
        actual.join("\n  ")
    );
}

fn check_calls(name: &str, at: usize, spent: Calls, most: usize) {
    assert!(
        spent.total() <= most,
        "{name}, step {at}: {spent:?}, allowed are {most}"
    );
}

/// The scripts and their names, in order.
fn scripts() -> Vec<(String, Vec<Step>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control/behaviours");
    let mut scripts: Vec<_> = fs::read_dir(folder)
        .expect("the folder of scripts")
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&path).expect("text");
            (name, script::parse(&text))
        })
        .collect();
    scripts.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(scripts.len() >= 10, "the scripts are missing");
    scripts
}

#[test]
fn every_behaviour_holds_with_maps_that_work() {
    for (name, steps) in scripts() {
        run(&name, &steps, |maps| maps, true);
    }
}

#[test]
fn every_behaviour_holds_with_maps_that_fail() {
    for (name, steps) in scripts() {
        for seed in 0..20 {
            let wrap = |maps| FaultyMaps::new(maps, 50, seed);
            run(&format!("{name}, seed {seed}"), &steps, wrap, false);
        }
    }
}
