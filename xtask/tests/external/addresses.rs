//! Node ports follow the addresses of the node (rule 66), within a second.

use std::{net::SocketAddr, slice, time::Duration};

use anyhow::{Result, ensure};
use xtask::lab::{Netns, Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Endpoint, Policy},
    services::Numbered,
};

/// How long a change may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(1);

fn answers(netns: &Netns, to: SocketAddr) -> bool {
    Protocol::BOTH.into_iter().all(|protocol| {
        let probe = Probe::new(protocol, to).attempts(1);
        let probe = probe.timeout(Duration::from_millis(150));
        probe.run_in(netns).is_ok()
    })
}

#[test]
fn rule_66_a_node_port_is_at_an_address_as_soon_as_the_node_has_it_and_as_long() -> Result<()> {
    needs_root!();
    let far = Endpoint::Pod {
        node: 3,
        number: 10,
    };
    let service = Numbered::new(1, "web", Policy::Cluster, &[far]);
    // The range, because by default node ports are at InternalIPs alone.
    let args = ["--nodeport-addresses", "172.18.0.0/24,fd00:172:18::/64"];
    let cluster = Cluster::start(Kind::plain(Mode::Tc), slice::from_ref(&service), &args)?;
    let (node, outside) = (cluster.lab.node("node-1"), cluster.lab.outside());
    for (ip, via) in ["172.18.0.77", "fd00:172:18::77"]
        .into_iter()
        .zip(node.addresses.both())
    {
        let via = via.to_string();
        let route = [
            "ip", "route", "replace", ip, "via", &via, "dev", "node-1", "onlink",
        ];
        cluster.lab.exec(cluster.lab.fabric(), &route)?;
        let to = SocketAddr::new(ip.parse()?, service.node_port());
        ensure!(!answers(&outside.netns, to), "{to} before");
        let change = |verb| {
            cluster
                .lab
                .exec(node, &["ip", "addr", verb, ip, "dev", "eth0"])
        };
        for _ in 0..2 {
            change("add")?;
            let served = cluster
                .lab
                .wait_until(IN_FORCE, || Ok(answers(&outside.netns, to)))?;
            ensure!(served, "{to} is not served");
            ensure!(answers(&node.netns, to), "{to} from the node itself");
            change("del")?;
            let gone = cluster
                .lab
                .wait_until(IN_FORCE, || Ok(!answers(&outside.netns, to)))?;
            ensure!(gone, "{to} is served though the node has it no more");
            // What it had before is as it was.
            let own = node.addresses.like(&to.ip());
            let own = SocketAddr::new(own, service.node_port());
            ensure!(answers(&outside.netns, own), "{own} after {to} was gone");
        }
    }
    Ok(())
}
