//! Agents that come back with other maps, larger or of another version, or die on the way there: nothing is lost.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask::lab::{Agent, AgentOptions, Lab, Node, next_version};

use crate::{
    load::{Counts, Load},
    manifests::{Directory, frontends},
    needs_root,
    stream::who_answers,
};

const NODES: [&str; 2] = ["node-1", "node-2"];
const CLIENTS: [&str; 2] = ["client-1", "client-2"];

/// A routed and a bridged node with an endpoint each.
fn lab(directory: &Directory, args: &[&str]) -> Result<Lab> {
    directory.serve(&[(1, 10), (2, 10)])?;
    let mut lab = Lab::builder()
        .node(Node::routed("node-1").endpoints(1))
        .node(Node::bridged("node-2").endpoints(1))
        .build()?;
    let mut options = AgentOptions::from_env(directory.path())?;
    options.args = args.iter().map(|&arg| arg.to_owned()).collect();
    lab.start_agents(&options)?;
    Ok(lab)
}

/// Both clients talk while `trouble` happens, which gets what makes sure that they talk on.
fn lose_nothing(
    lab: &mut Lab,
    trouble: impl FnOnce(&mut Lab, &dyn Fn(&Lab) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let loads = CLIENTS
        .map(|client| Load::start(lab, client, &frontends()))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let go_on = |_: &Lab| loads.iter().try_for_each(Load::go_on);
    let result = go_on(lab)
        .and_then(|()| trouble(lab, &go_on))
        .and_then(|()| go_on(lab));
    for (load, client) in loads.into_iter().zip(CLIENTS) {
        let counts = load.finish(lab).with_context(|| client.to_owned())?;
        let Counts {
            transferred,
            connections,
            datagrams,
        } = counts;
        eprintln!("{client}: {counts:?}");
        ensure!(transferred > 1 << 18 && connections > 200 && datagrams > 200);
    }
    result
}

/// Ids and endpoints of every frontend, as the pins tell.
fn served(agent: &Agent) -> Result<Vec<String>> {
    let list: Value = serde_json::from_str(&agent.duolb(&["service", "list", "-o", "json"])?)?;
    let rows = list.as_array().context("a list")?;
    let row = |row: &Value| {
        format!(
            "{}:{}/{} {}",
            row["address"], row["port"], row["protocol"], row["endpoints"]
        )
    };
    Ok(rows.iter().map(row).collect())
}

/// Ends an agent, changes it and has it come back; what is served is what was served.
fn come_back(
    lab: &mut Lab,
    node: &str,
    kills: bool,
    change: impl Fn(&mut Agent) -> Result<()>,
) -> Result<()> {
    let agent = lab.agent_mut(node);
    let before = served(agent)?;
    if kills {
        agent.kill();
    } else {
        agent.stop()?;
    }
    change(agent)?;
    agent.start()?;
    agent.wait_ready()?;
    // Rule 93.
    let after = served(agent)?;
    ensure!(before == after, "{node}: {before:?} became {after:?}");
    who_answers(&lab.pod("client-1").netns, &frontends(), 2).map(drop)
}

/// What is pinned below the agent's directory, but for links.
fn generations(agent: &Agent) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for version in fs::read_dir(agent.bpffs())? {
        let version = version?;
        if version.file_name() == "links" {
            continue;
        }
        for maps in fs::read_dir(version.path())? {
            let maps = maps?;
            let [version, maps] = [version.file_name(), maps.file_name()];
            found.push(format!("{}/{}", version.display(), maps.display()));
        }
    }
    found.sort();
    Ok(found)
}

fn set_sizes(agent: &mut Agent, sizes: &[&str]) {
    let args = agent.args_mut();
    args.retain(|arg| !arg.starts_with("--max-"));
    args.extend(sizes.iter().map(|&size| size.to_owned()));
}

