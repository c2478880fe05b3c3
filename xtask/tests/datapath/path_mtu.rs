//! A smaller hop appears in the middle of a transfer through a VIP: the router's ICMP error names the
//! endpoint, and only translated does it reach the sender's connection (rule 97, finding 2).

use anyhow::{Context as _, Result, ensure};
use xtask::lab::Addresses;

use crate::support::{
    Cluster, need_datapath, pods_of,
    service::Service,
    stream::{Stream, bytes},
};

/// The MTUs of the hop: a vxlan's, and IPv6's least.
const MTUS: [u32; 2] = [1450, 1280];

/// Makes every sender forget what it learnt about paths.
fn forget_paths(cluster: &Cluster) -> Result<()> {
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
    narrow: impl Fn(usize) -> String,
) -> Result<()> {
    let payload = bytes(10 << 20);
    let (before, after) = payload.split_at(2 << 20);
    for mtu in MTUS {
        for (at, client) in cluster.clients().into_iter().enumerate() {
            // The service on the other node.
            for frontend in services[1 - at].frontends() {
                let narrow = narrow(at);
                let what = format!("{} to {frontend}, MTU {mtu} to {narrow}", client.name);
                cluster.lab.set_path_mtu(&narrow, None)?;
                forget_paths(cluster)?;
                let mut stream = Stream::open(&client.netns, 0, frontend)?;
                stream.exchange(before).with_context(|| what.clone())?;
                cluster.lab.set_path_mtu(&narrow, Some(mtu))?;
                stream.exchange(after).with_context(|| what.clone())?;
                stream.close()?;
            }
        }
    }
    cluster.check_no_drops()?;
    cluster.check_checksums()
}

fn services() -> [Service; 2] {
    [1, 2].map(|node: u8| Service::new(node, pods_of(node, 1)))
}

#[test]
fn a_bulk_client_learns_of_a_smaller_hop_behind_the_vip() -> Result<()> {
    need_datapath!();
    let services = services();
    let cluster = Cluster::start(&services)?;
    transfer_over_a_narrowing_path(&cluster, &services, |client| {
        Cluster::NODES[1 - client].to_owned()
    })?;
    for node in Cluster::NODES {
        let translated = cluster.verdict(node, "icmp-to-client")?;
        ensure!(translated > 0, "{node} translated no ICMP error");
    }
    // And what it learnt is about the VIP, the only peer it knows.
    for (client, service) in cluster.clients().into_iter().zip([&services[1], &services[0]]) {
        let Addresses { v6, .. } = service.vip();
        let route = cluster.run(client, &format!("ip -6 route get {v6}"))?;
        ensure!(route.contains("mtu 1280"), "{}: {route}", client.name);
    }
    Ok(())
}

#[test]
fn a_bulk_endpoint_learns_of_a_smaller_hop_before_the_client() -> Result<()> {
    need_datapath!();
    let services = services();
    let cluster = Cluster::start(&services)?;
    transfer_over_a_narrowing_path(&cluster, &services, |client| {
        Cluster::NODES[client].to_owned()
    })
}
