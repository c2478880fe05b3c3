//! Which of a node's addresses have node ports, as `--nodeport-addresses` says.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::json;
use xtask::lab::{Addresses, Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, answered},
    needs_root,
    objects::{Pod, web},
};

#[test]
fn rule_63_a_family_that_no_network_is_named_of_has_node_ports_at_all_addresses() -> Result<()> {
    needs_root!();
    const PORT: u16 = 30_080;
    let other: [IpAddr; 2] = ["172.19.0.1".parse()?, "fd00:172:19::1".parse()?];
    let pod = Pod::new(2, 10);
    let mut objects = web(&json!({"type": "NodePort"}), std::slice::from_ref(&pod));
    objects[0]["spec"]["ports"][0]["nodePort"] = PORT.into();
    let named = ["--nodeport-addresses", "172.18.0.0/24"];
    let cluster = Cluster::start(&objects, &named)?;
    let node = cluster.lab.node("node-1");
    for ip in other {
        let add = ["ip", "addr", "add", &ip.to_string(), "dev", "lo"];
        cluster.lab.exec(node, &add)?;
    }
    cluster.wait_for(1, &answered(std::slice::from_ref(&pod)))?;
    let answers = |ip| {
        let probe = Probe::new(Protocol::Tcp, SocketAddr::new(ip, PORT));
        probe
            .timeout(Duration::from_secs(1))
            .run_in(cluster.client(1))
    };
    let [v4, v6] = other;
    for ip in Addresses::of_node(1).both().into_iter().chain([v6]) {
        // Addresses that come are followed, but not at once (rule 66).
        let is_served = || Ok(answers(ip).is_ok_and(|answer| answer.endpoint == pod.name()));
        let is_in_time = cluster.lab.wait_until(Duration::from_secs(5), is_served)?;
        ensure!(is_in_time, "{ip}: {:?}", answers(ip));
    }
    let refused = answers(v4).expect_err("nobody listens").source.kind();
    ensure!(refused == io::ErrorKind::ConnectionRefused, "{refused:?}");
    Ok(())
}