/// Each map that can have another size, and back again.
fn change_sizes(lab: &mut Lab, go_on: &dyn Fn(&Lab) -> Result<()>) -> Result<()> {
    let larger = [
        "--max-flows=300000",
        "--max-services=70000",
        "--max-slots=600000",
        "--max-affinity=70000",
        "--max-sockets=70000",
        "--max-source-ranges=70000",
    ];
    let smaller = [
        "--max-flows=60000",
        "--max-services=1000",
        "--max-slots=4000",
    ];
    for (kills, sizes) in [(false, &larger[..]), (true, &smaller), (false, &[])] {
        for node in NODES {
            come_back(lab, node, kills, |agent| {
                set_sizes(agent, sizes);
                Ok(())
            })?;
            let agent = lab.agent(node);
            let status: Value = serde_json::from_str(&agent.duolb(&["status", "-o", "json"])?)?;
            let flows = status["maps"].as_array().and_then(|maps| {
                maps.iter()
                    .find(|map| map["name"] == "FLOWS_V4")
                    .map(|map| map["size"].clone())
            });
            if let Some(wanted) = sizes.first().and_then(|size| size.split('=').nth(1)) {
                let flows = flows.context("no size of FLOWS_V4")?;
                ensure!(
                    flows.as_u64() == wanted.parse().ok(),
                    "{node}: {flows} flows, {wanted} wanted"
                );
            }
            let left = generations(agent)?;
            ensure!(left.len() == 1, "{node}: {left:?}");
            go_on(lab)?;
        }
    }
    Ok(())
}

/// To the next version and back, and that twice, the second time by force.
fn change_version(lab: &mut Lab, next: &Path, go_on: &dyn Fn(&Lab) -> Result<()>) -> Result<()> {
    let this = AgentOptions::from_env("")?.duolb;
    for (binary, kills, version) in [
        (next, false, "v5/maps"),
        (&this, false, "v4/maps"),
        (next, true, "v5/maps"),
        (&this, true, "v4/maps"),
    ] {
        for node in NODES {
            come_back(lab, node, kills, |agent| {
                agent.set_duolb(binary);
                Ok(())
            })?;
            let left = generations(lab.agent(node))?;
            ensure!(left == [version], "{node}: {left:?}, not only {version}");
            go_on(lab)?;
        }
    }
    Ok(())
}

#[test]
fn maps_of_other_sizes_lose_nothing() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    lose_nothing(&mut lab(&directory, &[])?, change_sizes)
}

#[test]
fn an_upgrade_to_another_schema_and_back_loses_nothing() -> Result<()> {
    needs_root!();
    let Some(next) = next_version() else {
        return Ok(());
    };
    let directory = Directory::new()?;
    let change =
        |lab: &mut Lab, go_on: &dyn Fn(&Lab) -> Result<()>| change_version(lab, &next, go_on);
    lose_nothing(&mut lab(&directory, &[])?, change)
}

#[test]
fn an_upgrade_to_another_schema_and_back_loses_nothing_with_clsact_either() -> Result<()> {
    needs_root!();
    let Some(next) = next_version() else {
        return Ok(());
    };
    let directory = Directory::new()?;
    let change =
        |lab: &mut Lab, go_on: &dyn Fn(&Lab) -> Result<()>| change_version(lab, &next, go_on);
    lose_nothing(&mut lab(&directory, &["--tc-mode", "clsact"])?, change)
}

/// Killed after so many milliseconds, over and over, each time on the way to other sizes.
#[test]
fn an_agent_that_is_killed_anywhere_in_a_switch_leaves_what_the_next_one_finishes() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    lose_nothing(&mut lab(&directory, &[])?, |lab, go_on| {
        let node = "node-2";
        let mut left = Vec::new();
        for step in 0..16_u64 {
            let agent = lab.agent_mut(node);
            agent.kill();
            set_sizes(agent, &[&format!("--max-flows={}", 100_000 + step)]);
            agent.start()?;
            thread::sleep(Duration::from_millis(60 * step));
            agent.kill();
            left.extend(generations(agent)?);
            go_on(lab)?;
        }
        eprintln!("killed with these left: {left:?}");
        let agent = lab.agent_mut(node);
        agent.start()?;
        agent.wait_ready()?;
        // What is in the middle is finished first; the next start has nothing in its way.
        agent.stop()?;
        agent.start()?;
        agent.wait_ready()?;
        let left = generations(agent)?;
        ensure!(left.len() == 1, "{left:?}");
        go_on(lab)
    })
}

#[test]
fn a_map_with_more_in_it_than_the_set_size_keeps_its_own() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    let mut lab = lab(&directory, &[])?;
    come_back(&mut lab, "node-1", false, |agent| {
        set_sizes(agent, &["--max-services=1", "--max-slots=1"]);
        Ok(())
    })?;
    let log = lab.agent("node-1").log();
    for map in ["SLOTS_V4", "SLOTS_V6", "SERVICES", "TRAFFIC"] {
        let is_said = log
            .lines()
            .any(|line| line.contains("the map keeps its size") && line.contains(map));
        ensure!(is_said, "nothing is said of {map}: {log}");
    }
    Ok(())
}
