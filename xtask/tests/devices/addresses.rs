//! The node's addresses are followed: what clients get on their way out by a device, and where node ports are.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;
use xtask::lab::Lab;

use crate::{add_vlan, device, needs_root, run, soon, with_agent};

#[test]
fn an_address_that_comes_or_goes_is_what_clients_get_within_a_second() -> Result<()> {
    needs_root!();
    let lab = with_agent(&[])?;
    let node = lab.node("node-1");
    let [v4, v6] = node.addresses.both().map(|ip| ip.to_string());
    let own = json!([v4, v6]);
    let uplink = device(&lab, "eth0")?;
    ensure!(
        uplink["role"] == "uplink" && uplink["snat"] == own,
        "{uplink}"
    );
    // A pod's device has none: the node's primary ones.
    let pod = lab.pod("client-1").device.clone();
    let before = device(&lab, &pod)?;
    ensure!(
        before["role"] == "pods" && before["snat"] == own,
        "{before}"
    );

    add_vlan(&lab, "eth0", "eth0.5")?;
    run(&lab, node, "ip link set eth0.5 up")?;
    soon(
        &lab,
        "eth0.5",
        "is an uplink without an address",
        |device| device["role"] == "uplink" && device["snat"] == own,
    )?;
    run(&lab, node, "ip address add 203.0.113.1/24 dev eth0.5")?;
    run(
        &lab,
        node,
        "ip address add 2001:db8:5::1/64 dev eth0.5 nodad",
    )?;
    soon(&lab, "eth0.5", "has addresses", |device| {
        device["snat"] == json!(["203.0.113.1", "2001:db8:5::1"])
    })?;
    ensure!(device(&lab, &pod)? == before, "others are as before");
    run(&lab, node, "ip address del 203.0.113.1/24 dev eth0.5")?;
    soon(&lab, "eth0.5", "has lost one", |device| {
        device["snat"] == json!([v4, "2001:db8:5::1"])
    })?;
    run(&lab, node, "ip address del 2001:db8:5::1/64 dev eth0.5")?;
    soon(&lab, "eth0.5", "has lost both", |device| {
        device["snat"] == own
    })
}

#[test]
fn a_veth_becomes_an_uplink_with_its_network() -> Result<()> {
    needs_root!();
    let lab = with_agent(&[])?;
    let node = lab.node("node-1");
    run(&lab, node, "ip link add wan0 type veth peer name wan1")?;
    soon(&lab, "wan0", "is a pod's", |device| {
        device["role"] == "pods"
    })?;
    run(&lab, node, "ip address add 198.51.100.1/24 dev wan0")?;
    soon(&lab, "wan0", "is an uplink", |device| {
        device["role"] == "uplink"
    })?;
    run(&lab, node, "ip address del 198.51.100.1/24 dev wan0")?;
    soon(&lab, "wan0", "is a pod's again", |device| {
        device["role"] == "pods"
    })
}

const NODE_PORT: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ipFamilyPolicy: RequireDualStack
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: \"\", port: 8080}]
endpoints: [{addresses: [\"10.244.1.10\"]}]
";

/// Whether the node port is served on the address.
fn is_served(lab: &Lab, address: &str) -> Result<bool> {
    let list = lab
        .agent("node-1")
        .duolb(&["service", "list", "-o", "json"])?;
    Ok(list.contains(&format!("\"{address}\"")))
}

#[test]
fn rule_66_node_ports_follow_the_nodes_addresses_within_a_second() -> Result<()> {
    needs_root!();
    let lab = with_agent(&["--nodeport-addresses", "0.0.0.0/0,::/0"])?;
    let node = lab.node("node-1");
    fs::write(lab.dir().join("manifests/web.yaml"), NODE_PORT)?;
    let own = node.addresses.both()[0].to_string();
    let served = lab.wait_until(Duration::from_secs(5), || is_served(&lab, &own))?;
    ensure!(served, "not on {own}");
    for (address, prefix) in [("203.0.113.1", "24"), ("2001:db8:5::1", "64")] {
        let flags = if prefix == "64" { "nodad" } else { "" };
        for (verb, flags, expected) in [("add", flags, true), ("del", "", false)] {
            let line = format!("ip address {verb} {address}/{prefix} dev eth0 {flags}");
            run(&lab, node, &line)?;
            let followed = lab.wait_until(Duration::from_secs(1), || {
                Ok(is_served(&lab, address)? == expected)
            })?;
            ensure!(followed, "{line}: not followed within a second");
        }
    }
    Ok(())
}
