//! Section `control`: what it takes until the kernel does what the objects say.
//!
//! In one thread, without a source (lb-userspace/tests/programs/bench/control.rs): first sync, restart, changes, beside the
//! same writes by themselves. And the whole agent on manifests: memory, and system calls for a change.

mod agent;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Instant,
};

use anyhow::Result;
use serde_json::Value;

use self::agent::{G9, GROWN};

use crate::{
    bench::{
        kube_proxy::{Service, nftables},
        programs::{Programs, column},
        report::{Gate, Row, Section},
    },
    lab::{Lab, Node, interrupt},
};

/// A cluster of so many services with so many endpoints each.
type Size = (u32, u32);

/// Of a quick run; the first is what changes are held against.
pub const QUICK: &[Size] = &[(10, 100), (1000, 100), (10_000, 1)];
/// Of a full one: G7's, G8's, kube-proxy's bad case.
pub const FULL: &[Size] = &[(10, 100), (10_000, 100), (100_000, 1), (5_000, 50)];

/// Endpoints from which on a first sync is held against anything.
const LARGE: u32 = 10_000;
/// Endpoints of the largest rule set that is loaded: half a minute. Of a larger cluster it is a part, which takes less
/// than all of it would.
const MOST_RULES: u32 = 10_000;
/// System calls for a change, beside one for each write (G8).
const CALLS: f64 = 3.0;
/// Endpoints of a slice at most (lb-userspace/tests/programs/bench/control.rs).
const SLICE: u32 = 100;

const DUOLB: &str = "duolb";
const WRITES: &str = "the writes alone";
const NFT: &str = "nft -f";
const NODE: &str = "node-1";

fn name((services, endpoints): Size) -> String {
    format!("{services} services x {endpoints}")
}

/// All sizes.
///
/// # Errors
/// If the tests of programs fail, or `interrupted`.
pub fn measure(
    programs: &Programs,
    duolb: &Path,
    sizes: &[Size],
    rounds: usize,
    tick: &mut dyn FnMut(&str),
) -> Result<Section> {
    let mut section = Section {
        name: "control".to_owned(),
        title: "How long until the kernel does what the objects say".to_owned(),
        notes: vec![
            "First sync, restart and changes are those of the control plane on the kernel's maps, without a source; memory \
             and calls are the agent's, on manifests"
                .to_owned(),
        ],
        ..Section::default()
    };
    let mut medians: Vec<(Size, Vec<f64>)> = Vec::new();
    for &size in sizes {
        interrupt::check()?;
        tick(&name(size));
        let (services, endpoints) = size;
        let answer = programs.ask(&format!("control {rounds} {services} {endpoints}"))?;
        medians.push((size, column(&answer, 3)));
        let part = part_of(size);
        let nft = rule_seconds(part);
        add(&mut section, size, &answer, part, nft);
        add_calls(&mut section, size, &answer["calls"]);
        interrupt::check()?;
        match agent::measure(size, duolb) {
            Ok(seen) => agent::add(&mut section, size, &seen),
            Err(error) => section.notes.push(format!(
                "the agent at {}: not measured: {error:#}",
                name(size)
            )),
        }
    }
    section.gates.push(grown(&medians));
    if !sizes.contains(&G9) {
        let why = "a quick run has no million endpoints: --full";
        let memory = format!("memory at {}", name(G9));
        section.gates.push(Gate::unknown("G9", memory, why));
        section.gates.push(Gate::unknown("G9", GROWN, why));
    }
    Ok(section)
}

/// What a change costs in the largest cluster against the first, whose services are as large (G8).
fn grown(medians: &[(Size, Vec<f64>)]) -> Gate {
    let mut largest = medians.iter().skip(1).rev();
    let like_first = |size: &Size| medians[0].0.1 == size.1;
    let Some((most, many)) = largest.find(|(size, _)| like_first(size)) else {
        return Gate::unknown("G8", "a change, p50", "there is one size alone");
    };
    let (first, few) = &medians[0];
    let grown: Vec<f64> = many.iter().zip(few).map(|(many, few)| many / few).collect();
    let what = format!("a change, p50: {} / {}", name(*most), name(*first));
    Gate::on("G8", what, &grown, 1.2, false)
}

