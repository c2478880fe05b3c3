//! Endpoints, ports and Services that leave under open flows (rules 53, 73 to 78).

use std::{
    cell::Cell,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use xtask::lab::Netns;

use crate::{
    cluster::{Cluster, Fate, answered},
    needs_root,
    objects::{Pod, frontends, web},
};

/// One open flow over UDP: a socket that keeps its port.
struct Udp {
    socket: UdpSocket,
    to: SocketAddr,
    asked: Cell<u32>,
}

impl Udp {
    fn open(client: &Netns, to: SocketAddr) -> Result<Self> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = client.run(|| UdpSocket::bind((any, 0)))??;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let asked = Cell::new(0);
        Ok(Self { socket, to, asked })
    }

    /// Who answers the next datagram; late answers to earlier ones do not count.
    fn ask(&self) -> io::Result<String> {
        let (mut buffer, number) = ([0; 256], self.asked.get() + 1);
        self.asked.set(number);
        self.socket.send_to(&number.to_be_bytes(), self.to)?;
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer)?;
            assert_eq!(from, self.to, "answered by another address");
            if buffer[..length].ends_with(&number.to_be_bytes()) {
                let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
                return Ok(line.split(' ').next().unwrap_or_default().to_owned());
            }
        }
    }

    /// Waits until nobody answers: other clients may be refused an instant earlier.
    fn wait_for_nobody(&self) -> Result<()> {
        let start = Instant::now();
        while let Ok(name) = self.ask() {
            ensure!(
                start.elapsed() < Duration::from_secs(1),
                "{name} still answers"
            );
        }
        Ok(())
    }

    /// Waits until `name` answers.
    fn wait_for(&self, name: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            let said = self.ask();
            if said.as_ref().is_ok_and(|said| said == name) {
                return Ok(());
            }
            let waited = start.elapsed();
            ensure!(
                waited < Duration::from_secs(3),
                "{}: {said:?}, not {name}",
                self.to
            );
        }
    }
}

/// One open connection.
struct Tcp(TcpStream);

impl Tcp {
    fn open(client: &Netns, to: SocketAddr) -> Result<(Self, String)> {
        let mut stream =
            client.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)))??;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        let line = String::from_utf8(line)?;
        let name = line.split(' ').next().context("a name")?.to_owned();
        Ok((Self(stream), name))
    }

    /// Whether the other end still echoes.
    fn echo(&mut self) -> io::Result<()> {
        let mut back = [0; 5];
        self.0.write_all(b"still")?;
        self.0.read_exact(&mut back)?;
        assert_eq!(&back, b"still");
        Ok(())
    }
}

fn a() -> Pod {
    Pod::new(1, 10)
}

fn b() -> Pod {
    Pod::new(2, 10)
}

fn only(pod: Pod) -> Vec<serde_json::Value> {
    web(&json!({}), &[pod])
}

#[test]
fn rules_73_and_78_udp_moves_at_once_and_tcp_goes_on_when_an_endpoint_leaves() -> Result<()> {
    needs_root!();
    let cluster = Cluster::start(&only(a()), &[])?;
    for (node, to) in [1, 2, 3]
        .into_iter()
        .flat_map(|node| frontends().map(|to| (node, to)))
    {
        cluster.apply(&only(a()))?;
        cluster.wait_for(node, &answered(&[a()]))?;
        let udp = Udp::open(cluster.client(node), to)?;
        let (mut tcp, name) = Tcp::open(cluster.client(node), to)?;
        ensure!(udp.ask()? == name && name == a().name());
        cluster.apply(&only(b()))?;
        udp.wait_for(&b().name())?;
        // Back again, over nothing at all: the case that leaves UDP clients stuck elsewhere (rule 75).
        cluster.apply(&web(&json!({}), &[]))?;
        cluster.wait_for(node, &Fate::Refused)?;
        udp.wait_for_nobody()
            .context("a Service without endpoints")?;
        cluster.apply(&only(a()))?;
        udp.wait_for(&a().name())?;
        // The Service is deleted and made again.
        cluster.apply(&[])?;
        cluster.wait_for(node, &Fate::Dropped)?;
        udp.wait_for_nobody().context("a deleted Service")?;
        tcp.echo().context("TCP through a deleted Service")?;
        cluster.apply(&only(b()))?;
        udp.wait_for(&b().name())?;
        tcp.echo().context("TCP to an endpoint that left")?;
    }
    Ok(())
}

#[test]
fn rule_74_udp_stays_with_an_endpoint_that_still_serves_though_it_gets_no_new_flows() -> Result<()>
{
    needs_root!();
    let cluster = Cluster::start(&only(a()), &[])?;
    let udp = frontends().map(|to| Udp::open(cluster.client(3), to));
    for udp in &udp {
        let udp = udp.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
        ensure!(udp.ask()? == a().name());
    }
    let leaving = web(&json!({}), &[a().terminating(true), b()]);
    cluster.apply(&leaving)?;
    cluster.wait_for(3, &answered(&[b()]))?;
    for udp in udp.iter().flatten() {
        ensure!(udp.ask()? == a().name());
    }
    cluster.apply(&web(&json!({}), &[a().terminating(false), b()]))?;
    for udp in udp.iter().flatten() {
        udp.wait_for(&b().name())?;
    }
    Ok(())
}

#[test]
fn with_the_option_connections_to_an_endpoint_that_left_every_slice_are_reset() -> Result<()> {
    needs_root!();
    let cluster = Cluster::start(&only(a()), &["--tcp-reset-dead-endpoints"])?;
    for to in frontends() {
        cluster.apply(&only(a()))?;
        cluster.wait_for(3, &answered(&[a()]))?;
        let (mut tcp, _) = Tcp::open(cluster.client(3), to)?;
        // Leaving is not gone: a pod may finish.
        cluster.apply(&web(&json!({}), &[a().terminating(false), b()]))?;
        cluster.wait_for(3, &answered(&[b()]))?;
        tcp.echo()?;
        cluster.apply(&only(b()))?;
        let start = Instant::now();
        let error = loop {
            match tcp.echo() {
                Ok(()) => ensure!(start.elapsed() < Duration::from_secs(2), "it goes on"),
                Err(error) => break error,
            }
        };
        ensure!(error.kind() == io::ErrorKind::ConnectionReset, "{error}");
    }
    ensure!(cluster.verdict(3, "endpoint-gone")? >= 2);
    Ok(())
}
