//! Every endpoint is reached, unchanged, from everywhere: {IPv4, IPv6} x {TCP, UDP} x {same node, other
//! node} x {routed, bridged} x {1, 2, 10, 100 endpoints}, and by many connections.

use std::{collections::BTreeSet, fmt::Write as _, fs, net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Addresses, Pod, Protocol, Shape, probe::Probe};

use crate::support::{
    Cluster, need_datapath, pods_of,
    server::{Server, Sockets},
    service::Service,
    stream::{Stream, bytes},
};

/// Counts of endpoints.
const COUNTS: [u8; 4] = [1, 2, 10, 100];
/// Numbers of the further addresses, which come after the client's.
const FIRST: u8 = 120;

/// Endpoint `i` of a node: a further address of pod 10 + i % 4.
fn endpoint(node: u8, i: u8) -> Addresses {
    Addresses::of_pod(node, FIRST + i)
}

/// Gives a node's four pods 25 further addresses each and serves every one under its own name.
fn add_endpoints(cluster: &Cluster, node: u8, sockets: &mut Sockets) -> Result<()> {
    let host = cluster.lab.node(&format!("node-{node}"));
    let routed = matches!(host.node, Some((_, Shape::Routed)));
    let (len4, len6) = if routed { (32, 128) } else { (24, 64) };
    let batch = cluster.lab.dir().join("batch");
    let ip = format!("ip -batch {}", batch.display());
    let mut routes = String::new();
    for number in 0..4 {
        let pod = cluster.lab.pod(&format!("pod-{node}-{}", 10 + number));
        let mut lines = String::new();
        let mut addresses = Vec::new();
        for i in (number..100).step_by(4) {
            let Addresses { v4, v6 } = endpoint(node, i);
            writeln!(lines, "addr add {v4}/{len4} dev eth0")?;
            writeln!(lines, "addr add {v6}/{len6} dev eth0 nodad")?;
            writeln!(routes, "route add {v4}/32 dev {} scope link", pod.device)?;
            writeln!(routes, "route add {v6}/128 dev {}", pod.device)?;
            addresses.extend(endpoint(node, i).both().map(|ip| SocketAddr::new(ip, 9000)));
        }
        fs::write(&batch, lines)?;
        cluster.run(pod, &ip)?;
        sockets.bind(&pod.netns, &addresses)?;
    }
    if routed {
        fs::write(&batch, routes)?;
        cluster.run(host, &ip)?;
    }
    Ok(())
}

/// A cluster with a service for each node and count.
fn many_endpoints() -> Result<(Cluster, Vec<Service>, Server)> {
    let mut cluster = Cluster::lab_only()?;
    let mut sockets = Sockets::default();
    add_endpoints(&cluster, 1, &mut sockets)?;
    add_endpoints(&cluster, 2, &mut sockets)?;
    let kinds = [1, 2]
        .into_iter()
        .flat_map(|node| COUNTS.map(|n| (node, n)));
    let services: Vec<Service> = (1..)
        .zip(kinds)
        .map(|(number, (node, count))| {
            let endpoints: Vec<_> = (0..count).map(|i| endpoint(node, i)).collect();
            Service::new(number, endpoints).target(9000)
        })
        .collect();
    cluster.serve(&services, &[])?;
    Ok((cluster, services, sockets.serve()?))
}

/// Talks to `frontend` until every one of `endpoints` has answered. With n endpoints that are equally
/// likely, n * (ln n + 14) tries leave one out once in a million runs; log2 is more than ln.
fn reach_all(
    client: &Pod,
    protocol: Protocol,
    frontend: SocketAddr,
    endpoints: &BTreeSet<String>,
) -> Result<u32> {
    let count = u32::try_from(endpoints.len())?;
    let bound = count * (count.ilog2() + 14);
    let mut missing = endpoints.clone();
    for tries in 1..=bound {
        let answer = Probe::new(protocol, frontend).run()?;
        ensure!(
            endpoints.contains(&answer.endpoint),
            "{frontend}/{protocol} led to {}",
            answer.endpoint
        );
        let own = client.addresses.like(&frontend.ip());
        ensure!(
            answer.client.ip() == own,
            "{} saw {} instead of {own}",
            answer.endpoint,
            answer.client
        );
        missing.remove(&answer.endpoint);
        if missing.is_empty() {
            return Ok(tries);
        }
    }
    anyhow::bail!("{frontend}/{protocol}: {missing:?} not reached in {bound} tries")
}

