//! What operators ask an agent over HTTP: health, metrics, mode, configuration.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use xtask::lab::Addresses;

use crate::{
    cluster::{Cluster, answered},
    http::{Answer, HEALTH, METRICS, ask, get},
    needs_root,
    objects::{Pod, web},
};

/// The sum of a metric's samples whose labels contain all of `labels`.
pub(crate) fn sample(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let samples = metrics.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    samples
        .map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .reduce(|a, b| Some(a? + b?))?
}

#[test]
fn an_agent_answers_as_kube_proxy_does() -> Result<()> {
    needs_root!();
    let pod = Pod::new(2, 10);
    let cluster = Cluster::start(&web(&json!({}), std::slice::from_ref(&pod)), &[])?;
    cluster.wait_for(1, &answered(&[pod]))?;
    for path in ["/healthz", "/livez"] {
        let (status, body) = get(cluster.lab.node("node-1"), HEALTH, path)?;
        let body: Value = serde_json::from_str(&body)?;
        ensure!(
            status == 200 && body["healthy"] == true,
            "{path}: {status} {body}"
        );
        ensure!(
            body["nodeEligible"].is_boolean() == (path == "/healthz"),
            "{path}: {body}"
        );
    }
    let (status, metrics) = get(cluster.lab.node("node-1"), METRICS, "/metrics")?;
    ensure!(status == 200);
    // Cilium's and kube-proxy's dashboards alike are made of such names; rules 87 to 89.
    ensure!(
        sample(&metrics, "kubeproxy_proxy_healthz_total", &["code=\"200\""]) == Some(1.0),
        "{metrics}"
    );
    for family in ["IPv4", "IPv6"] {
        let synced = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";
        let label = format!("ip_family=\"{family}\"");
        ensure!(
            sample(&metrics, synced, &[&label]) > Some(1.7e9),
            "{metrics}"
        );
    }
    let dnat = sample(&metrics, "duolb_verdicts_total", &["verdict=\"dnat\""]);
    ensure!(dnat > Some(100.0), "{metrics}");
    let (status, _) = get(cluster.lab.node("node-1"), METRICS, "/proxyMode")?;
    ensure!(status == 200);
    let (status, configuration) = get(cluster.lab.node("node-1"), METRICS, "/configz")?;
    let configuration: Value = serde_json::from_str(&configuration)?;
    ensure!(
        status == 200 && configuration.is_object(),
        "{configuration}"
    );
    Ok(())
}

#[test]
fn rule_83_load_balancers_learn_which_nodes_have_endpoints() -> Result<()> {
    needs_root!();
    const PORT: u16 = 32_100;
    let spec = json!({
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": PORT,
    });
    let pods = [
        Pod::new(1, 10),
        Pod::new(1, 11),
        Pod::new(2, 10).terminating(true),
    ];
    let cluster = Cluster::start(&web(&spec, &pods), &[])?;
    for (node, local) in [(1, 2), (2, 0), (3, 0)] {
        for ip in Addresses::of_node(node).both() {
            let host = cluster.lab.node(&format!("node-{node}"));
            let Answer { status, head, body } = ask(host, (ip, PORT).into(), "/whatever")?;
            let body: Value = serde_json::from_str(&body)?;
            let expected = json!({
                "service": {"namespace": "default", "name": "web"},
                "localEndpoints": local,
                "serviceProxyHealthy": true,
            });
            // One that terminates serves on, and is no reason to send new clients here.
            ensure!(
                status == if local > 0 { 200 } else { 503 } && body == expected,
                "{node}: {status} {body}"
            );
            ensure!(
                head.contains(&format!("x-load-balancing-endpoint-weight: {local}")),
                "{head}"
            );
        }
    }
    // Rule 27: whatever port a Service without need for it names.
    let spec = json!({
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Cluster",
        "healthCheckNodePort": PORT,
    });
    cluster.apply(&web(&spec, &pods))?;
    let to = (Addresses::of_node(1).v4, PORT).into();
    let start = std::time::Instant::now();
    while ask(cluster.lab.node("node-1"), to, "/").is_ok() {
        ensure!(
            start.elapsed() < Duration::from_secs(3),
            "still answered for a Service without it"
        );
    }
    Ok(())
}
