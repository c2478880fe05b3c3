//! Every endpoint is reached from a node's own processes, by every kind of socket, under the VIP's name.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use crate::support::{Cluster, need_datapath, pods_of, service::Service};

/// With four endpoints that are equally likely, so many tries leave one out once in ten million runs.
const TRIES: usize = 60;

#[test]
fn a_process_of_the_node_reaches_every_endpoint_and_is_told_of_the_vip_alone() -> Result<()> {
    need_datapath!();
    let endpoints = [pods_of(1, 2), pods_of(2, 2)].concat();
    let services = [Service::new(1, endpoints)];
    let cluster = Cluster::start(&services)?;
    for name in Cluster::NODES {
        let node = cluster.lab.node(name);
        let before = cluster.verdict(name, "socket")?;
        for frontend in services[0].frontends() {
            for (protocol, connected) in [
                (Protocol::Tcp, false),
                (Protocol::Udp, false),
                (Protocol::Udp, true),
            ] {
                let what = || format!("{name} to {frontend}/{protocol}, connected {connected}");
                let mut answered = BTreeSet::new();
                for _ in 0..TRIES {
                    let mut probe = Probe::new(protocol, frontend);
                    // The probe compares whom it asked with whom the socket says that it talks to.
                    probe.connected = connected;
                    let answer = probe.run_in(&node.netns).with_context(what)?;
                    answered.insert(answer.endpoint);
                }
                ensure!(answered.len() == 4, "{}: only {answered:?}", what());
            }
        }
        let counted = cluster.verdict(name, "socket")? - before;
        // UDP is sent again where an answer is late.
        ensure!(
            counted >= 6 * TRIES as u64,
            "{name}: {counted} sockets counted"
        );
    }
    cluster.check_no_drops()?;
    cluster.check_checksums()
}

#[test]
fn a_node_is_one_client_that_sticks_to_one_endpoint_by_whatever_address_it_comes() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, [pods_of(1, 2), pods_of(2, 2)].concat()).affinity(600)];
    let cluster = Cluster::start(&services)?;
    let node = cluster.lab.node("node-1");
    for frontend in services[0].frontends() {
        for protocol in Protocol::BOTH {
            let mut answered = BTreeSet::new();
            for _ in 0..12 {
                let answer = Probe::new(protocol, frontend).run_in(&node.netns)?;
                answered.insert(answer.endpoint);
            }
            // Rule 68; chance alone would have it once in four million runs.
            ensure!(answered.len() == 1, "{frontend}/{protocol}: {answered:?}");
        }
    }
    Ok(())
}

#[test]
fn a_pod_is_served_by_its_packets_and_not_by_its_sockets() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(1, 1))];
    let cluster = Cluster::start(&services)?;
    for client in cluster.clients() {
        for frontend in services[0].frontends() {
            for protocol in Protocol::BOTH {
                Probe::new(protocol, frontend).run_in(&client.netns)?;
            }
        }
    }
    for name in Cluster::NODES {
        // All nodes of the lab share one machine, and so one root of cgroups.
        ensure!(cluster.verdict(name, "socket")? == 0, "{name}");
        ensure!(cluster.verdict(name, "dnat")? > 0, "{name}");
    }
    cluster.check_no_drops()
}

#[test]
fn each_socket_of_a_node_is_counted_as_a_flow_of_its_service() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(1, 1))];
    let cluster = Cluster::start(&services)?;
    let node = cluster.lab.node("node-2");
    for frontend in services[0].frontends() {
        for _ in 0..3 {
            Probe::new(Protocol::Tcp, frontend).run_in(&node.netns)?;
        }
        // However many datagrams it sends.
        let socket = super::udp(&node.netns, frontend)?;
        for _ in 0..5 {
            super::ask(&socket, frontend)?;
        }
    }
    let listing = cluster
        .lab
        .agent("node-2")
        .duolb(&["service", "list", "-o", "json"])?;
    let listing: serde_json::Value = serde_json::from_str(&listing)?;
    let flows = |protocol: &str| -> u64 {
        let rows = listing.as_array().into_iter().flatten();
        rows.filter(|row| row["protocol"] == protocol)
            .filter_map(|row| row["flows"].as_u64())
            .sum()
    };
    ensure!((flows("TCP"), flows("UDP")) == (6, 2), "{listing:#}");
    Ok(())
}
