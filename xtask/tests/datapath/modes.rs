//! How programs are put on devices, and what is left of them: the datapath serves on when its agent
//! ends, and `duolb cleanup` leaves nothing of it.

use std::time::Duration;

use anyhow::{Result, ensure};
use xtask::lab::{Lab, Protocol, probe::Probe};

use crate::{
    offload,
    support::{Cluster, need_datapath, pods_of, service::Service},
};

/// What is attached to a node's devices, as tc sees it.
fn attached(cluster: &Cluster, node: &str) -> Result<String> {
    let host = cluster.lab.node(node);
    let mut found = String::new();
    for line in cluster.run(host, "tc qdisc show")?.lines() {
        if line.contains("clsact") {
            found += line;
        }
    }
    let devices = cluster.lab.pods().filter(|pod| pod.node == node);
    for device in devices.map(|pod| pod.device.as_str()).chain(["eth0"]) {
        for place in ["ingress", "egress"] {
            // An error where there is no qdisc: nothing is attached.
            let line = format!("tc filter show dev {device} {place}");
            found += &cluster.run(host, &line).unwrap_or_default();
        }
    }
    Ok(found)
}

/// Serves the core of the offload matrix, then ends in two steps.
fn serve_and_clean_up(mode: &str) -> Result<()> {
    let services = [1, 2].map(|node: u8| Service::new(node, pods_of(node, 1)));
    let mut cluster = Cluster::start_with(&services, &["--tc-mode", mode])?;
    for node in Cluster::NODES {
        let devices = cluster.status(node)?["devices"].clone();
        let devices = devices.as_array().cloned().unwrap_or_default();
        ensure!(devices.len() == 6, "{node}: {devices:?}");
        ensure!(devices.iter().all(|device| device["mode"] == mode));
        let filters = attached(&cluster, node)?;
        ensure!(filters.contains("tc_ingress") == (mode == "clsact"));
    }
    offload::set_tx(&cluster, false, false)?;
    offload::check_payloads_and_checksums(&cluster, &services, &[])?;
    for node in Cluster::NODES {
        cluster.lab.agent_mut(node).stop()?;
    }
    offload::check_payloads_and_checksums(&cluster, &services, &[])?;
    for node in Cluster::NODES {
        cluster.lab.agent(node).duolb(&["cleanup"])?;
        let left = attached(&cluster, node)?;
        ensure!(left.is_empty(), "{node}: {left}");
        ensure!(!cluster.lab.agent(node).bpffs().exists(), "{node}: pins");
    }
    // Whoever translates is not on any list.
    for client in cluster.clients() {
        for frontend in services.iter().flat_map(Service::frontends) {
            let mut probe = Probe::new(Protocol::Tcp, frontend);
            probe.timeout = Duration::from_millis(100);
            let reached = probe.run_in(&client.netns).is_ok();
            ensure!(!reached, "{}: {frontend} is still served", client.name);
        }
    }
    Ok(())
}

#[test]
fn clsact_serves_and_cleanup_leaves_nothing() -> Result<()> {
    need_datapath!();
    serve_and_clean_up("clsact")
}

#[test]
fn tcx_serves_and_cleanup_leaves_nothing() -> Result<()> {
    need_datapath!();
    if !Lab::tc_modes().contains(&"tcx") {
        eprintln!("skipped: this kernel has no tcx (6.6)");
        return Ok(());
    }
    serve_and_clean_up("tcx")
}
