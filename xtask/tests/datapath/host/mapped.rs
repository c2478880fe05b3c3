//! IPv6 sockets that talk IPv4 by mapped addresses: what most programs have that listen to nothing else.

use std::{
    io::Read as _,
    net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};

use xtask::lab::patience::stretched;

use super::{PATIENCE, ask, ask_connected};
use crate::support::{Cluster, need_datapath, pods_of, service::Service};

/// An IPv6 socket for both families.
fn both_families(kind: Type) -> Result<Socket> {
    let socket = Socket::new(Domain::IPV6, kind, None)?;
    socket.set_only_v6(false)?;
    socket.set_read_timeout(Some(stretched(PATIENCE)))?;
    Ok(socket)
}

#[test]
fn mapped_addresses_are_served_as_the_ipv4_ones_that_they_stand_for() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(2, 2))];
    let cluster = Cluster::start(&services)?;
    let node = cluster.lab.node("node-1");
    let [SocketAddr::V4(vip), _] = services[0].frontends() else {
        anyhow::bail!("IPv4 comes first");
    };
    let mapped: Ipv6Addr = vip.ip().to_ipv6_mapped();
    let frontend = SocketAddr::new(mapped.into(), vip.port());
    cluster.lab.in_ns(node, || -> Result<()> {
        let socket = both_families(Type::STREAM)?;
        socket.connect(&frontend.into()).context("TCP")?;
        let mut stream: TcpStream = socket.into();
        ensure!(stream.peer_addr()? == frontend, "{}", stream.peer_addr()?);
        ensure!(stream.read(&mut [0; 100]).context("TCP")? > 0);

        let socket: UdpSocket = both_families(Type::DGRAM)?.into();
        ask(&socket, frontend).context("UDP")?;

        let socket: UdpSocket = both_families(Type::DGRAM)?.into();
        socket.connect(frontend).context("connected UDP")?;
        ensure!(socket.peer_addr()? == frontend, "{}", socket.peer_addr()?);
        ask_connected(&socket).context("connected UDP")?;
        Ok(())
    })??;
    ensure!(cluster.verdict("node-1", "socket")? >= 3);
    Ok(())
}
