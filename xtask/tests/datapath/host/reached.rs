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
