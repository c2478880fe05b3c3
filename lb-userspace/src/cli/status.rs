//! `duolb status`.

use std::collections::BTreeMap;

use lb_common::tables::SCHEMA_VERSION;
use serde::Serialize;

mod devices;

use self::devices::{DeviceRow, Skipped};
use super::{
    arguments::OutputArguments,
    output::{print, table},
};
use crate::datapath::{
    cgroup,
    features::{self, Features},
    pins::Pins,
    view::View,
};

/// Everything `duolb status` knows.
#[derive(Debug, Serialize)]
struct Status {
    agent: Agent,
    kernel: Kernel,
    schema: u32,
    pins: String,
    devices: Vec<DeviceRow>,
    /// Whether the node's own processes are served.
    host_clients: bool,
    /// Devices without the programs.
    skipped: Vec<Skipped>,
    frontends: BTreeMap<&'static str, usize>,
    maps: Vec<MapRow>,
    verdicts: BTreeMap<&'static str, u64>,
}

/// The agent's part.
#[derive(Debug, Serialize)]
struct Agent {
    /// Whether one is running.
    running: bool,
    /// Of the one that ran last.
    pid: u32,
    /// Whether it has brought the maps in step with its sources since it started.
    synced: bool,
    /// Seconds since 1970, 0: never.
    synced_at: u64,
    started_at: u64,
    /// Objects it cannot serve as they are.
    problems: u32,
    /// First and last port that SNAT gives to clients.
    snat_ports: [u16; 2],
}

/// The kernel's part.
#[derive(Debug, Serialize)]
struct Kernel {
    release: String,
    /// What is done otherwise because it lacks something.
    fallbacks: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct MapRow {
    name: &'static str,
    used: Option<usize>,
    size: u32,
}

/// Shows what is in the kernel.
pub(super) fn run(pins: Pins, output: OutputArguments) -> anyhow::Result<()> {
    let view = View::open(pins.clone())?;
    let state = view.agent()?;
    let running = pins.is_locked();
    let mut frontends: BTreeMap<_, usize> = BTreeMap::from([("IPv4", 0), ("IPv6", 0)]);
    for frontend in view.frontends()? {
        let family = lb_common::address::Family::of(&frontend.address).name();
        *frontends.entry(family).or_default() += 1;
    }
    let (devices, skipped) = devices::rows(view.devices()?)?;
    let status = Status {
        agent: Agent {
            running,
            pid: state.pid,
            synced: running && state.synced_at != 0,
            synced_at: state.synced_at,
            started_at: state.started_at,
            problems: state.problems,
            snat_ports: state.snat,
        },
        kernel: Kernel {
            release: features::release(),
            fallbacks: Features::of_kernel().fallbacks(),
        },
        schema: SCHEMA_VERSION,
        pins: pins.dir().display().to_string(),
        host_clients: cgroup::is_attached(&pins),
        devices,
        skipped,
        frontends,
        maps: view
            .maps()?
            .into_iter()
            .map(|map| MapRow {
                name: map.name,
                used: map.used,
                size: map.size,
            })
            .collect(),
        verdicts: view
            .verdicts()?
            .into_iter()
            .map(|(verdict, count)| (verdict.label(), count))
            .collect(),
    };
    print(output, &status, text)
}

fn text(status: &Status) -> String {
    let Status { agent, .. } = status;
    let state = match (agent.running, agent.synced) {
        (true, true) => format!("running (pid {}), in step with its sources", agent.pid),
        (true, false) => format!(
            "running (pid {}), not yet in step with its sources",
            agent.pid
        ),
        (false, _) => "not running; what is in the kernel goes on serving".to_owned(),
    };
    let families = &status.frontends;
    let mut text = format!("Agent      {state}\n");
    text += &format!("Kernel     {}\n", status.kernel.release);
    for fallback in &status.kernel.fallbacks {
        text += &format!("           {fallback}\n");
    }
    if agent.problems > 0 {
        text += &format!(
            "Problems   {} (the agent's log names them)\n",
            agent.problems
        );
    }
    text += &format!(
        "Frontends  {} IPv4, {} IPv6\n",
        families["IPv4"], families["IPv6"]
    );
    text += match status.host_clients {
        true => "Processes  of the node itself are served\n",
        false => "Processes  of the node itself are not served (the agent's log says why)\n",
    };
    let [first, last] = agent.snat_ports;
    if last != 0 {
        text += &format!("SNAT       ports {first}-{last}\n");
    }
    text += &format!("Pins       {} (schema {})\n\n", status.pins, status.schema);
    text += &devices::tables(&status.devices, &status.skipped);
    text += "\n";
    let maps = status.maps.iter().map(|map| {
        let used = map
            .used
            .map_or_else(|| "-".to_owned(), |used| used.to_string());
        [map.name.to_owned(), used, map.size.to_string()]
    });
    text += &table(["MAP", "USED", "SIZE"], maps);
    text += "\n";
    let verdicts = status
        .verdicts
        .iter()
        .map(|(label, count)| [(*label).to_owned(), count.to_string()]);
    text + &table(["VERDICT", "PACKETS"], verdicts)
}