/// The control plane's own rows.
fn add(section: &mut Section, size: Size, answer: &Value, part: Size, nft: Result<f64>) {
    let [first, raw, restart, median, slow] = [0, 1, 2, 3, 4].map(|at| column(answer, at));
    let is_large = size.0 * size.1 >= LARGE;
    let rules = if part == size {
        NFT.to_owned()
    } else {
        format!("{NFT} of {}", name(part))
    };
    let is_part = part != size;
    let size = name(size);
    let mut row = Row::new(format!("first sync, {size}"), "s", false)
        .with(DUOLB, first.clone())
        .with(WRITES, raw.clone());
    let ratios = |above: &[f64]| -> Vec<f64> {
        let rounds = above.iter().zip(&first);
        rounds.map(|(above, first)| above / first).collect()
    };
    let what = format!("{}: {WRITES} / {DUOLB}", row.what);
    let mut gates = vec![Gate::on("G7", what, &ratios(&raw), 0.35, true)];
    let what = format!("{}: {rules} / {DUOLB}", row.what);
    match nft {
        Ok(seconds) => {
            // It is loaded once: too slow for more.
            let rounds = vec![seconds; first.len()];
            let gate = Gate::on("G7", what.clone(), &ratios(&rounds), 100.0, true);
            gates.push(match gate.value {
                // All of it takes longer than a part: that is enough to be above the limit, not to be below it.
                Some(times) if is_part && gate.is_met() == Some(false) => {
                    let why = format!(
                        "a part takes {:.0} times as long, and all of it too long to be loaded",
                        times.median
                    );
                    Gate::unknown("G7", what, why)
                }
                _ => gate,
            });
            row.rounds.insert(rules, rounds);
        }
        Err(error) => {
            let why = format!("{error:#}");
            gates.push(Gate::unknown("G7", what, &*why));
            row.missing.insert(rules, why);
        }
    }
    // What is small is over before it counts.
    if is_large {
        section.gates.append(&mut gates);
    }
    section.rows.push(row);
    section
        .rows
        .push(Row::new(format!("restart, {size}"), "s", false).with(DUOLB, restart));
    section.gates.push(Gate::on(
        "G8",
        format!("a change, p99 in ms, {size}"),
        &slow,
        10.0,
        false,
    ));
    section.rows.push(
        Row::new(format!("a change, {size}"), "ms", false)
            .with("p50", median)
            .with("p99", slow),
    );
}

/// The `bpf(2)` calls of the control plane for a change: three, and one for each write that goes with it (G8).
fn add_calls(section: &mut Section, size: Size, calls: &Value) {
    let what = format!(
        "bpf(2) of the control plane for a changed slice, {}",
        name(size)
    );
    let mut row = Row::new(what.clone(), "calls", false);
    for (field, way, changed) in [
        ("one", "one endpoint", 1),
        ("slice", "every endpoint", size.1.min(SLICE)),
    ] {
        let goal = format!("{what}: {way}");
        let limit = CALLS + f64::from(changed);
        match calls[field].as_f64() {
            Some(calls) => {
                section
                    .gates
                    .push(Gate::on("G8", goal, &[calls], limit, false));
                row = row.with(way, [calls]);
            }
            None => {
                let why = calls["missing"].as_str().unwrap_or("they were not counted");
                section.gates.push(Gate::unknown("G8", goal, why));
                row.missing.insert(way.to_owned(), why.to_owned());
            }
        }
    }
    section.rows.push(row);
}

/// As many services of a cluster as rules are loaded for.
fn part_of((services, endpoints): Size) -> Size {
    (services.min((MOST_RULES / endpoints).max(1)), endpoints)
}

