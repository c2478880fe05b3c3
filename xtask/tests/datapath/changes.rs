//! What a change of endpoints does to clients that are in the middle of it: session affinity (rules 68 to
//! 72), UDP that goes on elsewhere, and TCP that goes on where it is (rules 73 to 78).

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::patience::stretched;
use xtask::lab::{Netns, Protocol, probe::Probe};

use crate::support::{
    Cluster, need_datapath, pods_of,
    service::{self, Service},
    stream::{Stream, bytes},
};

/// How soon a change of manifests must be in force.
const IN_FORCE: Duration = Duration::from_secs(5);

/// A UDP socket in a namespace, which keeps its port.
fn udp(netns: &Netns, to: SocketAddr) -> Result<UdpSocket> {
    netns.run(|| {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(stretched(Duration::from_millis(300))))?;
        Ok(socket)
    })?
}

/// What the endpoint says to a datagram: its line; none if there is no answer.
fn ask(socket: &UdpSocket, to: SocketAddr) -> Option<String> {
    socket.send_to(b"duolb", to).ok()?;
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    (from == to).then(|| String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[test]
fn clients_stick_to_one_endpoint_over_tcp_and_udp_and_each_to_its_own() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(1, 4)).affinity(600)];
    let cluster = Cluster::start(&services)?;
    for client in cluster.clients() {
        for frontend in services[0].frontends() {
            for protocol in Protocol::BOTH {
                let mut endpoints = BTreeSet::new();
                for _ in 0..12 {
                    let answer = Probe::new(protocol, frontend)
                        .run_in(&client.netns)
                        .with_context(|| format!("{} to {frontend}/{protocol}", client.name))?;
                    endpoints.insert(answer.endpoint);
                }
                ensure!(
                    endpoints.len() == 1,
                    "{} to {frontend}/{protocol}: {endpoints:?}",
                    client.name
                );
            }
        }
    }
    Ok(())
}

#[test]
fn udp_goes_on_at_another_endpoint_when_its_own_leaves_and_tcp_stays() -> Result<()> {
    need_datapath!();
    let pods = pods_of(1, 2);
    let (old, new) = ([pods[0]], [pods[1]]);
    let cluster = Cluster::start(&[Service::new(1, old)])?;
    let mut open = vec![];
    for client in cluster.clients() {
        for frontend in Service::new(1, old).frontends() {
            let stream = Stream::open(&client.netns, 0, frontend)?;
            let socket = udp(&client.netns, frontend)?;
            let before = ask(&socket, frontend).context("UDP before the change")?;
            open.push((client.name.as_str(), frontend, stream, socket, before));
        }
    }
    service::write(
        &cluster.lab.dir().join("manifests"),
        &[Service::new(1, new)],
    )?;
    let start = Instant::now();
    for (client, frontend, stream, socket, before) in &mut open {
        // The socket never rests, as a resolver's does not; it must not keep its flow alive.
        loop {
            match ask(socket, *frontend) {
                Some(line) if line != *before => break,
                _ => ensure!(
                    start.elapsed() < stretched(IN_FORCE),
                    "{client} to {frontend}: UDP stays with an endpoint that has left"
                ),
            }
            thread::sleep(Duration::from_millis(10));
        }
        stream
            .exchange(&bytes(10_000))
            .with_context(|| format!("{client} to {frontend}: rule 78"))?;
    }
    Ok(())
}
