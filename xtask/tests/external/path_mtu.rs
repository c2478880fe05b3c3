//! Errors about packets of clients that have another address behind this node: each is translated twice, as the packet
//! was, and only then does its sender's socket hear of it (rule 97).
//!
//! The fabric is the router on both sides of the node, as a node's default gateway is: it drops what comes back to it
//! under its own address.

use std::{io, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Netns, Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Endpoint, Frontend, Policy},
    services::Numbered,
};

/// IPv6's least.
const MTU: u32 = 1280;
/// Where clients come in.
const HERE: Frontend = Frontend::NodePort { node: 1 };
const BULK: usize = 4 << 20;
/// Fits in a frame, and not through the hop.
const DATAGRAM: usize = 1350;
/// Some are lost on purpose; a busy machine must not look like more.
const PATIENCE: Duration = Duration::from_secs(2);

fn far() -> Numbered {
    let far = Endpoint::Pod {
        node: 3,
        number: 10,
    };
    Numbered::new(1, "far", Policy::Cluster, &[far])
}

/// What `netns` has learnt of the path to `ip`.
fn check_learnt(cluster: &Cluster, netns: &Netns, ip: IpAddr) -> Result<()> {
    let route = cluster
        .lab
        .exec(netns, &["ip", "route", "get", &ip.to_string()])?;
    ensure!(route.contains(&format!("mtu {MTU}")), "learnt {route}");
    Ok(())
}

/// Bulk both ways with a hop that is small for packets to `narrow`; who sends them learns it, and the node counts.
fn bulk(mode: Mode, narrow: &str, label: &str) -> Result<()> {
    let service = far();
    let cluster = Cluster::start(Kind::plain(mode), std::slice::from_ref(&service), &[])?;
    cluster.lab.set_path_mtu(narrow, Some(MTU))?;
    let outside = cluster.lab.outside();
    for v6 in [false, true] {
        let to = service.socket(HERE, v6);
        let before = cluster.verdicts(1)?[label];
        let probe = Probe::new(Protocol::Tcp, to).length(BULK);
        let answer = probe.run_in(&outside.netns).context("bulk")?;
        match label {
            // About the only peer that it knows.
            "icmp-to-client" => check_learnt(&cluster, &outside.netns, to.ip())?,
            _ => {
                let pod = &cluster.lab.pod("pod-3-10").netns;
                check_learnt(&cluster, pod, answer.client.ip())?;
            }
        }
        let counted = cluster.verdicts(1)?[label] - before;
        ensure!(counted > 0, "IPv6 {v6}: no error was translated");
    }
    let by_xdp = cluster.verdict("xdp-to-endpoint")?;
    ensure!((by_xdp > 0) == (mode != Mode::Tc), "{by_xdp} by XDP");
    cluster.check_counters()
}

#[test]
fn a_client_outside_learns_of_a_smaller_hop_behind_the_node_through_tc() -> Result<()> {
    needs_root!();
    bulk(Mode::Tc, "node-3", "icmp-to-client")
}

#[test]
fn a_client_outside_learns_of_a_smaller_hop_behind_the_node_through_xdp() -> Result<()> {
    needs_root!();
    bulk(Mode::Native, "node-3", "icmp-to-client")
}

#[test]
fn an_endpoint_learns_of_a_smaller_hop_before_the_client_through_tc() -> Result<()> {
    needs_root!();
    bulk(Mode::Tc, "outside", "icmp-to-endpoint")
}

#[test]
fn an_endpoint_learns_of_a_smaller_hop_before_the_client_through_xdp() -> Result<()> {
    needs_root!();
    bulk(Mode::Native, "outside", "icmp-to-endpoint")
}

/// Datagrams of one frame to `narrow`: the first is lost, the next come in pieces (rules 97 and 98).
fn datagrams(mode: Mode, narrow: &str, label: &str) -> Result<()> {
    let service = far();
    let cluster = Cluster::start(Kind::plain(mode), std::slice::from_ref(&service), &[])?;
    cluster.lab.set_path_mtu(narrow, Some(MTU))?;
    let outside = &cluster.lab.outside().netns;
    for v6 in [false, true] {
        let to = service.socket(HERE, v6);
        let before = cluster.verdicts(1)?[label];
        let probe = Probe::new(Protocol::Udp, to)
            .length(DATAGRAM)
            .timeout(PATIENCE);
        probe.run_in(outside).context("a datagram")?;
        if label == "icmp-to-client" {
            check_learnt(&cluster, outside, to.ip())?;
        }
        let counted = cluster.verdicts(1)?[label] - before;
        ensure!(counted > 0, "IPv6 {v6}: no error was translated");
    }
    ensure!(cluster.verdict("fragment")? == 0, "pieces were dropped");
    cluster.check_counters()
}

#[test]
fn datagrams_from_outside_pass_a_smaller_hop_behind_the_node_through_tc() -> Result<()> {
    needs_root!();
    datagrams(Mode::Tc, "node-3", "icmp-to-client")
}

#[test]
fn datagrams_from_outside_pass_a_smaller_hop_behind_the_node_through_xdp() -> Result<()> {
    needs_root!();
    datagrams(Mode::Native, "node-3", "icmp-to-client")
}

#[test]
fn answers_pass_a_smaller_hop_before_the_client_through_tc() -> Result<()> {
    needs_root!();
    datagrams(Mode::Tc, "outside", "icmp-to-endpoint")
}

#[test]
fn answers_pass_a_smaller_hop_before_the_client_through_xdp() -> Result<()> {
    needs_root!();
    datagrams(Mode::Native, "outside", "icmp-to-endpoint")
}

/// The endpoint's pod runs no server: it is the pod that refuses, and not the node.
fn refused(mode: Mode) -> Result<()> {
    let closed = |node| Endpoint::Pod { node, number: 100 };
    let services = [(1, "far", 3), (2, "here", 1)]
        .map(|(number, name, node)| Numbered::new(number, name, Policy::Cluster, &[closed(node)]));
    let cluster = Cluster::start(Kind::plain(mode), &services, &[])?;
    for service in &services {
        for v6 in [false, true] {
            for protocol in Protocol::BOTH {
                let to = service.socket(HERE, v6);
                let probe = Probe::new(protocol, to).connected().attempts(1);
                let error = probe.run_in(&cluster.lab.outside().netns);
                let error = error.expect_err("nobody serves there");
                ensure!(
                    error.source.kind() == io::ErrorKind::ConnectionRefused,
                    "{}: {error}",
                    service.name
                );
            }
        }
    }
    let counted = cluster.verdicts(1)?["icmp-to-client"];
    // One for each endpoint and family where the client is known as such, two where not.
    ensure!(counted == 6, "{counted} errors translated");
    cluster.check_counters()
}

#[test]
fn an_endpoints_refusal_reaches_the_client_outside_through_tc() -> Result<()> {
    needs_root!();
    refused(Mode::Tc)
}

#[test]
fn an_endpoints_refusal_reaches_the_client_outside_through_xdp() -> Result<()> {
    needs_root!();
    refused(Mode::Native)
}