/// Seconds that nft takes for the same services, in the form that kube-proxy writes.
fn rule_seconds(size: Size) -> Result<f64> {
    let lab = Lab::builder()
        .node(Node::routed(NODE).endpoints(0))
        .build()?;
    let rules = nftables::rules(&rules(size), false, "10.244.0.0/16");
    let start = Instant::now();
    lab.nft(lab.node(NODE), &rules)?;
    Ok(start.elapsed().as_secs_f64())
}

fn rules((services, endpoints): Size) -> Vec<Service> {
    let endpoint = |number| SocketAddr::new(after([16, 0, 0, 0], number).into(), 8080);
    let service = |number| Service {
        name: format!("bench/s-{number}:http"),
        vip: SocketAddr::new(after([10, 96, 0, 1], number).into(), 80),
        protocol: "tcp",
        endpoints: (0..endpoints)
            .map(|at| endpoint(number * endpoints + at))
            .collect(),
    };
    (0..services).map(service).collect()
}

fn after(first: [u8; 4], number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::from(first)) + number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sync_is_held_against_its_writes_and_against_rules() {
        let mut section = Section::default();
        let answer = json!({"rounds": [[2.0, 1.0, 0.5, 0.2, 5.0]]});
        add(&mut section, (1000, 100), &answer, (1000, 100), Ok(300.0));
        let values: Vec<_> = section
            .gates
            .iter()
            .map(|gate| (gate.value.unwrap().median, gate.is_met()))
            .collect();
        assert_eq!(
            values,
            [(0.5, Some(true)), (150.0, Some(true)), (5.0, Some(true))]
        );
        add(
            &mut section,
            (1000, 100),
            &answer,
            (100, 100),
            Err(anyhow::anyhow!("no nft")),
        );
        assert_eq!(section.gates[4].why, "no nft");
        assert_eq!(
            section.rows[3].missing["nft -f of 100 services x 100"],
            "no nft"
        );
        let mut section = Section::default();
        add(&mut section, (10, 100), &answer, (10, 100), Ok(300.0));
        assert!(
            section.gates.iter().all(|gate| gate.id == "G8"),
            "too small"
        );
    }

    #[test]
    fn a_part_of_the_rules_can_show_that_all_take_long_enough_and_never_that_they_do_not() {
        let gate = |seconds| {
            let mut section = Section::default();
            let answer = json!({"rounds": [[2.0, 1.0, 0.5, 0.2, 5.0]]});
            add(
                &mut section,
                (10_000, 100),
                &answer,
                part_of((10_000, 100)),
                Ok(seconds),
            );
            section.gates.swap_remove(1)
        };
        assert_eq!(part_of((10_000, 100)), (100, 100));
        assert_eq!(part_of((10, 100)), (10, 100));
        assert_eq!(gate(300.0).is_met(), Some(true));
        assert!(
            gate(300.0)
                .what
                .contains("nft -f of 100 services x 100 / duolb")
        );
        assert_eq!(gate(30.0).is_met(), None);
        assert!(gate(30.0).why.starts_with("a part takes 15 times as long"));
    }

    #[test]
    fn calls_for_a_change_are_held_against_its_writes() {
        let mut section = Section::default();
        add_calls(&mut section, (10, 100), &json!({"one": 5, "slice": 5}));
        let met: Vec<_> = section.gates.iter().map(Gate::is_met).collect();
        assert_eq!(met, [Some(false), Some(true)]);
        add_calls(&mut section, (10, 100), &json!({"missing": "no rights"}));
        assert_eq!(section.gates[2].why, "no rights");
    }

    #[test]
    fn a_change_is_held_against_that_of_services_as_large() {
        let medians = [
            ((10, 100), vec![2.0]),
            ((1000, 100), vec![2.2]),
            ((5000, 1), vec![0.1]),
        ];
        let gate = grown(&medians);
        assert_eq!(gate.value.unwrap().median, 1.1);
        assert_eq!(grown(&medians[..1]).is_met(), None);
    }

    #[test]
    fn no_endpoint_is_two_services() {
        let all = rules((3, 2));
        let mut endpoints: Vec<_> = all.iter().flat_map(|of| &of.endpoints).collect();
        endpoints.dedup();
        assert_eq!(endpoints.len(), 6);
    }
}
