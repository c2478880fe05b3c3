//! A stateful firewall on the nodes, and no overlay: packets between outside and an endpoint on another node leave by
//! the uplink that they came in by, so that XDP may take them past conntrack.
//!
//! It must take all of a flow or none (finding 1 of the design): the kernel's conntrack is set to know no connection
//! whose SYN it has not seen, so that one segment of the other kind is invalid, dropped and counted.

use std::slice;

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Client, Endpoint, Frontend, Policy},
    services::Numbered,
};

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
const HERE: Frontend = Frontend::NodePort { node: 1 };

fn services() -> [Numbered; 2] {
    [(1, "far", 3), (2, "here", 1)].map(|(number, name, node)| {
        let pod = Endpoint::Pod { node, number: 10 };
        Numbered::new(number, name, Policy::Cluster, slice::from_ref(&pod))
    })
}

fn start(mode: Mode) -> Result<Cluster> {
    let cluster = Cluster::start(Kind::behind_firewall(mode), &services(), &[])?;
    for node in cluster.lab.nodes() {
        let strict = ("net/netfilter/nf_conntrack_tcp_loose", "0");
        node.netns.sysctl(&[strict])?;
    }
    Ok(cluster)
}

/// Has nodes and pods forget who has which MAC.
fn forget_neighbours(cluster: &Cluster) -> Result<()> {
    for node in NODES.map(|node| cluster.lab.node(node)) {
        cluster.lab.exec(node, &["ip", "neigh", "flush", "all"])?;
    }
    let flush = ["ip", "neigh", "flush", "all"];
    let mut pods = cluster.lab.pods();
    pods.try_for_each(|pod| cluster.lab.exec(pod, &flush).map(drop))
}

fn is_nothing_invalid(cluster: &Cluster, what: &dyn Fn() -> String) -> Result<()> {
    for node in cluster.lab.nodes() {
        let count = cluster.lab.invalid(node)?;
        ensure!(
            count == 0,
            "{}: {} found {count} invalid",
            what(),
            node.name
        );
    }
    Ok(())
}

/// Bulk and datagrams from everyone, the first packet with and without a neighbour.
fn pass(mode: Mode) -> Result<()> {
    let cluster = start(mode)?;
    let clients = [
        Client::Outside,
        Client::Host { node: 1 },
        Client::Pod {
            node: 1,
            number: 100,
        },
        Client::Pod {
            node: 2,
            number: 100,
        },
    ];
    for client in clients {
        for service in services() {
            for (frontend, v6) in [(HERE, false), (HERE, true), (Frontend::LoadBalancer, false)] {
                for neighbours in ["unknown", "known"] {
                    let to = service.socket(frontend, v6);
                    let what = || format!("{client} to {frontend} {to}, neighbours {neighbours}");
                    if neighbours == "unknown" {
                        forget_neighbours(&cluster)?;
                    }
                    for protocol in Protocol::BOTH {
                        let length = if protocol == Protocol::Tcp {
                            1 << 20
                        } else {
                            1000
                        };
                        let probe = Probe::new(protocol, to).length(length);
                        probe.run_in(cluster.netns(client)).with_context(what)?;
                    }
                    is_nothing_invalid(&cluster, &what)?;
                }
            }
        }
    }
    let by_xdp = cluster.verdict("xdp-to-endpoint")?;
    ensure!((by_xdp > 0) == (mode != Mode::Tc), "{by_xdp} by XDP");
    cluster.check_counters()
}

#[test]
fn all_clients_pass_a_strict_firewall_with_and_without_neighbours_through_tc() -> Result<()> {
    needs_root!();
    pass(Mode::Tc)
}

#[test]
fn all_clients_pass_a_strict_firewall_with_and_without_neighbours_through_xdp() -> Result<()> {
    needs_root!();
    pass(Mode::Native)
}
