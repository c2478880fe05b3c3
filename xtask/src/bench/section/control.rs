//! Section `control`: what it takes until the kernel does what the objects say.
//!
//! In one thread, without a source (lb-userspace/tests/programs/bench/control.rs): first sync, restart, changes, beside the
//! same writes by themselves. And the whole agent on manifests: memory, and system calls for a change.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{
    bench::{
        kube_proxy::{Service, nftables},
        programs::{Programs, column},
        report::{Gate, Row, Section},
        usage::{Usage, bpf_calls},
    },
    lab::{AgentOptions, Lab, Node, Objects, interrupt},
};

/// A cluster of so many services with so many endpoints each.
type Size = (u32, u32);

/// Of a quick run; the first is what changes are held against.
pub const QUICK: &[Size] = &[(10, 100), (1000, 100), (10_000, 1)];
/// Of a full one: G7's, G8's, kube-proxy's bad case.
pub const FULL: &[Size] = &[(10, 100), (10_000, 100), (100_000, 1), (5_000, 50)];

/// Endpoints from which on a first sync is held against anything.
const LARGE: u32 = 10_000;
/// The largest rule set that is loaded.
const MOST_RULES: u32 = 20_000;
/// What an agent may take until it has synced, and until it has seen a change.
const PATIENCE: Duration = Duration::from_secs(600);
const CHANGE: Duration = Duration::from_secs(2);
/// G9's cluster, and the calls of G8: three for maps, and what goes with them (marks, the agent's own word).
const G9: Size = (10_000, 100);

const DUOLB: &str = "duolb";
const WRITES: &str = "the writes alone";
const NFT: &str = "nft -f";
const NODE: &str = "node-1";
const RANGES: &str = "10.96.0.0/12";

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
        let nft = rule_seconds(size);
        add(&mut section, size, &answer, nft);
        interrupt::check()?;
        match agent(size, duolb) {
            Ok(seen) => add_agent(&mut section, size, &seen),
            Err(error) => section.notes.push(format!(
                "the agent at {}: not measured: {error:#}",
                name(size)
            )),
        }
    }
    section.gates.push(grown(&medians));
    if !sizes.contains(&G9) {
        let why = "a quick run has no million endpoints: --full";
        section
            .gates
            .push(Gate::unknown("G9", format!("memory at {}", name(G9)), why));
    }
    let why =
        "`cargo test -p xtask --test cluster -- --ignored scale::` does, against an API server";
    section
        .gates
        .push(Gate::unknown("G9", "no growth after ten rollouts", why));
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
fn add(section: &mut Section, size: Size, answer: &Value, nft: Result<f64>) {
    let [first, raw, restart, median, slow] = [0, 1, 2, 3, 4].map(|at| column(answer, at));
    let is_large = size.0 * size.1 >= LARGE;
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
    let what = format!("{}: {NFT} / {DUOLB}", row.what);
    match nft {
        Ok(seconds) => {
            // It is loaded once: too slow for more.
            let rounds = vec![seconds; first.len()];
            gates.push(Gate::on("G7", what, &ratios(&rounds), 100.0, true));
            row.rounds.insert(NFT.to_owned(), rounds);
        }
        Err(error) => {
            let why = format!("{error:#}");
            gates.push(Gate::unknown("G7", what, &*why));
            row.missing.insert(NFT.to_owned(), why);
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

/// What the agent came to.
struct Seen {
    usage: Usage,
    calls: usize,
}

fn add_agent(section: &mut Section, size: Size, seen: &Seen) {
    let of = name(size);
    if size == G9 {
        let what = format!("memory in MB, {of}");
        section
            .gates
            .push(Gate::on("G9", what, &[seen.usage.rss], 225.0, false));
    }
    section.rows.push(
        Row::new(format!("memory, {of}"), "MB", false)
            .with("after the first sync", [seen.usage.rss])
            .with("at its peak", [seen.usage.peak]),
    );
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let calls = seen.calls as f64;
    section.rows.push(
        Row::new(format!("bpf(2) for a changed slice, {of}"), "calls", false).with(DUOLB, [calls]),
    );
    // Three for maps; the Service's health, what the agent says of itself and its looking for flows are others.
    let what = format!("bpf(2) calls for a changed slice, {of}");
    section
        .gates
        .push(Gate::on("G8", what, &[calls], 12.0, false));
}

/// Seconds that nft takes for the same services, in the form that kube-proxy writes.
fn rule_seconds(size: Size) -> Result<f64> {
    let (services, endpoints) = size;
    if services * endpoints > MOST_RULES {
        anyhow::bail!("so many rules take minutes");
    }
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

/// A Service and its slice as the API server has them.
fn objects((_, endpoints): Size, number: u32, first: u32) -> [Value; 2] {
    let (name, vip) = (format!("s-{number}"), after([10, 96, 0, 1], number));
    let addresses = (first..first + endpoints).map(|at| after([16, 0, 0, 0], at));
    let listed: Vec<Value> = addresses.map(|ip| json!({"addresses": [ip]})).collect();
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "bench"},
            "spec": {
                "clusterIP": vip, "clusterIPs": [vip],
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-1"), "namespace": "bench",
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": listed,
        }),
    ]
}

fn write(file: &Path, items: &[Value]) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    // Beside the directory, so that it is never read by halves.
    let draft = file
        .parent()
        .and_then(Path::parent)
        .context("a directory")?
        .join("draft");
    fs::write(&draft, list.to_string())?;
    fs::rename(draft, file).with_context(|| file.display().to_string())
}

