//! Who answers what passes: somebody at every address and port that is asked for, beside the service that may
//! have it. What duolb should have taken and did not is answered as well, and by the wrong one.
//!
//! ```text
//!   VIPs, addresses outside     the fabric; from `outside` they lead to a node first, and come back from there
//!   a node's addresses          its own stack: where it has a node port, that process is shadowed (rule 55)
//!   loopback                    every client's own stack
//! ```

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use anyhow::Result;
use lb_common::address::Family;
use xtask::lab::{Endpoint, Lab, Netns};

use super::places::{self, Places};
use crate::cases::{Case, Step, Target};

/// What all of them are called.
pub(super) const STACK: &str = "stack";
/// The fabric's table of routes for what comes from `outside`.
const TABLE: &str = "200";

/// Gives the nodes their other address, and has everybody listen.
///
/// # Errors
/// If a route cannot be made or a port cannot be bound.
pub(super) fn lay(lab: &Lab, cases: &[Case]) -> Result<Vec<Endpoint>> {
    // The fabric takes no packet from `outside` that is for a node, and all others.
    for family in Family::BOTH {
        ip(lab, family, "rule add priority 100 lookup local")?;
        ip(lab, family, "rule del priority 0 lookup local")?;
        for range in ranges(family) {
            let rule = format!("rule add priority 20 iif outside to {range} lookup {TABLE}");
            ip(lab, family, &rule)?;
        }
        for range in [places::range(family), places::outside(family)] {
            ip(lab, family, &format!("route add local {range} dev lo"))?;
        }
        for node in lab.nodes() {
            let other = places::other(family).to_string();
            // Else nobody could listen at an address of IPv6 at once.
            let at_once = (family == Family::V6).then_some("nodad");
            let add = ["ip", "addr", "add", &other, "dev", "lo"];
            let add: Vec<&str> = add.into_iter().chain(at_once).collect();
            lab.exec(node, &add)?;
        }
    }
    lab.fabric().sysctl(&[
        ("net/ipv6/ip_nonlocal_bind", "1"),
        // The kernel forwards nothing that it has found a socket for already.
        ("net/ipv4/ip_early_demux", "0"),
    ])?;

    let (mut beyond, mut own) = (BTreeSet::new(), BTreeSet::new());
    for ask in cases.iter().flat_map(|case| &case.steps) {
        let Step::Ask(ask) = ask else { continue };
        for family in Family::BOTH {
            let at = SocketAddr::new(ask.address(family, &Places::default()), ask.port);
            match ask.target {
                Target::Vip(_) | Target::External(_) => beyond.insert(at),
                Target::Node(_) => own.insert(at),
            };
        }
    }
    let at = |netns: &Netns, is_here: &dyn Fn(IpAddr) -> bool, all: &BTreeSet<SocketAddr>| {
        let here = all.iter().filter(|at| is_here(at.ip()));
        let names = here.map(|at| (*at, STACK.to_owned()));
        Endpoint::start_at(netns, STACK, names.collect())
    };
    let mut servers = vec![at(lab.fabric(), &|_| true, &beyond)?];
    for node in lab.nodes() {
        let has = |ip: IpAddr| {
            node.addresses.both().contains(&ip)
                || ip.is_loopback()
                || ip == places::other(Family::of(&ip))
        };
        servers.push(at(&node.netns, &has, &own)?);
    }
    let others = lab.clients().filter(|pod| pod.name.starts_with("client"));
    let others = others.map(|pod| &pod.netns).chain([&lab.outside().netns]);
    for netns in others {
        servers.push(at(netns, &|ip: IpAddr| ip.is_loopback(), &own)?);
    }
    Ok(servers)
}

/// Has packets from `outside` come to `node` first.
pub(super) fn lead(lab: &Lab, node: &str) -> Result<()> {
    for family in Family::BOTH {
        let own = lab.node(node).addresses.like(&places::other(family));
        for range in ranges(family) {
            let route = format!("route replace {range} via {own} dev {node} onlink table {TABLE}");
            ip(lab, family, &route)?;
        }
    }
    Ok(())
}

/// What `outside` reaches by way of a node only.
fn ranges(family: Family) -> [String; 3] {
    let of_all = [places::range(family), places::outside(family)];
    let [vips, outside] = of_all.map(str::to_owned);
    [vips, outside, places::other(family).to_string()]
}

/// In the fabric.
fn ip(lab: &Lab, family: Family, what: &str) -> Result<()> {
    let flag = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let words: Vec<&str> = ["ip", flag].into_iter().chain(what.split(' ')).collect();
    lab.exec(lab.fabric(), &words).map(drop)
}