/// Probes check that answers come from the VIP: TCP by connecting, UDP by the datagram's source.
#[test]
fn every_endpoint_is_reached_answers_as_the_vip_and_sees_the_client() -> Result<()> {
    need_datapath!();
    let (cluster, services, _server) = many_endpoints()?;
    let start = Instant::now();
    let mut conversations = 0;
    for client in cluster.clients() {
        for service in &services {
            for (frontend, protocol) in service
                .frontends()
                .into_iter()
                .flat_map(|frontend| Protocol::BOTH.map(|protocol| (frontend, protocol)))
            {
                let endpoints = service.sockets_like(frontend).map(|to| to.to_string());
                let endpoints = endpoints.collect();
                let work = || reach_all(client, protocol, frontend, &endpoints);
                let reached = cluster.lab.in_ns(client, work)?;
                conversations += reached.with_context(|| client.name.clone())?;
            }
        }
    }
    eprintln!("{conversations} conversations in {:?}", start.elapsed());
    cluster.check_no_drops()?;
    cluster.check_checksums()
}

/// One service with all pods of both nodes.
fn everywhere() -> Service {
    Service::new(9, [pods_of(1, 4), pods_of(2, 4)].concat())
}

#[test]
fn a_thousand_connections_live_side_by_side() -> Result<()> {
    need_datapath!();
    let service = everywhere();
    let cluster = Cluster::start(std::slice::from_ref(&service))?;
    for client in cluster.clients() {
        for frontend in service.frontends() {
            cluster.lab.in_ns(client, || -> Result<()> {
                let open: Result<Vec<_>> =
                    (0..1000).map(|_| Stream::open_here(0, frontend)).collect();
                let mut open = open?;
                let reached: BTreeSet<_> = open.iter().map(|stream| &stream.endpoint).collect();
                ensure!(reached.len() == 8, "only {reached:?} were reached");
                // Everyone's own bytes come back by their own connection.
                for round in 0..2 {
                    for (i, stream) in open.iter_mut().enumerate() {
                        stream.exchange_little(format!("{i} {round}").as_bytes())?;
                    }
                }
                open.into_iter().try_for_each(Stream::reset)
            })??;
        }
    }
    cluster.check_no_drops()
}

#[test]
fn ten_thousand_connections_in_a_row_all_succeed() -> Result<()> {
    need_datapath!();
    let service = everywhere();
    let cluster = Cluster::start(std::slice::from_ref(&service))?;
    let start = Instant::now();
    for (client, frontend) in cluster.clients().into_iter().zip(service.frontends()) {
        cluster.lab.in_ns(client, || -> Result<()> {
            for i in 0..10_000 {
                let once = || {
                    let mut stream = Stream::open_here(0, frontend)?;
                    stream.exchange_little(b"duolb")?;
                    ensure!(stream.peer()? == frontend && stream.client == stream.local()?);
                    // A few leave by the front door, and their port in TIME-WAIT.
                    if i % 100 == 0 {
                        stream.close()
                    } else {
                        stream.reset()
                    }
                };
                once().with_context(|| format!("{}, connection {i}", client.name))?;
            }
            Ok(())
        })??;
    }
    eprintln!("2 x 10,000 connections in {:?}", start.elapsed());
    cluster.check_no_drops()
}

#[test]
fn ten_megabytes_go_and_come_back_unchanged() -> Result<()> {
    need_datapath!();
    let services = [
        Service::new(1, pods_of(1, 1)),
        Service::new(2, pods_of(2, 1)),
    ];
    let cluster = Cluster::start(&services)?;
    let payload = bytes(10 << 20);
    for client in cluster.clients() {
        for frontend in services.iter().flat_map(Service::frontends) {
            let mut stream = Stream::open(&client.netns, 0, frontend)?;
            stream
                .exchange(&payload)
                .and_then(|()| stream.close())
                .with_context(|| client.name.clone())?;
        }
    }
    cluster.check_no_drops()?;
    cluster.check_checksums()
}
