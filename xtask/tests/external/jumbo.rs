//! Uplinks with an MTU of 9000: jumbo frames go through node ports, and status says which of them have XDP.

use std::slice;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xtask::lab::{Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Endpoint, Frontend, Policy},
    services::Numbered,
};

const MTU: u32 = 9000;
/// Fits in one frame and in no ordinary one: in pieces it would not get through (rule 98).
const DATAGRAM: usize = 8900;
const BULK: usize = 8 << 20;

/// Makes all devices wide, and gives `node-1` a second uplink that stands on its first.
fn widen(cluster: &Cluster) -> Result<()> {
    let lab = &cluster.lab;
    for host in lab.nodes().chain([lab.outside()]) {
        lab.set_mtu(lab.fabric(), &host.name, MTU)?;
        lab.set_mtu(host, "eth0", MTU)?;
    }
    for pod in lab.pods() {
        lab.set_mtu(pod, "eth0", MTU)?;
        lab.set_mtu(lab.node(&pod.node), &pod.device, MTU)?;
    }
    let line = "ip link add link eth0 name mac0 type macvlan mode bridge";
    let words: Vec<&str> = line.split(' ').collect();
    lab.exec(lab.node("node-1"), &words).map(drop)
}

/// Bulk and large datagrams to an endpoint on another node and to one on this.
fn talk(cluster: &Cluster, services: &[Numbered]) -> Result<()> {
    for service in services {
        for v6 in [false, true] {
            let to = service.socket(Frontend::NodePort { node: 1 }, v6);
            for (protocol, length) in [(Protocol::Udp, DATAGRAM), (Protocol::Tcp, BULK)] {
                let probe = Probe::new(protocol, to).length(length);
                let answer = probe.run_in(&cluster.lab.outside().netns);
                answer.with_context(|| format!("{} by {protocol}", service.name))?;
            }
        }
    }
    Ok(())
}

/// What status says of XDP on a device of `node-1`.
fn xdp(cluster: &Cluster, name: &str) -> Result<[Value; 2]> {
    let status = cluster.status(1)?;
    let mut devices = status["devices"].as_array().into_iter().flatten();
    let device = devices.find(|device| device["name"] == name);
    let device = device.with_context(|| format!("no {name} in status"))?;
    Ok([device["xdp"].clone(), device["xdp_why"].clone()])
}

#[test]
fn jumbo_frames_go_through_a_node_port_whatever_takes_them() -> Result<()> {
    needs_root!();
    let services = [(1, "far", 3), (2, "here", 1)].map(|(number, name, node)| {
        let pod = Endpoint::Pod { node, number: 10 };
        Numbered::new(number, name, Policy::Cluster, slice::from_ref(&pod))
    });
    let mut cluster = Cluster::start(Kind::plain(Mode::Tc), &services, &[])?;
    widen(&cluster)?;
    for mode in [Mode::Tc, Mode::Native, Mode::Generic] {
        cluster.restart_as(mode)?;
        let before = cluster.verdict("xdp-to-endpoint")?;
        talk(&cluster, &services).with_context(|| format!("{mode:?}"))?;
        let by_xdp = cluster.verdict("xdp-to-endpoint")? - before;
        ensure!(
            (by_xdp > 0) == (mode != Mode::Tc),
            "{mode:?}: {by_xdp} by XDP"
        );
        let expected = match mode {
            Mode::Tc => "off",
            other => other.flag(),
        };
        let uplink = xdp(&cluster, "eth0")?;
        ensure!(uplink[0] == expected, "{mode:?}: {uplink:?}");
        // Its driver has no XDP.
        let above = xdp(&cluster, "mac0")?;
        let is_refused = above == ["generic", "native mode is refused"];
        ensure!(is_refused == (mode == Mode::Native), "{mode:?}: {above:?}");
    }
    cluster.check_counters()
}
