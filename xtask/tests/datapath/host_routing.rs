//! `--host-routing=bpf`: packets of services skip the stack of the client's node, whatever shape pods have and
//! whichever device completes checksums, and nothing else is seen of it.

use anyhow::{Context as _, Result, ensure};
use xtask::lab::Shape;

use crate::{
    offload,
    support::{
        Cluster, need_datapath, pods_of,
        service::Service,
        stream::{Stream, bytes},
    },
};

/// Counts what the stack forwards for the clients on the node that they are on. OUT and IN: on a bridge, only what
/// leaves it; within, frames are switched as soon as the endpoint's MAC is known, in this mode or the other.
const COUNTERS: &str = "
    table inet stack {
        counter forwarded {}
        chain forward {
            type filter hook forward priority filter;
            meta l4proto { tcp, udp } ip saddr CLIENT_V4 OUT counter name forwarded
            meta l4proto { tcp, udp } ip daddr CLIENT_V4 IN counter name forwarded
            meta l4proto { tcp, udp } ip6 saddr CLIENT_V6 OUT counter name forwarded
            meta l4proto { tcp, udp } ip6 daddr CLIENT_V6 IN counter name forwarded
        }
    }";

fn start(mode: &str) -> Result<(Cluster, Vec<Service>)> {
    let services: Vec<_> = [1, 2]
        .map(|node: u8| Service::new(node, pods_of(node, 2)))
        .into();
    let cluster = Cluster::start_with(&services, &["--host-routing", mode])?;
    Ok((cluster, services))
}

fn watch_forwarding(cluster: &Cluster) -> Result<()> {
    for (node, client) in cluster.lab.nodes().zip(cluster.clients()) {
        let is_bridged = matches!(node.node, Some((_, Shape::Bridged)));
        let (out, back) = if is_bridged {
            ("oifname eth0", "iifname eth0")
        } else {
            ("", "")
        };
        let rules = COUNTERS
            .replace("OUT", out)
            .replace("IN", back)
            .replace("CLIENT_V4", &client.addresses.v4.to_string())
            .replace("CLIENT_V6", &client.addresses.v6.to_string());
        cluster.lab.nft(node, &rules)?;
    }
    Ok(())
}

/// Packets that the stacks of the clients' nodes have forwarded for them.
fn forwarded(cluster: &Cluster) -> Result<u64> {
    let nodes = cluster.lab.nodes();
    let counted = |node| cluster.lab.counted(node, "stack", "forwarded");
    nodes.map(counted).sum()
}

#[test]
fn flows_skip_the_stack_of_the_clients_node_in_both_directions() -> Result<()> {
    need_datapath!();
    for (mode, skips) in [("bpf", true), ("kernel", false)] {
        let (cluster, services) = start(mode)?;
        watch_forwarding(&cluster)?;
        offload::check_payloads_and_checksums(&cluster, &services, &[])?;
        let forwarded = forwarded(&cluster)?;
        ensure!((forwarded == 0) == skips, "{mode}: {forwarded} forwarded");
        cluster.check_no_drops()?;
    }
    Ok(())
}

#[test]
fn checksums_are_right_whoever_completes_them() -> Result<()> {
    need_datapath!();
    let (cluster, services) = start("bpf")?;
    for (pods, nodes) in [(false, true), (true, false), (false, false)] {
        offload::set_tx(&cluster, pods, nodes)?;
        offload::check_payloads_and_checksums(&cluster, &services, &[])?;
    }
    Ok(())
}

/// An agent that routes otherwise than the one before it leaves flows on their way.
#[test]
fn connections_keep_their_way_when_the_mode_changes() -> Result<()> {
    need_datapath!();
    let (mut cluster, services) = start("bpf")?;
    let mut streams = Vec::new();
    for client in cluster.clients() {
        for frontend in services.iter().flat_map(Service::frontends) {
            let mut stream = Stream::open(&client.netns, 0, frontend)?;
            stream.exchange(&bytes(10_000))?;
            streams.push(stream);
        }
    }
    for node in Cluster::NODES {
        let agent = cluster.lab.agent_mut(node);
        agent.stop()?;
    }
    for stream in &mut streams {
        stream.exchange(&bytes(100_000)).context("no agent")?;
    }
    cluster.serve(&services, &["--host-routing", "kernel"])?;
    for stream in &mut streams {
        stream.exchange(&bytes(100_000)).context("the other mode")?;
    }
    Ok(())
}
