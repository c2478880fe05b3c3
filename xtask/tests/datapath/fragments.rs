//! Datagrams that no frame holds, through a VIP in both directions: to the same node and to the other, on a bridge and
//! routed, past the stack, and where the stack puts them together and cuts them again on the way (rule 98).

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use crate::{
    firewall,
    support::{Cluster, need_datapath, pods_of, service::Service},
};

/// Of six pieces, and nearly the longest there is.
const LENGTHS: [usize; 2] = [8_000, 60_000];

fn services() -> [Service; 2] {
    [1, 2].map(|node: u8| Service::new(node, pods_of(node, 2)))
}

fn talk(cluster: &Cluster, services: &[Service]) -> Result<()> {
    for client in cluster.clients() {
        for frontend in services.iter().flat_map(Service::frontends) {
            for length in LENGTHS {
                let probe = Probe::new(Protocol::Udp, frontend).length(length);
                let answer = probe.run_in(&client.netns);
                let answer =
                    answer.with_context(|| format!("{} to {frontend}, {length}", client.name))?;
                let own = client.addresses.like(&frontend.ip());
                ensure!(answer.client.ip() == own, "seen as {}", answer.client);
            }
        }
    }
    for node in Cluster::NODES {
        let verdicts = cluster.verdicts(node)?;
        // Each datagram of 60,000 bytes alone has 41 pieces each way.
        ensure!(verdicts["dnat"] > 160, "{node}: {verdicts:?}");
        ensure!(verdicts["rev-nat"] > 160, "{node}: {verdicts:?}");
    }
    cluster.check_no_drops()?;
    cluster.check_checksums()
}

fn pass(args: &[&str]) -> Result<()> {
    let services = services();
    talk(&Cluster::start_with(&services, args)?, &services)
}

#[test]
fn large_datagrams_pass_both_ways() -> Result<()> {
    need_datapath!();
    pass(&[])
}

#[test]
fn large_datagrams_pass_both_ways_where_packets_skip_the_stack() -> Result<()> {
    need_datapath!();
    pass(&["--host-routing", "bpf"])
}

/// A firewall puts pieces together before it looks at them, and they leave in pieces again.
fn pass_a_firewall(args: &[&str]) -> Result<()> {
    let services = services();
    let cluster = Cluster::start_with(&services, args)?;
    for node in cluster.lab.nodes() {
        cluster.lab.nft(node, firewall::FIREWALL)?;
    }
    talk(&cluster, &services)?;
    ensure!(firewall::invalid(&cluster)? == 0, "invalid packets");
    Ok(())
}

#[test]
fn large_datagrams_pass_a_firewall_both_ways() -> Result<()> {
    need_datapath!();
    pass_a_firewall(&[])
}

#[test]
fn large_datagrams_pass_a_firewall_both_ways_where_packets_skip_the_stack() -> Result<()> {
    need_datapath!();
    pass_a_firewall(&["--host-routing", "bpf"])
}
