//! The whole agent on manifests: memory, also after rollouts, and system calls for a change.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{DUOLB, NODE, Size, after, name};
use crate::{
    bench::{
        report::{Gate, Row, Section},
        usage::{Usage, bpf_calls},
    },
    lab::{AgentOptions, Lab, Node, Objects, interrupt},
};

/// G9's cluster.
pub const G9: Size = (10_000, 100);
pub const GROWN: &str = "memory after ten rollouts / before";
/// How often every endpoint is replaced (G9), and by what memory may have grown then.
const ROLLOUTS: u32 = 10;
const GROWTH: f64 = 1.05;
/// What an agent may take until it has synced, and until it has seen a change.
const PATIENCE: Duration = Duration::from_secs(600);
const CHANGE: Duration = Duration::from_secs(2);
/// How often it is asked, which takes a while by itself.
const LOOK: Duration = Duration::from_millis(250);
const RANGES: &str = "10.96.0.0/12";

/// What the agent came to.
pub struct Seen {
    usage: Usage,
    calls: usize,
    /// After the first rollout, and after all.
    rolled_out: Option<[Usage; 2]>,
}

/// Its rows and gates.
pub fn add(section: &mut Section, size: Size, seen: &Seen) {
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
        Row::new(
            format!("bpf(2) of the whole agent for a changed slice, {of}"),
            "calls",
            false,
        )
        .with(DUOLB, [calls]),
    );
    if let Some([first, last]) = seen.rolled_out {
        let grown = last.rss / seen.usage.rss;
        section.gates.push(Gate::on(
            "G9",
            format!("{GROWN}, {of}"),
            &[grown],
            GROWTH,
            false,
        ));
        section.rows.push(
            Row::new(format!("memory, rolled out, {of}"), "MB", false)
                .with("before", [seen.usage.rss])
                .with("by one rollout", [first.rss])
                .with("by ten", [last.rss]),
        );
    }
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
///
/// # Errors
/// If it does not start, does not serve what it is given, or `interrupted`.
pub fn measure(size: Size, duolb: &Path) -> Result<Seen> {
    let (services, endpoints) = size;
    let mut lab = Lab::builder()
        .node(Node::routed(NODE).endpoints(0))
        .build()?;
    let manifests = lab.dir().join("manifests");
    fs::create_dir(&manifests)?;
    let all = manifests.join("all.json");
    write_all(&all, size, 0)?;
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
    let rolled_out = if size == G9 {
        Some(roll_out(size, &lab, &all, pid)?)
    } else {
        None
    };
    Ok(Seen {
        usage,
        calls,
        rolled_out,
    })
}

/// All services but the one that changes alone, with endpoints that no other generation has.
fn write_all(file: &Path, size: Size, generation: u32) -> Result<()> {
    let (services, endpoints) = size;
    let all = (1..services).flat_map(|number| {
        // The one that changes alone has had some of the first generation's.
        let first = (generation * (services + 1) + number) * endpoints;
        objects(size, number, first)
    });
    write(file, &all.collect::<Vec<_>>())
}

/// Replaces every endpoint of every service, again and again; what the agent takes after the first time and the last.
fn roll_out(size: Size, lab: &Lab, all: &Path, pid: u32) -> Result<[Usage; 2]> {
    let mut seen = Vec::new();
    for generation in 1..=ROLLOUTS {
        interrupt::check()?;
        // What says that it is done says so in seconds.
        let before = synced_at(lab)?;
        let start = Instant::now();
        write_all(all, size, generation)?;
        while synced_at(lab)? == before {
            interrupt::check()?;
            ensure!(
                start.elapsed() < PATIENCE,
                "rollout {generation} is not served after {PATIENCE:?}"
            );
            thread::sleep(LOOK);
        }
        // Until what it has left behind is gone.
        thread::sleep(CHANGE);
        seen.push(Usage::of(pid)?);
    }
    let [first, .., last] = seen[..] else {
        bail!("there was one rollout");
    };
    // Each has been served, and not only read.
    let (services, endpoints) = size;
    let newest = after([16, 0, 0, 0], (ROLLOUTS * (services + 1) + 1) * endpoints);
    let served = lab.agent(NODE).duolb(&["service", "list", "-o", "json"])?;
    ensure!(
        served.contains(&format!("\"{newest}\"")),
        "the last rollout's endpoint {newest} is not served"
    );
    Ok([first, last])
}

/// When the maps last said what the manifests say.
fn synced_at(lab: &Lab) -> Result<Value> {
    let status = lab.agent(NODE).duolb(&["status", "-o", "json"])?;
    let status: Value = serde_json::from_str(&status).context("duolb status -o json")?;
    Ok(status["agent"]["synced_at"].clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_has_the_endpoints_that_it_is_to_have() {
        let [_, slice] = objects((3, 2), 1, 2);
        assert_eq!(slice["endpoints"][1]["addresses"][0], "16.0.0.3");
    }

    #[test]
    fn memory_may_not_have_grown_after_ten_rollouts() {
        let of = |rss| Usage {
            cpu: 0.0,
            rss,
            peak: rss,
        };
        let gate = |last| {
            let seen = Seen {
                usage: of(100.0),
                calls: 1,
                rolled_out: Some([of(104.0), of(last)]),
            };
            let mut section = Section::default();
            add(&mut section, (10, 100), &seen);
            section.gates.pop().unwrap().is_met()
        };
        assert_eq!([gate(104.0), gate(106.0)], [Some(true), Some(false)]);
    }
}
