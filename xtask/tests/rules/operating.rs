//! What operators ask an agent over HTTP: health, metrics, mode, configuration.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use xtask::lab::{Addresses, Lab};

use crate::{
    cluster::{Cluster, answered},
    needs_root,
    objects::{Pod, web},
};

/// Status and body of a GET on a node itself.
pub(crate) fn get(lab: &Lab, node: &str, port: u16, path: &str) -> Result<(u16, String)> {
    let (status, _, body) = ask(lab, node, ([127, 0, 0, 1], port).into(), path)?;
    Ok((status, body))
}

/// Status, head and body.
fn ask(lab: &Lab, node: &str, to: SocketAddr, path: &str) -> Result<(u16, String, String)> {
    let ask = || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let answer = lab
        .in_ns(lab.node(node), ask)?
        .with_context(|| path.to_owned())?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, head.to_ascii_lowercase(), body.to_owned()))
}

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
        let (status, body) = get(&cluster.lab, "node-1", 10256, path)?;
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
    let (status, metrics) = get(&cluster.lab, "node-1", 10249, "/metrics")?;
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
    let (status, _) = get(&cluster.lab, "node-1", 10249, "/proxyMode")?;
    ensure!(status == 200);
    let (status, configuration) = get(&cluster.lab, "node-1", 10249, "/configz")?;
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
            let (status, head, body) = ask(
                &cluster.lab,
                &format!("node-{node}"),
                (ip, PORT).into(),
                "/whatever",
            )?;
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
    cluster.apply(&web(&json!({}), &pods))?;
    let to = (Addresses::of_node(1).v4, PORT).into();
    let start = std::time::Instant::now();
    while ask(&cluster.lab, "node-1", to, "/").is_ok() {
        ensure!(
            start.elapsed() < Duration::from_secs(3),
            "still answered for a Service without it"
        );
    }
    Ok(())
}
