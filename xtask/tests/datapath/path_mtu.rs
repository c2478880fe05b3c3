//! A smaller hop appears in the middle of a transfer through a VIP: the router's ICMP error names the
//! endpoint, and only translated does it reach the sender's connection (rule 97, finding 2).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Netns, Protocol, probe::Probe};

use crate::support::{
    Cluster, need_datapath, pods_of,
    service::Service,
    stream::{Stream, bytes},
};

/// The MTUs of the hop: a vxlan's, and IPv6's least.
const MTUS: [u32; 2] = [1450, 1280];

/// Makes all paths wide again, and every sender forget what it learnt about them.
fn widen_paths(cluster: &Cluster) -> Result<()> {
    for node in cluster.lab.nodes() {
        cluster.lab.set_path_mtu(&node.name, None)?;
    }
    let nodes = cluster.lab.nodes().map(|node| &node.netns);
    for netns in cluster.lab.pods().map(|pod| &pod.netns).chain(nodes) {
        cluster.run(netns, "ip -4 route flush cache")?;
        cluster.run(netns, "ip -6 route flush cache")?;
    }
    Ok(())
}

/// Transfers of 10 MB and back in whose midst the path to `narrow` becomes so.
fn transfer_over_a_narrowing_path(
    cluster: &Cluster,
    services: &[Service; 2],
    narrow: impl Fn(usize) -> &'static str,
    learnt: impl Fn(usize, SocketAddr, u32) -> Result<()>,
) -> Result<()> {
    let payload = bytes(10 << 20);
    let (before, after) = payload.split_at(2 << 20);
    for mtu in MTUS {
        for (at, client) in cluster.clients().into_iter().enumerate() {
            // The service on the other node.
            for frontend in services[1 - at].frontends() {
                let narrow = narrow(at);
                let what = format!("{} to {frontend}, MTU {mtu} to {narrow}", client.name);
                widen_paths(cluster)?;
                let mut stream = Stream::open(&client.netns, 0, frontend)?;
                stream.exchange(before).with_context(|| what.clone())?;
                cluster.lab.set_path_mtu(narrow, Some(mtu))?;
                stream.exchange(after).with_context(|| what.clone())?;
                stream.close()?;
                learnt(at, frontend, mtu).with_context(|| what.clone())?;
            }
        }
    }
    cluster.check_no_drops()?;
    cluster.check_checksums()
}

fn services() -> [Service; 2] {
    [1, 2].map(|node: u8| Service::new(node, pods_of(node, 1)))
}

/// What `netns` knows of the path to `ip`.
fn check_route(cluster: &Cluster, netns: &Netns, ip: IpAddr, mtu: u32) -> Result<()> {
    let route = cluster.run(netns, &format!("ip route get {ip}"))?;
    ensure!(route.contains(&format!("mtu {mtu}")), "learnt {route}");
    Ok(())
}

/// Fits in a frame, and not through the hop.
const DATAGRAM: usize = 1350;
/// Some are lost on purpose; a busy machine must not look like more.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first datagram is lost, the next come in pieces (rules 97 and 98).
#[test]
fn datagrams_pass_a_smaller_hop_behind_the_vip() -> Result<()> {
    need_datapath!();
    let services = services();
    let cluster = Cluster::start(&services)?;
    for (at, client) in cluster.clients().into_iter().enumerate() {
        widen_paths(&cluster)?;
        cluster
            .lab
            .set_path_mtu(Cluster::NODES[1 - at], Some(MTUS[1]))?;
        for frontend in services[1 - at].frontends() {
            let probe = Probe::new(Protocol::Udp, frontend)
                .length(DATAGRAM)
                .timeout(PATIENCE);
            let answer = probe.run_in(&client.netns);
            answer.with_context(|| format!("{} to {frontend}", client.name))?;
            check_route(&cluster, &client.netns, frontend.ip(), MTUS[1])?;
        }
    }
    cluster.check_no_drops()?;
    cluster.check_checksums()
}

#[test]
fn a_bulk_client_learns_of_a_smaller_hop_behind_the_vip() -> Result<()> {
    need_datapath!();
    a_bulk_client_learns(&[])
}

#[test]
fn so_it_does_where_packets_skip_the_stack() -> Result<()> {
    need_datapath!();
    a_bulk_client_learns(&["--host-routing", "bpf"])
}

fn a_bulk_client_learns(args: &[&str]) -> Result<()> {
    let services = services();
    let cluster = Cluster::start_with(&services, args)?;
    // About the VIP, the only peer it knows.
    let learnt = |client: usize, frontend: SocketAddr, mtu| {
        let client = &cluster.clients()[client].netns;
        check_route(&cluster, client, frontend.ip(), mtu)
    };
    let narrow = |client: usize| Cluster::NODES[1 - client];
    transfer_over_a_narrowing_path(&cluster, &services, narrow, learnt)?;
    for node in Cluster::NODES {
        let translated = cluster.verdict(node, "icmp-to-client")?;
        ensure!(
            translated >= 4,
            "{node} translated {translated} ICMP errors"
        );
    }
    Ok(())
}

#[test]
fn a_bulk_endpoint_learns_of_a_smaller_hop_before_the_client() -> Result<()> {
    need_datapath!();
    a_bulk_endpoint_learns(&[])
}

#[test]
fn so_does_one_whose_packets_skip_the_stack() -> Result<()> {
    need_datapath!();
    a_bulk_endpoint_learns(&["--host-routing", "bpf"])
}

fn a_bulk_endpoint_learns(args: &[&str]) -> Result<()> {
    let services = services();
    let cluster = Cluster::start_with(&services, args)?;
    let pods = ["pod-2-10", "pod-1-10"];
    let learnt = |client: usize, frontend: SocketAddr, mtu| {
        let pod = &cluster.lab.pod(pods[client]).netns;
        let client = cluster.clients()[client].addresses;
        check_route(&cluster, pod, client.like(&frontend.ip()), mtu)
    };
    let narrow = |client: usize| Cluster::NODES[client];
    transfer_over_a_narrowing_path(&cluster, &services, narrow, learnt)
}
