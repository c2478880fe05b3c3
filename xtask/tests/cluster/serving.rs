//! Nothing goes wrong: services are served, changes are in force at once, the cluster is told of the agent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::{
    cluster::{Cluster, pods, web_of},
    needs_root,
    objects::NODE,
    workload::web,
};

#[test]
fn services_of_an_api_server_are_served_and_a_changed_slice_is_in_force_within_a_second()
-> Result<()> {
    needs_root!();
    let cluster = Cluster::start()?;
    cluster.answers(&[10, 11])?;
    ensure!(cluster.health()? == [200, 200], "rule 85");
    ensure!(cluster.status()?["agent"]["problems"] == 0);
    let url = cluster.api.double().url();
    let log = cluster.agent().log();
    ensure!(log.contains(&url), "which API server? {log}");
    for pods in [&[12][..], &[10, 11, 12], &[11]] {
        cluster.api.put(&web_of(pods));
        let start = Instant::now();
        let took = loop {
            // What the asking takes is not the agent's.
            let asked = start.elapsed();
            match cluster.answers(pods) {
                Ok(()) => break asked,
                Err(error) => ensure!(asked < Duration::from_secs(5), "{error}"),
            }
        };
        ensure!(took < Duration::from_secs(1), "{pods:?}: after {took:?}");
    }
    Ok(())
}

#[test]
fn the_cluster_is_told_of_the_start_in_kube_proxys_words() -> Result<()> {
    needs_root!();
    let mut cluster = Cluster::start()?;
    cluster.wait("an event", || Ok(!cluster.api.double().events().is_empty()))?;
    let events = cluster.api.double().events();
    ensure!(events.len() == 1, "{events:#?}");
    let event = &events[0];
    for (field, wanted) in [
        ("reason", "Starting"),
        ("action", "StartKubeProxy"),
        ("type", "Normal"),
        ("reportingInstance", NODE),
    ] {
        ensure!(event[field] == wanted, "{field}: {event:#}");
    }
    let about = &event["regarding"];
    ensure!(
        about["kind"] == "Node" && about["name"] == NODE,
        "{event:#}"
    );
    // It says so again at the next start, and no start waits for it.
    cluster.agent_mut().stop()?;
    cluster.agent_mut().start()?;
    cluster.wait("another event", || {
        Ok(cluster.api.double().events().len() == 2)
    })
}

#[test]
fn rule_84_the_cluster_is_told_of_a_health_check_whose_port_is_taken() -> Result<()> {
    needs_root!();
    const PORT: u16 = 32_100;
    let cluster = Cluster::start()?;
    // Some other software on the node has the port, for IPv4.
    let take = || std::net::TcpListener::bind(("0.0.0.0", PORT));
    let taken = cluster.lab.in_ns(cluster.host(), take)??;
    cluster.api.put(&web(
        &json!({
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": PORT,
        }),
        &pods(&[10, 11]),
    ));
    let told = || {
        let events = cluster.api.double().events();
        events
            .into_iter()
            .find(|event| event["reason"] == "FailedToStartServiceHealthcheck")
    };
    cluster.wait("an event", || Ok(told().is_some()))?;
    let event = told().context("just seen")?;
    let about = &event["regarding"];
    ensure!(
        event["type"] == "Warning" && about["kind"] == "Service" && about["name"] == "web",
        "{event:#}"
    );
    // The Service is served all the same.
    cluster.answers(&[10, 11])?;
    drop(taken);
    Ok(())
}
