//! What 5,000 services with 50 endpoints each cost the agent: CPU and memory of source and control plane.
//!
//! ```text
//! cargo test --release -p lb-userspace --test kube -- --ignored --nocapture scale::first_sync
//! DUOLB_SERVICES=10000 DUOLB_ENDPOINTS=100 ...    the same for another size
//! ```
//!
//! The double runs in a process of its own, so that what is measured is the agent's alone.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    agent::{Agent, options},
    double::Double,
    objects::{NODE, node, service, slice},
};

/// Set in the process that is the double.
const ROLE: &str = "DUOLB_SCALE_DOUBLE";

fn size(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
#[ignore = "takes a while and only prints"]
fn first_sync() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if env::var_os(ROLE).is_some() {
        runtime.block_on(serve());
        return;
    }
    let mut double = Command::new(env::current_exe().expect("this binary"))
        .args(["--ignored", "--exact", "--nocapture", "scale::first_sync"])
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the same binary");
    let lines = BufReader::new(double.stdout.take().expect("piped")).lines();
    let url = lines
        .map(|line| line.expect("a line"))
        .find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()))
        .expect("an address");
    runtime.block_on(measure(&url));
    let _ = double.stdin.take().expect("piped").write_all(b"done\n");
    double.wait().expect("it ends");
}

async fn serve() {
    let double = Double::start().await;
    double.put(&node(NODE, "a"));
    for number in 0..size("DUOLB_SERVICES", 5000) {
        let name = format!("service-{number}");
        double.put(&service(
            &name,
            &format!("{}.{}", number / 250, number % 250 + 1),
        ));
        let endpoints = 0..size("DUOLB_ENDPOINTS", 50);
        let addresses: Vec<_> = endpoints
            .map(|host| format!("10.{}.{}.{}", number / 250 + 100, number % 250, host + 1))
            .collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        double.put(&slice(&format!("{name}-x7k2p"), &name, &addresses));
    }
    // Nobody watches yet.
    double.forget_seen();
    println!("listening on {}", double.url());
    let mut line = String::new();
    let wait = tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line));
    wait.await.expect("it is read").expect("it is read");
}

async fn measure(url: &str) {
    let (cpu, rss, begin) = (cpu_seconds(), rss_megabytes("VmRSS"), Instant::now());
    let mut agent = Agent::start(&options(url.to_owned())).await;
    while !agent.is_complete() {
        agent.absorb_for(Duration::from_millis(50)).await;
    }
    let (cpu, passed) = (cpu_seconds() - cpu, begin.elapsed().as_secs_f64());
    let (now, peak) = (rss_megabytes("VmRSS"), rss_megabytes("VmHWM"));
    let meaning = agent.meaning();
    let endpoints: usize = meaning
        .frontends
        .values()
        .map(|(_, ways)| ways.endpoints.len())
        .sum();
    println!(
        "{} frontends lead to {endpoints} endpoints",
        meaning.frontends.len()
    );
    println!(
        "first sync: {cpu:.2} s of CPU, {passed:.2} s in all; RSS {rss} MB before, {now} MB now, {peak} MB at the \
         peak (the maps in memory are a part of it)"
    );
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("it is there");
    let (_, fields) = stat.rsplit_once(')').expect("the name's end");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u32 = fields[11..13]
        .iter()
        .map(|text| text.parse::<u32>().expect("ticks"))
        .sum();
    // USER_HZ is 100 on every architecture that Linux runs duolb on.
    f64::from(ticks) / 100.0
}

fn rss_megabytes(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("it is there");
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .expect("a line");
    let kilobytes: u64 = line
        .split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number");
    kilobytes / 1024
}
