//! Devices that come and go, and those without Ethernet header.

use anyhow::{Result, ensure};
use serde_json::Value;
use xtask::lab::Lab;

use crate::{add_vlan, needs_root, run, soon, with_agent};

/// Why a device has no programs; none if it is not among those.
fn why_not(lab: &Lab, name: &str) -> Result<Option<String>> {
    let text = lab.agent("node-1").duolb(&["status", "-o", "json"])?;
    let status: Value = serde_json::from_str(&text)?;
    let mut skipped = status["skipped"].as_array().into_iter().flatten();
    let found = skipped.find(|device| device["name"] == name);
    Ok(found.and_then(|device| Some(device["why"].as_str()?.to_owned())))
}

#[test]
fn an_uplink_and_a_vlan_on_it_are_served_while_the_agent_runs_and_forgotten() -> Result<()> {
    needs_root!();
    let lab = with_agent(&["--uplinks", "up*"])?;
    let node = lab.node("node-1");
    run(
        &lab,
        node,
        "ip link add up0 mtu 9000 type veth peer name peer0",
    )?;
    add_vlan(&lab, "up0", "up0.7")?;
    for name in ["up0", "up0.7"] {
        soon(&lab, name, "is an uplink", |device| {
            device["role"] == "uplink"
        })?;
    }
    run(&lab, node, "ip link del up0")?;
    for name in ["up0", "up0.7"] {
        soon(&lab, name, "is gone", Value::is_null)?;
    }
    lab.agent("node-1").check()
}

#[test]
fn tunnels_without_ethernet_header_are_served() -> Result<()> {
    needs_root!();
    let lab = with_agent(&[])?;
    let node = lab.node("node-1");
    let mut served = 0;
    for line in [
        "ip link add tunnel type wireguard",
        "ip link add tunnel type ipip local 192.0.2.1 remote 192.0.2.2",
        "ip link add tunnel type gre local 192.0.2.1 remote 192.0.2.2",
        "ip tuntap add mode tun tunnel",
    ] {
        // What this kernel does not have cannot be tried.
        if let Err(error) = run(&lab, node, line) {
            eprintln!("left out: {line}: {error:#}");
            continue;
        }
        soon(&lab, "tunnel", line, |device| {
            device["role"] == "uplink" && device["xdp_why"] == "no Ethernet header"
        })?;
        run(&lab, node, "ip link del tunnel")?;
        soon(&lab, "tunnel", "is gone", Value::is_null)?;
        served += 1;
    }
    ensure!(served > 0, "no tunnel could be made");
    lab.agent("node-1").check()
}

#[test]
fn status_says_why_a_device_is_left_alone() -> Result<()> {
    needs_root!();
    let lab = with_agent(&[])?;
    let node = lab.node("node-1");
    run(&lab, node, "ip link add br0 type bridge")?;
    run(&lab, node, "ip link add p0 type veth peer name p1")?;
    soon(&lab, "br0", "is served", |device| !device.is_null())?;
    run(&lab, node, "ip link set p0 master br0")?;
    soon(&lab, "br0", "is left to its port", Value::is_null)?;
    soon(&lab, "p0", "knows its bridge", |device| {
        device["bridge"] == "br0" && device["role"] == "pods"
    })?;
    let why = why_not(&lab, "br0")?;
    ensure!(
        why.as_deref() == Some("bridge: its ports are attached"),
        "{why:?}"
    );
    run(&lab, node, "ip link set p0 nomaster")?;
    soon(&lab, "br0", "is served again", |device| !device.is_null())
}
