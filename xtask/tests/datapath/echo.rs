//! `ping` to a ClusterIP tells whether the Service exists: pods and the node's own processes, any length, while other
//! addresses answer for themselves or not at all (rule 52).

use anyhow::{Context as _, Result, ensure};

use crate::{
    bystanders::{PATIENCE, ping, ping_for},
    support::{Cluster, need_datapath, pods_of, service::Service},
};

/// In one frame, and in six pieces.
const LENGTHS: [usize; 2] = [56, 8_000];

fn answer_everyone(args: &[&str]) -> Result<()> {
    let services = [
        Service::new(1, pods_of(1, 1)),
        // Nobody serves it; it exists all the same.
        Service::new(2, []),
    ];
    let cluster = Cluster::start_with(&services, args)?;
    for node in cluster.lab.nodes() {
        node.netns.sysctl(&[
            ("net/ipv4/conf/all/rp_filter", "1"),
            ("net/ipv4/conf/eth0/rp_filter", "1"),
        ])?;
    }
    let nodes = cluster.lab.nodes().map(|node| (&node.name, &node.netns));
    let clients = cluster.clients().map(|pod| (&pod.name, &pod.netns));
    for (name, netns) in clients.into_iter().chain(nodes) {
        for service in &services {
            for vip in service.vip().both() {
                for length in LENGTHS {
                    ping(netns, vip, length)
                        .with_context(|| format!("{name} to {vip}, {length} bytes"))?;
                }
            }
        }
    }
    for node in Cluster::NODES {
        // Pods and the node: two Services, two families, one piece and six (of IPv6 as well).
        let counted = cluster.verdict(node, "echo")?;
        ensure!(counted >= 2 * 4 * 7, "{node} answered {counted}");
    }
    cluster.check_checksums()
}

#[test]
fn cluster_ips_answer_pods_and_nodes_whatever_the_length() -> Result<()> {
    need_datapath!();
    answer_everyone(&[])
}

#[test]
fn cluster_ips_answer_pods_and_nodes_where_packets_skip_the_stack() -> Result<()> {
    need_datapath!();
    answer_everyone(&["--host-routing", "bpf"])
}

#[test]
fn addresses_that_are_no_cluster_ips_answer_for_themselves_or_not_at_all() -> Result<()> {
    need_datapath!();
    let service = Service::new(1, pods_of(2, 1)).external();
    let cluster = Cluster::start(std::slice::from_ref(&service))?;
    let [client, _] = cluster.clients();
    for ip in cluster.lab.pod("pod-2-10").addresses.both() {
        ping(&client.netns, ip, 8_000).with_context(|| format!("pod {ip}"))?;
    }
    for frontend in service.external_frontends() {
        let answer = ping_for(PATIENCE / 4, &client.netns, frontend.ip(), 56);
        ensure!(answer.is_err(), "{frontend} answered");
    }
    for node in Cluster::NODES {
        ensure!(cluster.verdict(node, "echo")? == 0, "{node}");
    }
    Ok(())
}
