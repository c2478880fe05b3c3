//! Kernels before 6.6 have no tcx: the same datapath in filters of a clsact qdisc, and nothing of it
//! left after `duolb cleanup`.

use anyhow::{Result, ensure};

use crate::{
    offload,
    support::{Cluster, need_datapath, pods_of, service::Service},
};

/// What is attached to a node's devices, as tc and bpftool see it.
fn attached(cluster: &Cluster, node: &str) -> Result<String> {
    let host = cluster.lab.node(node);
    let mut found = String::new();
    for line in cluster.run(host, "tc qdisc show")?.lines() {
        if line.contains("clsact") {
            found += line;
            found += "\n";
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

#[test]
fn clsact_serves_as_tcx_does_and_cleanup_leaves_nothing() -> Result<()> {
    need_datapath!();
    let services = [
        Service::new(1, pods_of(1, 1)),
        Service::new(2, pods_of(2, 1)),
    ];
    let mut cluster = Cluster::start_with(&services, &["--tc-mode", "clsact"])?;
    for node in Cluster::NODES {
        let devices = cluster.status(node)?["devices"].clone();
        let devices = devices.as_array().cloned().unwrap_or_default();
        ensure!(devices.len() == 6, "{node}: {devices:?}");
        ensure!(devices.iter().all(|device| device["mode"] == "clsact"));
        ensure!(attached(&cluster, node)?.contains("tc_ingress"));
    }
    offload::set_tx(&cluster, false, false)?;
    offload::check_payloads_and_checksums(&cluster, &services, &[])?;
    for node in Cluster::NODES {
        cluster.lab.agent_mut(node).stop()?;
        cluster.lab.agent(node).duolb(&["cleanup"])?;
        let left = attached(&cluster, node)?;
        ensure!(left.is_empty(), "{node}: {left}");
        ensure!(!cluster.lab.agent(node).bpffs().exists(), "{node}: pins");
    }
    Ok(())
}
