//! Agents that die and come back while traffic flows: nothing may be lost.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use serde_json::Value;
use xtask::lab::patience::stretched;
use xtask::lab::{AgentOptions, Lab, Node};

use crate::{
    manifests::{self, Directory, frontends},
    needs_root,
    stream::{Streams, who_answers},
};

const NODES: [&str; 2] = ["node-1", "node-2"];

#[test]
fn kill_and_restart_under_traffic_lose_nothing() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[(1, 10), (1, 11), (2, 10), (2, 11)])?;
    lose_nothing(manifests::lab(&directory)?)
}

#[test]
fn kill_and_restart_lose_nothing_with_clsact_either() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[(1, 10), (2, 10)])?;
    let mut lab = Lab::builder()
        .node(Node::routed("node-1").endpoints(1))
        .node(Node::bridged("node-2").endpoints(1))
        .build()?;
    let mut options = AgentOptions::from_env(directory.path())?;
    options.args = ["--tc-mode", "clsact"].map(str::to_owned).to_vec();
    lab.start_agents(&options)?;
    lose_nothing(lab)
}

fn lose_nothing(mut lab: Lab) -> Result<()> {
    let clients = ["client-1", "client-2"];
    let streams = clients
        .map(|client| Streams::start(&lab.pod(client).netns, &frontends()))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let all = |more| {
        streams
            .iter()
            .try_for_each(|streams: &Streams| streams.wait_rounds(more))
    };
    all(200)?;
    for node in NODES {
        let before = frontend_ids(&lab, node)?;
        lab.agent_mut(node).kill();
        // Without an agent the kernel goes on, for new connections as well.
        all(200)?;
        who_answers(&lab.pod("client-1").netns, &frontends(), 4)?;
        ensure!(
            frontend_ids(&lab, node)? == before,
            "{node}: the pins changed without an agent"
        );
        lab.agent_mut(node).start()?;
        lab.agent(node).wait_ready()?;
        all(200)?;
        lab.agent_mut(node).stop()?;
        lab.agent_mut(node).start()?;
        all(200)?;
        lab.agent(node).wait_ready()?;
        // Rule 93: the same ids and the same addresses as before.
        ensure!(
            frontend_ids(&lab, node)? == before,
            "{node}: a restart changed frontends"
        );
        who_answers(&lab.pod("client-2").netns, &frontends(), 4)?;
    }
    let mut stalled = false;
    for streams in streams {
        for (name, done) in streams.finish()? {
            ensure!(done.is_whole(100), "{name}: {done:?}");
            ensure!(
                done.slowest < stretched(Duration::from_secs(1)),
                "{name}: {done:?}"
            );
            // UDP sends nothing twice: an answer that took long was not lost, the machine was busy.
            stalled |=
                name.starts_with("UDP") && done.slowest > stretched(Duration::from_millis(150));
        }
    }
    let resent = lab.exec(
        &lab.pod("client-1").netns,
        &["nstat", "-asz", "TcpRetransSegs"],
    )?;
    // TCP repairs a loss, but counts it; it also sends again, after 200 ms, what a busy machine held up.
    ensure!(
        stalled || resent.contains("TcpRetransSegs                  0"),
        "segments were lost: {resent}"
    );
    Ok(())
}

/// The frontends with their endpoints, as the pins tell.
fn frontend_ids(lab: &Lab, node: &str) -> Result<BTreeMap<String, String>> {
    let list: Value =
        serde_json::from_str(&lab.agent(node).duolb(&["service", "list", "-o", "json"])?)?;
    let rows = list.as_array().cloned().unwrap_or_default();
    Ok(rows
        .iter()
        .map(|row| {
            (
                format!("{}{}{}", row["address"], row["port"], row["protocol"]),
                row["endpoints"].to_string(),
            )
        })
        .collect())
}

#[test]
fn what_was_removed_while_no_agent_ran_is_pruned_after_the_first_sync() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[(1, 10)])?;
    let assigned = "apiVersion: v1\nkind: Service\nmetadata: {name: other}\nspec:\n  selector: {a: b}\n  ports: [{port: 1}]\n";
    directory.write("other.yaml", assigned)?;
    let mut lab = manifests::lab(&directory)?;
    let get = |lab: &Lab| {
        lab.agent("node-1")
            .duolb(&["service", "get", "other", "-o", "json"])
    };
    let before: Value = serde_json::from_str(&get(&lab)?)?;
    lab.agent_mut("node-1").stop()?;
    std::fs::remove_file(directory.path().join("web.yaml"))?;
    // The assigned address outlives the restart, and a new file before it in the order of names.
    directory.write("a-first.yaml", &assigned.replace("other", "a-first"))?;
    lab.agent_mut("node-1").start()?;
    lab.agent("node-1").wait_ready()?;
    let after: Value = serde_json::from_str(&get(&lab)?)?;
    ensure!(
        before["clusterIPs"] == after["clusterIPs"],
        "{before} became {after}"
    );
    let list = lab
        .agent("node-1")
        .duolb(&["service", "list", "-o", "json"])?;
    ensure!(!list.contains("\"web\""), "rule 92: still listed: {list}");
    ensure!(
        lab.agent("node-1")
            .duolb(&["service", "get", "web"])
            .is_err(),
        "rule 92: the record stays"
    );
    Ok(())
}

#[test]
fn a_second_agent_on_the_same_pins_is_refused_and_cleanup_leaves_nothing() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[(1, 10)])?;
    for mode in Lab::tc_modes() {
        let mut lab = Lab::builder()
            .node(Node::bridged("node-1").endpoints(1))
            .build()?;
        let mut options = AgentOptions::from_env(directory.path())?;
        options.args = vec!["--tc-mode".into(), (*mode).into()];
        lab.start_agents(&options)?;
        let path = directory.path().display().to_string();
        let second = lab.agent("node-1").duolb(&["agent", "--manifests", &path]);
        let said = second.map_err(|error| format!("{error:#}"));
        ensure!(
            said.as_ref()
                .is_err_and(|said| said.contains("another duolb agent")),
            "{said:?}"
        );
        ensure!(
            lab.agent("node-1").duolb(&["cleanup"]).is_err(),
            "cleanup went under a running agent"
        );
        lab.agent_mut("node-1").stop()?;
        let removed = lab.agent("node-1").duolb(&["cleanup", "-o", "json"])?;
        let removed: Value = serde_json::from_str(&removed)?;
        ensure!(
            removed["devices"] == 3 && removed["maps"].as_u64() > Some(10),
            "{removed}"
        );
        ensure!(
            !lab.agent("node-1").bpffs().exists(),
            "{mode}: pins are left"
        );
        let node = &lab.node("node-1").netns;
        let qdiscs = lab.exec(node, &["tc", "qdisc", "show"])?;
        ensure!(!qdiscs.contains("clsact"), "{mode}: {qdiscs}");
        let filters = lab
            .exec(node, &["bpftool", "net", "show"])
            .unwrap_or_default();
        ensure!(!filters.contains("tc_ingress"), "{mode}: {filters}");
        let status = lab.agent("node-1").duolb(&["status"]);
        let said = status.map_err(|error| format!("{error:#}"));
        ensure!(
            said.as_ref()
                .is_err_and(|said| said.contains("no duolb datapath")),
            "{said:?}"
        );
    }
    Ok(())
}
