//! Datagrams that no frame holds, from outside through a node port to an endpoint on another node: the client's address
//! is exchanged on the way out and back on the way in, of each piece (rule 98).
//!
//! XDP leaves pieces to TC, also those of a flow that it sends on else.

use std::slice;

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Endpoint, Frontend, Policy},
    services::Numbered,
};

const HERE: Frontend = Frontend::NodePort { node: 1 };
const LENGTH: usize = 8_000;
const PORT: u16 = 40_123;

fn services() -> [Numbered; 2] {
    [(1, "far", 3), (2, "here", 1)].map(|(number, name, node)| {
        let pod = Endpoint::Pod { node, number: 10 };
        Numbered::new(number, name, Policy::Cluster, slice::from_ref(&pod))
    })
}

/// Short, long and short again, all of one flow.
fn pass(kind: Kind) -> Result<()> {
    let services = services();
    let cluster = Cluster::start(kind, &services, &[])?;
    for service in &services {
        for v6 in [false, true] {
            let to = service.socket(HERE, v6);
            for length in [5, LENGTH, 5, LENGTH] {
                let probe = Probe::new(Protocol::Udp, to).length(length).from_port(PORT);
                let answer = probe.run_in(&cluster.lab.outside().netns);
                answer.with_context(|| format!("{} at {to}, {length} bytes", service.name))?;
            }
        }
    }
    let verdicts = cluster.verdicts(1)?;
    for label in ["dnat", "snat", "un-snat", "rev-nat"] {
        // Six pieces twice in either family.
        ensure!(verdicts[label] >= 24, "{label}: {verdicts:?}");
    }
    ensure!(verdicts["fragment"] == 0, "{verdicts:?}");
    let by_xdp = verdicts["xdp-to-endpoint"];
    // The first and the third of the far service; the first packet, too.
    let is_as_wished = if kind.mode == Mode::Tc {
        by_xdp == 0
    } else {
        by_xdp >= 2
    };
    ensure!(is_as_wished, "{by_xdp} by XDP");
    cluster.check_counters()
}

#[test]
fn large_datagrams_pass_a_node_port_both_ways_through_tc() -> Result<()> {
    needs_root!();
    pass(Kind::plain(Mode::Tc))
}

#[test]
fn large_datagrams_pass_a_node_port_both_ways_beside_native_xdp() -> Result<()> {
    needs_root!();
    pass(Kind::plain(Mode::Native))
}

#[test]
fn large_datagrams_pass_a_node_port_and_a_firewall_both_ways_through_tc() -> Result<()> {
    needs_root!();
    pass(Kind::behind_firewall(Mode::Tc))
}

#[test]
fn large_datagrams_pass_a_node_port_and_a_firewall_both_ways_beside_native_xdp() -> Result<()> {
    needs_root!();
    pass(Kind::behind_firewall(Mode::Native))
}
