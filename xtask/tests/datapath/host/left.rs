//! Connected sockets whose endpoint has left: UDP is told and connects anew, TCP goes on or is reset.

use std::{
    io::ErrorKind,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::libc;

use xtask::lab::patience::stretched;

use super::{ask_connected, connected};
use crate::support::{
    Cluster, need_datapath, pods_of,
    service::{self, Service},
    stream::{Stream, bytes},
};

/// How soon a change of manifests must be in force.
const IN_FORCE: Duration = Duration::from_secs(5);

/// Waits for an answer that does not come, as a resolver does: to be told that the socket was destroyed. Whoever
/// sends instead of waiting is told that there is no destination.
fn wait_for_end(socket: &UdpSocket) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < stretched(IN_FORCE) {
        match socket.recv(&mut [0; 2048]) {
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                let errno = socket
                    .send(b"duolb")
                    .err()
                    .and_then(|error| error.raw_os_error());
                ensure!(
                    errno == Some(libc::EDESTADDRREQ),
                    "sending ends with {errno:?}"
                );
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => bail!("{other:?}"),
        }
    }
    bail!("it waits for an endpoint that has left")
}

#[test]
fn connected_udp_is_told_that_its_endpoint_has_left_and_connects_to_another() -> Result<()> {
    need_datapath!();
    let pods = pods_of(1, 2);
    let (old, new) = ([pods[0]], [pods[1]]);
    let cluster = Cluster::start(&[Service::new(1, old)])?;
    let node = cluster.lab.node("node-1");
    let mut open = vec![];
    let mut direct = vec![];
    for frontend in Service::new(1, old).frontends() {
        let socket = connected(&node.netns, frontend)?;
        let before = ask_connected(&socket).context("before the change")?;
        let stream = Stream::open(&node.netns, 0, frontend)?;
        open.push((frontend, socket, stream, before));
        // Whoever has chosen the endpoint himself keeps it.
        for endpoint in Service::new(1, old).sockets_like(frontend) {
            direct.push(connected(&node.netns, endpoint)?);
        }
    }
    service::write(
        &cluster.lab.dir().join("manifests"),
        &[Service::new(1, new)],
    )?;
    for (frontend, socket, mut stream, before) in open {
        wait_for_end(&socket).with_context(|| frontend.to_string())?;
        socket.connect(frontend)?;
        let after = ask_connected(&socket)?;
        ensure!(after != before, "{frontend}: {after} again");
        let exchanged = stream.exchange(&bytes(10_000));
        exchanged.with_context(|| format!("{frontend}: rule 78"))?;
    }
    for socket in direct {
        ask_connected(&socket).with_context(|| format!("{:?} itself", socket.peer_addr()))?;
    }
    Ok(())
}

#[test]
fn connected_udp_is_told_that_its_service_is_gone() -> Result<()> {
    need_datapath!();
    let services = [
        Service::new(1, pods_of(2, 1)),
        Service::new(2, pods_of(2, 1)),
    ];
    let cluster = Cluster::start(&services)?;
    let node = cluster.lab.node("node-1");
    let [gone, stays] = [0, 1].map(|at: usize| services[at].frontends());
    for (gone, stays) in gone.into_iter().zip(stays) {
        let (lost, kept) = (
            connected(&node.netns, gone)?,
            connected(&node.netns, stays)?,
        );
        ask_connected(&lost)?;
        ask_connected(&kept)?;
        service::write(&cluster.lab.dir().join("manifests"), &services[1..])?;
        // Rule 75.
        wait_for_end(&lost).with_context(|| gone.to_string())?;
        // The same endpoint, by a service that there is still.
        ask_connected(&kept).with_context(|| stays.to_string())?;
        service::write(&cluster.lab.dir().join("manifests"), &services)?;
        let start = Instant::now();
        while connected(&node.netns, gone)
            .and_then(|socket| Ok(ask_connected(&socket)?))
            .is_err()
        {
            ensure!(
                start.elapsed() < stretched(IN_FORCE),
                "{gone} is not there again"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

#[test]
fn tcp_to_an_endpoint_that_has_left_every_slice_is_reset_if_asked_for() -> Result<()> {
    need_datapath!();
    let pods = pods_of(1, 2);
    let (old, new) = ([pods[0]], [pods[1]]);
    let cluster = Cluster::start_with(&[Service::new(1, old)], &["--tcp-reset-dead-endpoints"])?;
    let node = cluster.lab.node("node-1");
    for frontend in Service::new(1, old).frontends() {
        let mut stream = Stream::open(&node.netns, 0, frontend)?;
        stream.exchange(&bytes(100))?;
        service::write(
            &cluster.lab.dir().join("manifests"),
            &[Service::new(1, new)],
        )?;
        let start = Instant::now();
        while stream.exchange(&bytes(100)).is_ok() {
            ensure!(
                start.elapsed() < stretched(IN_FORCE),
                "{frontend}: it is not reset"
            );
            thread::sleep(Duration::from_millis(10));
        }
        service::write(
            &cluster.lab.dir().join("manifests"),
            &[Service::new(1, old)],
        )?;
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}
