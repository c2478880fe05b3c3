//! What the whole agent costs in a large cluster: CPU of the first sync, bpf(2) calls for a changed slice, memory
//! after rollouts. Real programs and maps; the API server is a process of its own, so that its CPU does not count.
//!
//! ```text
//! CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo build --release -p lb-userspace
//! DUOLB_BIN=target/release/duolb cargo test -p xtask --test cluster -- --ignored --nocapture --test-threads 1 scale::
//! ```
//!
//! As root, with strace. They print what they found and fail if it is more than what the project promises.

mod api;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xtask::{
    bench::usage::{Usage, bpf_calls},
    lab::{AgentOptions, Lab, Node, Objects},
};

use self::api::Api;
use crate::{
    http::{self, METRICS},
    needs_root,
    objects::NODE,
};

/// How long anything may take, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(600);
/// Services whose slices are replaced before the agent is waited for: the API server's double keeps them twice.
const CHUNK: usize = 250;

struct World {
    lab: Lab,
    api: Api,
    /// The agent's start until the programs are on the devices.
    start: Usage,
    /// The first sync, from there.
    first: Usage,
    took: Duration,
}

impl World {
    fn start(services: usize, endpoints: usize) -> Result<Self> {
        let mut lab = Lab::builder()
            .node(Node::routed(NODE).endpoints(0))
            .build()?;
        let api = Api::start(lab.outside(), services, endpoints)?;
        let kubeconfig = lab.dir().join("kubeconfig");
        let url = &api.url;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: '{url}'}}}}]\nusers: [{{name: u, user: {{}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        std::fs::write(&kubeconfig, text)?;
        let mut options = AgentOptions::from_env("")?;
        options.objects = Objects::Kubeconfig(kubeconfig);
        options.args = ["--max-slots", "2097152", "--max-flows", "65536"]
            .map(str::to_owned)
            .to_vec();
        lab.add_agents(&options);
        lab.agent_mut(NODE).start()?;
        let in_place = || Ok(lab.agent(NODE).log().contains("the datapath is in place"));
        wait("it starts", Duration::from_millis(2), in_place)?;
        let begin = Instant::now();
        let pid = lab.agent(NODE).pid().context("it runs")?;
        let start = Usage::of(pid)?;
        let synced = || {
            let status = lab.agent(NODE).duolb(&["status", "-o", "json"])?;
            let status: serde_json::Value = serde_json::from_str(&status)?;
            Ok(status["agent"]["synced"] == true)
        };
        wait("it has synced", Duration::from_millis(100), synced)?;
        let took = begin.elapsed();
        let usage = Usage::of(pid)?;
        let first = Usage {
            cpu: usage.cpu - start.cpu,
            ..usage
        };
        Ok(Self {
            lab,
            api,
            start,
            first,
            took,
        })
    }

    fn pid(&self) -> Result<u32> {
        self.lab.agent(NODE).pid().context("it runs")
    }

    /// The sum of a metric's samples.
    fn metric(&self, name: &str) -> Result<f64> {
        let (_, text) = http::get(self.lab.node(NODE), METRICS, "/metrics")?;
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with(['{', ' ']).then_some(rest)
        });
        let mut values =
            samples.filter_map(|sample| sample.rsplit(' ').next()?.parse::<f64>().ok());
        let first = values.next().with_context(|| format!("no metric {name}"))?;
        Ok(first + values.sum::<f64>())
    }

    /// Changes of slices that the agent has taken in, and how many of them it has not written yet.
    fn slices(&self) -> Result<[f64; 2]> {
        let metric = |what| {
            self.metric(&format!(
                "kubeproxy_sync_proxy_rules_endpoint_changes_{what}"
            ))
        };
        Ok([metric("total")?, metric("pending")?])
    }

    /// Replaces every endpoint.
    fn roll_out(&mut self, generation: usize) -> Result<()> {
        for from in (0..self.api.services).step_by(CHUNK) {
            let to = (from + CHUNK).min(self.api.services);
            let [before, _] = self.slices()?;
            self.api
                .order(&format!("rollout {generation} {from} {to}"))?;
            #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
            let wanted = before + (to - from) as f64;
            wait("it is written", Duration::from_millis(200), || {
                let [seen, pending] = self.slices()?;
                Ok(seen >= wanted && pending == 0.0)
            })?;
        }
        Ok(())
    }
}

fn wait(what: &str, pause: Duration, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is()? {
        ensure!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        thread::sleep(pause);
    }
    Ok(())
}

#[test]
#[ignore = "takes a minute and an optimised agent; see the module"]
fn first_sync_of_5000_services_with_50_endpoints_takes_less_than_3_seconds_of_cpu() -> Result<()> {
    needs_root!();
    let mut world = World::start(5000, 50)?;
    // Whatever is left to do at the start is done.
    thread::sleep(Duration::from_secs(2));
    let operations = world.metric("duolb_map_operations_total")?;
    let calls = bpf_calls(world.pid()?, || {
        world.api.order("change")?;
        thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    let operations = world.metric("duolb_map_operations_total")? - operations;
    let World {
        start, first, took, ..
    } = &world;
    println!("5,000 services x 50 endpoints");
    println!(
        "  start, until programs are attached  {:8.2} s of CPU",
        start.cpu
    );
    println!(
        "  first sync                          {:8.2} s of CPU, {:.2} s in all",
        first.cpu,
        took.as_secs_f64()
    );
    println!(
        "  memory after it                     {:8.1} MB, {:.1} at the peak",
        first.rss, first.peak
    );
    println!(
        "  one changed slice                   {calls:8} bpf(2) calls, {operations} operations on maps"
    );
    ensure!(first.cpu < 3.0, "{} s of CPU for the first sync", first.cpu);
    ensure!(operations > 0.0 && calls > 0, "nothing was changed");
    ensure!(calls <= 12, "{calls} bpf(2) calls for one changed slice");
    Ok(())
}

#[test]
#[ignore = "takes minutes and an optimised agent; see the module"]
fn memory_at_10000_services_with_100_endpoints_stays_below_225_mb_over_ten_rollouts() -> Result<()>
{
    needs_root!();
    let mut world = World::start(10_000, 100)?;
    let pid = world.pid()?;
    println!("10,000 services x 100 endpoints");
    let World { first, took, .. } = &world;
    println!(
        "  first sync  {:8.2} s of CPU, {:.2} s in all",
        first.cpu,
        took.as_secs_f64()
    );
    println!("  rollouts   RSS (MB)   peak (MB)   CPU (s)");
    thread::sleep(Duration::from_secs(5));
    let settled = Usage::of(pid)?;
    let print = |rollouts, Usage { cpu, rss, peak }: Usage| {
        println!("  {rollouts:8} {rss:10.1} {peak:11.1} {cpu:9.2}");
    };
    print(0, settled);
    let mut last = settled;
    for generation in 1..=10 {
        world.roll_out(generation)?;
        last = Usage::of(pid)?;
        print(generation, last);
    }
    thread::sleep(Duration::from_secs(5));
    last.rss = last.rss.min(Usage::of(pid)?.rss);
    ensure!(
        settled.rss <= 225.0,
        "{} MB after the first sync",
        settled.rss
    );
    ensure!(last.rss <= 225.0, "{} MB after ten rollouts", last.rss);
    Ok(())
}
