//! UDP sockets that are not connected: each datagram names its destination, and the socket keeps its endpoint.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use xtask::lab::patience::stretched;

use super::{ask, udp};
use crate::support::{
    Cluster, need_datapath, pods_of,
    service::{self, Service},
};

#[test]
fn one_socket_keeps_its_endpoint_and_many_have_different_ones() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(1, 4))];
    let cluster = Cluster::start(&services)?;
    let node = cluster.lab.node("node-1");
    for frontend in services[0].frontends() {
        let mut all = BTreeSet::new();
        for _ in 0..30 {
            let socket = udp(&node.netns, frontend)?;
            let first = ask(&socket, frontend)?;
            for _ in 0..5 {
                let next = ask(&socket, frontend)?;
                ensure!(next == first, "{frontend}: {first}, then {next}");
            }
            all.insert(first);
        }
        ensure!(all.len() > 1, "{frontend}: {all:?}");
    }
    Ok(())
}

#[test]
fn a_socket_moves_on_when_its_endpoint_leaves() -> Result<()> {
    need_datapath!();
    let pods = pods_of(1, 2);
    let (old, new) = ([pods[0]], [pods[1]]);
    let cluster = Cluster::start(&[Service::new(1, old)])?;
    let node = cluster.lab.node("node-1");
    let frontends = Service::new(1, old).frontends();
    let mut open = vec![];
    for frontend in frontends {
        let socket = udp(&node.netns, frontend)?;
        let before = ask(&socket, frontend)?;
        open.push((frontend, socket, before));
    }
    service::write(
        &cluster.lab.dir().join("manifests"),
        &[Service::new(1, new)],
    )?;
    let start = Instant::now();
    for (frontend, socket, before) in open {
        // Rule 73; the socket never rests.
        while ask(&socket, frontend)? == before {
            ensure!(
                start.elapsed() < stretched(Duration::from_secs(5)),
                "{frontend}: stays with {before}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}

#[test]
fn answers_of_two_vips_with_one_endpoint_come_from_the_one_that_was_asked() -> Result<()> {
    need_datapath!();
    let services = [
        Service::new(1, pods_of(2, 1)),
        Service::new(2, pods_of(2, 1)),
    ];
    let cluster = Cluster::start(&services)?;
    let node = cluster.lab.node("node-1");
    for (one, other) in services[0]
        .frontends()
        .into_iter()
        .zip(services[1].frontends())
    {
        let socket = udp(&node.netns, one)?;
        for _ in 0..3 {
            // It compares where the answer is from.
            ask(&socket, one)?;
            ask(&socket, other)?;
        }
    }
    Ok(())
}