/// The agent on manifests: all services in one file, the one that changes in another.
fn agent(size: Size, duolb: &Path) -> Result<Seen> {
    let (services, endpoints) = size;
    let mut lab = Lab::builder()
        .node(Node::routed(NODE).endpoints(0))
        .build()?;
    let manifests = lab.dir().join("manifests");
    fs::create_dir(&manifests)?;
    let all: Vec<Value> = (1..services)
        .flat_map(|number| objects(size, number, number * endpoints))
        .collect();
    write(&manifests.join("all.json"), &all)?;
    drop(all);
    let one = manifests.join("one.json");
    write(&one, &objects(size, 0, 0))?;
    let slots = (services * endpoints * 2 + 1024).to_string();
    let most = (services + 1024).to_string();
    let args = [
        "--max-services",
        &most,
        "--max-slots",
        &slots,
        "--max-flows",
        "65536",
    ];
    lab.add_agents(&AgentOptions {
        duolb: duolb.to_owned(),
        objects: Objects::Manifests(manifests),
        service_ranges: RANGES,
        args: args.map(str::to_owned).into(),
    });
    lab.agent_mut(NODE).start()?;
    lab.agent(NODE).wait_ready_for(PATIENCE)?;
    // Whatever is left to do at the start is done.
    thread::sleep(CHANGE);
    let pid = lab.agent(NODE).pid().context("it runs")?;
    let usage = Usage::of(pid)?;
    let calls = bpf_calls(pid, || {
        write(&one, &objects(size, 0, services * endpoints))?;
        thread::sleep(CHANGE);
        Ok(())
    })?;
    Ok(Seen { usage, calls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_held_against_its_writes_and_against_rules() {
        let mut section = Section::default();
        let answer = json!({"rounds": [[2.0, 1.0, 0.5, 0.2, 5.0]]});
        add(&mut section, (1000, 100), &answer, Ok(300.0));
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
            Err(anyhow::anyhow!("no nft")),
        );
        assert_eq!(section.gates[4].why, "no nft");
        assert_eq!(section.rows[3].missing[NFT], "no nft");
        let mut section = Section::default();
        add(&mut section, (10, 100), &answer, Ok(300.0));
        assert!(
            section.gates.iter().all(|gate| gate.id == "G8"),
            "too small"
        );
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
        let [_, slice] = objects((3, 2), 1, 2);
        assert_eq!(slice["endpoints"][1]["addresses"][0], "16.0.0.3");
    }
}
