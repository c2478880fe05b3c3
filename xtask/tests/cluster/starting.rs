//! Agents that start into trouble: a kubeconfig that cannot be used, a node that the cluster does not know.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    cluster::{Cluster, lost_nothing},
    needs_root, workload,
};

#[test]
fn a_kubeconfig_that_cannot_be_used_is_told_with_the_remedy_while_the_pins_serve() -> Result<()> {
    needs_root!();
    let mut cluster = Cluster::start()?;
    let streams = cluster.streams()?;
    cluster.agent_mut().kill();
    let good = fs::read_to_string(&cluster.kubeconfig)?;
    let bad = [
        (None, "is the path right and the file readable?"),
        (Some("{]".to_owned()), "is it a kubeconfig in YAML?"),
        (
            Some(good.replace("current-context: c", "current-context: d")),
            "current-context names no context of the file",
        ),
        (
            Some(good.replace(
                "user: {}",
                "user: {client-certificate: no.crt, client-key: no.key}",
            )),
            "the files must be visible to the agent, in a container too",
        ),
    ];
    for (text, remedy) in bad {
        match text {
            Some(text) => fs::write(&cluster.kubeconfig, text)?,
            None => fs::remove_file(&cluster.kubeconfig)?,
        }
        cluster.agent_mut().start()?;
        cluster.wait("it ends", || Ok(!cluster.agent().is_running()))?;
        let log = cluster.agent().log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(remedy)).collect();
        let path = cluster.lab.dir().display().to_string();
        ensure!(
            lines.len() == 1 && lines[0].contains(&path),
            "one line with {remedy:?}: {log}"
        );
        let ended = format!("{:#}", cluster.agent().check().unwrap_err());
        ensure!(ended.contains("exit status: 1"), "{ended}");
        streams.wait_rounds(200)?;
        cluster.answers(&[10, 11])?;
    }
    // A server that nobody listens at may come yet: the agent waits for it.
    let (_, port) = good
        .split_once("192.0.2.10:")
        .expect("the server's address");
    let port = port.split('\'').next().expect("a quote");
    fs::write(&cluster.kubeconfig, good.replace(port, "1"))?;
    cluster.agent_mut().start()?;
    cluster.wait_warning(&["192.0.2.10:1:", "is it running, and the address right"])?;
    cluster.wait_health([503, 200])?;
    cluster.answers(&[10, 11])?;
    fs::write(&cluster.kubeconfig, good)?;
    cluster.agent().wait_ready()?;
    cluster.wait_problems(0)?;
    lost_nothing(streams)
}

#[test]
fn a_node_that_is_unknown_or_about_to_go_gets_no_load_but_serves_rules_85_and_86() -> Result<()> {
    needs_root!();
    let mut cluster = Cluster::prepare()?;
    let node = workload::node(1, "a");
    cluster.api.double().delete(&node);
    cluster.agent_mut().start()?;
    cluster.agent().wait_ready()?;
    let told = ["Node node-1", "does not exist", "--hostname-override"];
    cluster.wait_warning(&told)?;
    cluster.wait_problems(1)?;
    ensure!(cluster.health()? == [503, 200], "rule 86: no Node");
    cluster.answers(&[10, 11])?;
    let streams = cluster.streams()?;
    cluster.api.put(std::slice::from_ref(&node));
    let healthz = |code: u16| {
        cluster.wait(&format!("/healthz answers {code}"), || {
            Ok(cluster.health()? == [code, 200])
        })
    };
    healthz(200)?;
    cluster.wait_problems(0)?;
    ensure!(cluster.warnings(&told) == 1 && cluster.solutions(&told) == 1);
    let mut tainted = node.clone();
    tainted["spec"]["taints"] =
        json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    cluster.api.put(&[tainted]);
    healthz(503)?;
    cluster.api.put(std::slice::from_ref(&node));
    healthz(200)?;
    // Deleted while we look: it serves on, for pods that are still there.
    cluster.api.double().delete(&node);
    healthz(503)?;
    cluster.wait_problems(1)?;
    cluster.answers(&[10, 11])?;
    lost_nothing(streams)
}
