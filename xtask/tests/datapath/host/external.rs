//! What leads into the cluster from outside leads there from the node's own processes, too, whatever the external
//! policy says (rules 42 and 45).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use crate::support::{Cluster, need_datapath, pods_of, service::Service};

/// With two endpoints that are equally likely, one is left out once in half a million runs.
const TRIES: usize = 20;

#[test]
fn a_process_of_the_node_reaches_every_external_frontend_and_node_ports_by_loopback() -> Result<()>
{
    need_datapath!();
    // Under the Local policy, and none of the endpoints is on the first node.
    let service = Service::new(1, pods_of(2, 2)).external();
    let cluster = Cluster::start(std::slice::from_ref(&service))?;
    let node = cluster.lab.node("node-1");
    let this_node = node.addresses.both();
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for protocol in Protocol::BOTH {
        let port = service.node_port(protocol);
        let node_ports = this_node.into_iter().chain(loopback);
        let frontends = node_ports
            .map(|ip| SocketAddr::new(ip, port))
            .chain(service.external_frontends())
            .chain(service.frontends());
        for frontend in frontends {
            let mut answered = BTreeSet::new();
            for _ in 0..TRIES {
                let answer = Probe::new(protocol, frontend)
                    .run_in(&node.netns)
                    .with_context(|| format!("{frontend}/{protocol}"))?;
                answered.insert(answer.endpoint);
                // Nobody stands between: the endpoint sees the node.
                ensure!(
                    this_node.contains(&answer.client.ip()),
                    "{frontend}/{protocol}: the endpoint sees {}",
                    answer.client
                );
            }
            ensure!(
                answered.len() == 2,
                "{frontend}/{protocol}: only {answered:?}"
            );
        }
    }
    cluster.check_checksums()
}

#[test]
fn other_ports_of_the_nodes_own_addresses_and_of_external_ones_are_left_alone_rule_51() -> Result<()>
{
    need_datapath!();
    let service = Service::new(1, pods_of(2, 1)).external();
    let cluster = Cluster::start(std::slice::from_ref(&service))?;
    let node = cluster.lab.node("node-1");
    let before = cluster.verdicts("node-1")?;
    let external = service.external_frontends();
    let addresses = node
        .addresses
        .both()
        .into_iter()
        .chain(external.iter().map(SocketAddr::ip));
    for ip in addresses {
        let unknown = SocketAddr::new(ip, 81);
        // It goes where the kernel sends it, which is nowhere.
        let socket = super::udp(&node.netns, unknown)?;
        socket
            .connect(unknown)
            .with_context(|| unknown.to_string())?;
    }
    let after = cluster.verdicts("node-1")?;
    ensure!(after == before, "{before:?} became {after:?}");
    Ok(())
}
