//! The node's addresses are followed: what clients get on their way out by a device.

use anyhow::{Result, ensure};
use serde_json::json;

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
