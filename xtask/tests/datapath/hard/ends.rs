//! Connections that end at one side only, or not as both agreed: half-closed ones go on, a side that has lost its
//! state makes the other learn of it, and a reset arrives.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::Socket;
use xtask::lab::{Lab, Netns, Pod};

use super::{OWN_PORT, accept, connect, listen};
use crate::support::{Cluster, need_datapath, pods_of, service::Service, stream::bytes};

/// More than all buffers hold.
const MUCH: usize = 3 << 20;

/// A side that dies without a word.
const MUTE: &str = "table inet mute {
    chain out {
        type filter hook output priority filter
        tcp flags & (fin | rst) != 0 drop
    }
}";

/// A connection as both ends have it.
struct Pair {
    client: TcpStream,
    endpoint: TcpStream,
}

/// Runs `case` for both clients, an endpoint on either node, and both families.
fn for_all(case: impl Fn(&Lab, &Pod, &Pod, Pair) -> Result<()>) -> Result<()> {
    let services = [1, 2].map(|node| Service::new(node, pods_of(node, 1)).target(OWN_PORT));
    let cluster = Cluster::start(&services)?;
    let lab = &cluster.lab;
    for client in cluster.clients() {
        for (service, pod) in services.iter().zip(["pod-1-10", "pod-2-10"]) {
            let pod = lab.pod(pod);
            for frontend in service.frontends() {
                let about = || format!("{} to {frontend} on {}", client.name, pod.name);
                let at = SocketAddr::new(pod.addresses.like(&frontend.ip()), OWN_PORT);
                let listener = listen(&pod.netns, at)?;
                let stream = connect(&client.netns, frontend).with_context(about)?;
                let (endpoint, _) = accept(&listener).with_context(about)?;
                let mut pair = Pair {
                    client: stream,
                    endpoint,
                };
                pair.talk().with_context(about)?;
                case(lab, client, pod, pair).with_context(about)?;
            }
        }
    }
    cluster.check_no_drops()
}

impl Pair {
    /// A word each way.
    fn talk(&mut self) -> Result<()> {
        say(&mut self.client, &mut self.endpoint)?;
        say(&mut self.endpoint, &mut self.client)
    }
}

fn say(from: &mut TcpStream, to: &mut TcpStream) -> Result<()> {
    from.write_all(b"hello")?;
    let mut back = [0; 5];
    to.read_exact(&mut back)?;
    ensure!(back == *b"hello");
    Ok(())
}

/// `from` sends much and closes; `to`, which has closed its half already, gets all of it.
fn pour(mut from: TcpStream, to: &mut TcpStream) -> Result<()> {
    let sent = bytes(MUCH);
    let writer = thread::spawn(move || {
        from.write_all(&bytes(MUCH))?;
        from.shutdown(Shutdown::Write)
    });
    let mut back = Vec::new();
    to.read_to_end(&mut back).context("read to the end")?;
    writer.join().expect("no panic").context("write")?;
    ensure!(back == sent, "{} bytes came of {MUCH}", back.len());
    Ok(())
}

fn at_end(stream: &mut TcpStream) -> Result<()> {
    let length = stream.read(&mut [0; 8]).context("the end")?;
    ensure!(length == 0, "{length} bytes instead of the end");
    Ok(())
}

/// Closes with RST.
fn reset(stream: TcpStream) -> Result<()> {
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).context("linger")
}

/// Whether the other side's reset arrives.
fn learns(stream: &mut TcpStream) -> Result<()> {
    match stream.read(&mut [0; 8]) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        other => anyhow::bail!("{other:?} instead of a reset"),
    }
}

#[test]
fn a_connection_that_one_side_has_closed_carries_all_of_the_other_sides_bytes() -> Result<()> {
    need_datapath!();
    for_all(|_, _, _, mut pair| {
        pair.client.shutdown(Shutdown::Write)?;
        at_end(&mut pair.endpoint)?;
        pour(pair.endpoint, &mut pair.client).context("the client closed first")
    })?;
    for_all(|_, _, _, mut pair| {
        pair.endpoint.shutdown(Shutdown::Write)?;
        at_end(&mut pair.client)?;
        pour(pair.client, &mut pair.endpoint).context("the endpoint closed first")
    })
}

#[test]
fn a_reset_of_either_side_reaches_the_other() -> Result<()> {
    need_datapath!();
    for_all(|_, _, _, mut pair| {
        reset(pair.client)?;
        learns(&mut pair.endpoint).context("the endpoint")
    })?;
    for_all(|_, _, _, mut pair| {
        reset(pair.endpoint)?;
        learns(&mut pair.client).context("the client")
    })
}

/// Takes a connection's state away from one side without a word to the other.
fn forget(lab: &Lab, netns: &Netns, stream: TcpStream) -> Result<()> {
    lab.nft(netns, MUTE)?;
    reset(stream)?;
    lab.nft(netns, "delete table inet mute")
}

#[test]
fn a_side_that_has_lost_its_state_makes_the_other_learn_of_it_with_its_next_packet() -> Result<()> {
    need_datapath!();
    for_all(|lab, _, pod, mut pair| {
        forget(lab, &pod.netns, pair.endpoint)?;
        pair.client.write_all(b"are you there")?;
        learns(&mut pair.client).context("the client")
    })?;
    for_all(|lab, client, _, mut pair| {
        forget(lab, &client.netns, pair.client)?;
        pair.endpoint.write_all(b"are you there")?;
        learns(&mut pair.endpoint).context("the endpoint")
    })
}
