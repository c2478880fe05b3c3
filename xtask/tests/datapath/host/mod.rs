//! Processes of the node itself: their sockets are connected to endpoints and never see them.
//!
//! The kernel has no test run for programs of this kind (BPF_PROG_TEST_RUN knows no `cgroup_sock_addr`), so that
//! whatever can be said of them is said here, by real sockets.

mod cgroups;
mod datagrams;
mod external;
mod left;
mod mapped;
mod reached;
mod refused;
mod restarts;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::Netns;
use xtask::lab::patience::stretched;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(700);

/// A UDP socket in a namespace, not connected.
fn udp(netns: &Netns, family_of: SocketAddr) -> Result<UdpSocket> {
    netns.run(|| {
        let any: SocketAddr = match family_of {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(stretched(PATIENCE)))?;
        Ok(socket)
    })?
}

/// A connected one.
fn connected(netns: &Netns, to: SocketAddr) -> Result<UdpSocket> {
    let socket = udp(netns, to)?;
    socket
        .connect(to)
        .with_context(|| format!("connect to {to}/UDP"))?;
    Ok(socket)
}

/// The name of the endpoint that answers a datagram to `to`, which must come from there.
fn ask(socket: &UdpSocket, to: SocketAddr) -> Result<String> {
    socket
        .send_to(b"duolb", to)
        .with_context(|| format!("send to {to}"))?;
    let (name, from) = hear(socket).with_context(|| format!("answer of {to}"))?;
    ensure!(from == to, "{to}: the answer came from {from}");
    Ok(name)
}

/// The same by a connected socket.
fn ask_connected(socket: &UdpSocket) -> std::io::Result<String> {
    socket.send(b"duolb")?;
    hear(socket).map(|(name, _)| name)
}

fn hear(socket: &UdpSocket) -> std::io::Result<(String, SocketAddr)> {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer)?;
    let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let name = line.split(' ').next().unwrap_or_default();
    Ok((name.to_owned(), from))
}
