//! ICMP errors that are not about size: a closed port is told to whoever knocked, by the name it
//! knocked at (rule 97).

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol as Ip, Socket, Type};
use xtask::lab::patience::stretched;
use xtask::lab::{Netns, Protocol, probe::Probe};

use crate::support::{Cluster, need_datapath, pods_of, service::Service};

/// A port that nothing listens on.
const CLOSED: u16 = 9;
/// A port that a test listens on.
const OWN: u16 = 9002;

/// How often someone asks: ICMP errors are sent at most, not at least, once.
const KNOCKS: u32 = 3;

fn services(target: u16) -> [Service; 2] {
    [1, 2].map(|node: u8| Service::new(node, pods_of(node, 1)).target(target))
}

#[test]
fn a_closed_port_of_an_endpoint_refuses_the_clients_datagram() -> Result<()> {
    need_datapath!();
    let services = services(CLOSED);
    let cluster = Cluster::start(&services)?;
    unlimited(&cluster)?;
    for client in cluster.clients() {
        for frontend in services.iter().flat_map(Service::frontends) {
            let probe = Probe::new(Protocol::Udp, frontend).connected();
            let error = probe.attempts(KNOCKS).run_in(&client.netns).unwrap_err();
            ensure!(
                error.source.kind() == std::io::ErrorKind::ConnectionRefused,
                "{}: {error}",
                client.name
            );
            // A TCP endpoint says so by RST.
            let probe = Probe::new(Protocol::Tcp, frontend);
            let error = probe.run_in(&client.netns).unwrap_err();
            ensure!(
                error.source.kind() == std::io::ErrorKind::ConnectionRefused,
                "{}: {error}",
                client.name
            );
        }
    }
    for node in Cluster::NODES {
        ensure!(cluster.verdict(node, "icmp-to-client")? >= 4, "{node}");
    }
    cluster.check_no_drops()?;
    cluster.check_checksums()
}

/// What the endpoint at `own` learns when it answers a client that is gone.
fn answer_the_gone(
    cluster: &Cluster,
    (client, frontend): (&Netns, SocketAddr),
    (pod, own): (&Netns, SocketAddr),
) -> Result<std::io::ErrorKind> {
    let endpoint = cluster.lab.in_ns(pod, || UdpSocket::bind(own))??;
    endpoint.set_read_timeout(Some(stretched(Duration::from_secs(1))))?;
    cluster.lab.in_ns(client, || knock(frontend))??;
    let mut buffer = [0; 8];
    let (_, gone) = endpoint.recv_from(&mut buffer).context("no knock")?;
    endpoint.connect(gone)?;
    for _ in 0..KNOCKS {
        endpoint.send(b"anyone?")?;
        let error = endpoint.recv(&mut buffer).map(drop).unwrap_err();
        if error.kind() != std::io::ErrorKind::WouldBlock {
            return Ok(error.kind());
        }
    }
    Ok(std::io::ErrorKind::TimedOut)
}

#[test]
fn a_clients_closed_port_refuses_the_endpoints_datagram() -> Result<()> {
    need_datapath!();
    let services = services(OWN);
    let cluster = Cluster::start(&services)?;
    unlimited(&cluster)?;
    for client in cluster.clients() {
        for (service, pod) in services.iter().zip(["pod-1-10", "pod-2-10"]) {
            let pod = cluster.lab.pod(pod);
            for frontend in service.frontends() {
                let own = SocketAddr::new(pod.addresses.like(&frontend.ip()), OWN);
                let from = (&client.netns, frontend);
                let error = answer_the_gone(&cluster, from, (&pod.netns, own))?;
                ensure!(
                    error == std::io::ErrorKind::ConnectionRefused,
                    "{} by {frontend}: {error}",
                    client.name
                );
            }
        }
    }
    for node in Cluster::NODES {
        ensure!(cluster.verdict(node, "icmp-to-endpoint")? >= 4, "{node}");
    }
    cluster.check_no_drops()?;
    cluster.check_checksums()
}

/// What a client sees of an endpoint's error: who sent it, and the addresses of the packet inside.
fn knock_and_look(client: &Netns, frontend: SocketAddr) -> Result<(IpAddr, Vec<u8>)> {
    client.run(|| {
        let (protocol, unreachable, header) = match frontend {
            SocketAddr::V4(_) => (Ip::ICMPV4, 3, 20),
            SocketAddr::V6(_) => (Ip::ICMPV6, 1, 0),
        };
        let raw = Socket::new(Domain::for_address(frontend), Type::RAW, Some(protocol))?;
        raw.set_read_timeout(Some(stretched(Duration::from_secs(2))))?;
        let raw = UdpSocket::from(raw);
        knock(frontend)?;
        loop {
            let mut buffer = [0; 1500];
            let (length, from) = raw.recv_from(&mut buffer).context("no error came")?;
            let icmp = &buffer[header..length];
            if icmp[0] == unreachable {
                let addresses = if frontend.is_ipv4() { 12..20 } else { 8..40 };
                return Ok((from.ip(), icmp[8..][addresses].to_vec()));
            }
        }
    })?
}

/// A datagram from a socket that is closed at once.
fn knock(to: SocketAddr) -> std::io::Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any)?.send_to(b"knock", to).map(drop)
}

#[test]
fn an_endpoints_error_comes_from_the_vip_inside_and_out() -> Result<()> {
    need_datapath!();
    let services = services(CLOSED);
    let cluster = Cluster::start(&services)?;
    unlimited(&cluster)?;
    for client in cluster.clients() {
        for frontend in services.iter().flat_map(Service::frontends) {
            let vip = frontend.ip();
            let (from, inside) = knock_and_look(&client.netns, frontend)?;
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            ensure!(from == vip, "{}: {vip} complained as {from}", client.name);
            let asked = [octets(client.addresses.like(&vip)), octets(vip)].concat();
            ensure!(inside == asked, "{}: {inside:?} inside", client.name);
        }
    }
    Ok(())
}

/// Lets pods complain as often as they like.
fn unlimited(cluster: &Cluster) -> Result<()> {
    for pod in cluster.lab.pods() {
        pod.netns.sysctl(&[
            ("net/ipv4/icmp_ratelimit", "0"),
            ("net/ipv6/icmp/ratelimit", "0"),
        ])?;
        // Each namespace's own since kernel 6.12, the host's before: then 50 at once have to do.
        let burst = [
            ("net/ipv4/icmp_msgs_burst", "10000"),
            ("net/ipv4/icmp_msgs_per_sec", "10000"),
        ];
        let _ = pod.netns.sysctl(&burst);
    }
    Ok(())
}
