//! Addresses and ports that no frontend has.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{
    cluster::{Cluster, Fate, answered},
    needs_root,
    objects::{Pod, VIPS, web},
};

#[test]
fn rule_49_unknown_ports_of_a_cluster_ip_are_refused_whoever_completes_the_checksums() -> Result<()>
{
    needs_root!();
    let cluster = Cluster::start(&web(&json!({}), &[Pod::new(1, 10)]), &[])?;
    let unknown = VIPS.map(|vip| SocketAddr::new(vip, 81));
    for (node, device_offload) in [(1, "on"), (2, "on"), (1, "off"), (2, "off")] {
        let pod = cluster.lab.pod(&format!("client-{node}"));
        let (host, device) = (cluster.lab.node(&pod.node), pod.device.as_str());
        for client_offload in ["on", "off"] {
            cluster.lab.offload(host, device, &["tx", device_offload])?;
            cluster.lab.offload(pod, "eth0", &["tx", client_offload])?;
            let fate = cluster.fate(node, &unknown)?;
            ensure!(fate == Fate::Refused, "node {node}: {fate:?}");
        }
    }
    ensure!(cluster.verdict(1, "unknown-port")? >= 8);
    cluster.wait_for(2, &answered(&[Pod::new(1, 10)]))
}

#[test]
fn rule_50_addresses_of_a_service_cidr_that_nobody_has_are_silent() -> Result<()> {
    needs_root!();
    let cluster = Cluster::start(&web(&json!({}), &[Pod::new(1, 10)]), &[])?;
    let nobody = ["10.96.200.200:80", "[fd00:10:96::dead]:80"].map(|text| text.parse().unwrap());
    for node in [1, 2] {
        ensure!(cluster.fate(node, &nobody)? == Fate::Dropped);
        ensure!(cluster.verdict(node, "unallocated")? >= 4);
    }
    Ok(())
}
