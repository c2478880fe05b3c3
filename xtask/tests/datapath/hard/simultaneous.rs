//! Two sides that open one connection at the same time: both SYNs are on their way before either arrives. No pair of
//! programs does it by design; kernels allow it (RFC 9293, 3.5), and so do we.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Socket, Type};
use xtask::lab::{Lab, Pod};

use super::{OWN_PORT, PATIENCE, patient};
use crate::support::{Cluster, need_datapath, pods_of, service::Service};

/// Nothing of the connection comes in, but SYNs are counted.
const DEAF: &str = "table inet deaf {
    counter syn {}
    chain in {
        type filter hook prerouting priority -310
        tcp dport { 9090, 46000-46999 } counter name syn drop
    }
}";

/// A socket that is bound and does not listen; its connect goes on until the other side's does.
fn open(pod: &Pod, from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
    let connected = pod.netns.run(|| -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(socket.into())
    })?;
    connected.with_context(|| format!("{from} to {to}"))
}

/// `one` calls `by_one`, and `other` the address of `one`; both are deaf until both have called.
fn cross(
    lab: &Lab,
    (one, own): (&Pod, SocketAddr),
    by_one: SocketAddr,
    (other, others): (&Pod, SocketAddr),
) -> Result<()> {
    for pod in [one, other] {
        lab.nft(pod, DEAF)?;
    }
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| open(one, own, by_one));
        let second = scope.spawn(|| open(other, others, own));
        let heard = lab.wait_until(PATIENCE, || {
            let heard = |pod| lab.counted(pod, "deaf", "syn");
            Ok(heard(one)? > 0 && heard(other)? > 0)
        });
        for pod in [one, other] {
            lab.nft(pod, "delete table inet deaf")?;
        }
        ensure!(heard?, "not both have called");
        Ok((
            first.join().expect("no panic")?,
            second.join().expect("no panic")?,
        ))
    })?;
    let mut pair = [first, second];
    ensure!(pair[0].peer_addr()? == by_one && pair[1].peer_addr()? == own);
    for turn in [0, 1, 0, 1] {
        patient(&pair[turn])?;
        pair[turn].write_all(b"hello")?;
        let mut back = [0; 5];
        pair[1 - turn].read_exact(&mut back).context("no hello")?;
        ensure!(back == *b"hello");
    }
    // With a reset, so that the ports are free.
    let [first, _] = pair;
    Socket::from(first)
        .set_linger(Some(std::time::Duration::ZERO))
        .context("linger")
}

#[test]
fn a_connection_that_both_sides_open_is_one_directly_and_by_a_vip() -> Result<()> {
    need_datapath!();
    let services = [1, 2].map(|node| Service::new(node, pods_of(node, 1)).target(OWN_PORT));
    let cluster = Cluster::start(&services)?;
    let lab = &cluster.lab;
    let mut port = 46_000;
    for client in cluster.clients() {
        for (service, pod) in services.iter().zip(["pod-1-10", "pod-2-10"]) {
            let pod = lab.pod(pod);
            for frontend in service.frontends() {
                let endpoint = SocketAddr::new(pod.addresses.like(&frontend.ip()), OWN_PORT);
                for to in [endpoint, frontend] {
                    port += 1;
                    let own = SocketAddr::new(client.addresses.like(&to.ip()), port);
                    cross(lab, (client, own), to, (pod, endpoint))
                        .with_context(|| format!("{} {own} to {to}", client.name))?;
                }
            }
        }
    }
    Ok(())
}
