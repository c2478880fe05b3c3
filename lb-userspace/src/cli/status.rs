//! `duolb status`.

use std::collections::BTreeMap;

use lb_common::{
    address::Family,
    flow::{
        state::State,
        stats::{Churn, FlowStats},
    },
    tables::SCHEMA_VERSION,
};
use serde::Serialize;

mod devices;

use self::devices::{DeviceRow, Skipped};
use super::{
    arguments::OutputArguments,
    conntrack::{self, TopRow},
    output::{print, table},
};
use crate::datapath::{
    cgroup,
    features::{self, Features},
    pins::Pins,
    view::{MapView, View},
};

/// From how full on a flow table is short of room, in percent.
const SHORT_PERCENT: u64 = 85;
/// How many clients are named then.
const TOP: usize = 3;

/// Everything `duolb status` knows.
#[derive(Debug, Serialize)]
struct Status {
    agent: Agent,
    /// What is not served as it should be, in words; of very many only some.
    problems: Vec<String>,
    kernel: Kernel,
    schema: u32,
    pins: String,
    devices: Vec<DeviceRow>,
    /// Whether the node's own processes are served.
    host_clients: bool,
    /// Devices without the programs.
    skipped: Vec<Skipped>,
    frontends: BTreeMap<&'static str, usize>,
    flows: Vec<FlowsRow>,
    /// Clients with most flows, when room is short.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_clients: Vec<TopRow>,
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
    /// Number of things that are not served as they should be.
    problems: u32,
    /// First and last port that SNAT gives to clients.
    snat_ports: [u16; 2],
}

/// The flow table of a family.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FlowsRow {
    family: &'static str,
    /// By state, as of the last sweep; none if there has been none.
    states: BTreeMap<&'static str, u32>,
    entries: u32,
    size: u32,
    evicted: u64,
    expired: u64,
    /// Seconds since 1970, 0: never.
    swept_at: u64,
    /// Whether it is so full that flows may have to make room.
    is_short: bool,
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
        let family = Family::of(&frontend.address).name();
        *frontends.entry(family).or_default() += 1;
    }
    let maps = view.maps()?;
    let flows = flow_rows(&view.flow_stats()?, &maps);
    let top_clients = if flows.iter().any(|row| row.is_short) {
        conntrack::top_clients(pins.clone(), TOP)?
    } else {
        Vec::new()
    };
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
        problems: view.problems()?,
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
        flows,
        top_clients,
        maps: maps
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

fn flow_rows(stats: &[(Family, FlowStats, Churn)], maps: &[MapView]) -> Vec<FlowsRow> {
    let size = |name| {
        let map = maps.iter().find(|map| map.name == name);
        map.map_or(0, |map| map.size)
    };
    let row = |(family, stats, _): &(Family, FlowStats, Churn)| {
        let size = size(match family {
            Family::V4 => "FLOWS_V4",
            Family::V6 => "FLOWS_V6",
        });
        let states = State::ALL.into_iter().zip(stats.flows);
        FlowsRow {
            family: family.name(),
            states: states
                .map(|(state, count)| (state.label(), count))
                .collect(),
            entries: stats.entries,
            size,
            evicted: stats.evicted,
            expired: stats.expired,
            swept_at: stats.swept_at,
            is_short: u64::from(stats.entries) * 100 >= u64::from(size) * SHORT_PERCENT,
        }
    };
    stats.iter().map(row).collect()
}

/// What there is to say of a flow table.
fn flows_text(row: &FlowsRow) -> String {
    let FlowsRow { family, size, .. } = row;
    if row.swept_at == 0 {
        return format!("Flows      {family}: not counted yet, room for {size} entries\n");
    }
    let flows: u32 = row.states.values().sum();
    let mut text = format!(
        "Flows      {family}: {flows} ({} of {size} entries), {} entries evicted\n",
        row.entries, row.evicted
    );
    if row.is_short {
        text +=
            "           room is short: idle flows make room for new ones, --max-flows gives more\n";
    }
    text
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
        text += &format!("Problems   {}\n", agent.problems);
        for problem in &status.problems {
            text += &format!("           {problem}\n");
        }
        if status.problems.len() < agent.problems as usize {
            text += "           ... (the agent's log names them all)\n";
        }
    }
    text += &format!(
        "Frontends  {} IPv4, {} IPv6\n",
        families["IPv4"], families["IPv6"]
    );
    text += match status.host_clients {
        true => "Processes  of the node itself are served\n",
        false => "Processes  of the node itself are not served (the agent's log says why)\n",
    };
    for row in &status.flows {
        text += &flows_text(row);
    }
    for client in &status.top_clients {
        text += &format!(
            "           {} flows of client {}\n",
            client.flows, client.name
        );
    }
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
