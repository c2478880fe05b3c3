//! One client port, two ways to the same endpoint: behind the translation the tuples are the same, and
//! answers must still come from where the client asked (rule 99, finding 5).

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::Pod;
use xtask::lab::patience::stretched;

use crate::support::{Cluster, need_datapath, pods_of, service::Service, stream::Stream};

/// Two services with the same endpoint on each node.
fn services() -> [Service; 4] {
    [(1, 1), (2, 1), (3, 2), (4, 2)].map(|(number, node)| Service::new(number, pods_of(node, 1)))
}

/// Runs `case` for each client, pair of services and family, with a fresh port each time.
fn for_all_pairs(
    cluster: &Cluster,
    services: &[Service; 4],
    case: impl Fn(&Pod, u16, [SocketAddr; 2], SocketAddr) -> Result<()>,
) -> Result<()> {
    let mut port = 41_000;
    for client in cluster.clients() {
        for pair in services.chunks(2) {
            for (one, other) in pair[0].frontends().into_iter().zip(pair[1].frontends()) {
                port += 1;
                let direct = pair[0].sockets_like(one).next().context("an endpoint")?;
                case(client, port, [one, other], direct)
                    .with_context(|| format!("{} port {port}, {one}, {direct}", client.name))?;
            }
        }
    }
    Ok(())
}

/// Both talk in turns, then the second goes on alone after the first has ended.
fn talk_in_turns(mut first: Stream, mut second: Stream) -> Result<()> {
    ensure!(first.endpoint == second.endpoint && first.client != second.client);
    for round in 0..20 {
        first
            .exchange_little(format!("first {round}").as_bytes())
            .context("the first")?;
        second
            .exchange_little(format!("second {round}").as_bytes())
            .context("the second")?;
    }
    first.close().context("the first")?;
    let alone = second
        .exchange_little(b"alone")
        .and_then(|()| second.close());
    alone.context("the second alone")
}

#[test]
fn a_port_used_to_a_vip_and_closed_serves_directly_to_the_endpoint() -> Result<()> {
    need_datapath!();
    let services = services();
    let cluster = Cluster::start(&services)?;
    for_all_pairs(&cluster, &services, |client, port, [vip, _], direct| {
        for by_reset in [false, true] {
            let port = port + 1000 * u16::from(by_reset);
            let mut stream = Stream::open(&client.netns, port, vip)?;
            stream.exchange_little(b"by the VIP")?;
            if by_reset {
                stream.reset()
            } else {
                stream.close()
            }?;
            // From another CPU the SYN could overtake the RST.
            std::thread::sleep(Duration::from_millis(20));
            let mut stream = Stream::open(&client.netns, port, direct)?;
            stream.exchange_little(b"directly")?;
            ensure!(stream.client.port() == port, "moved without need");
            // And back again: the VIP's flow opens anew.
            stream.reset()?;
            let mut stream = Stream::open(&client.netns, port + 2000, vip)?;
            stream.exchange_little(b"by the VIP")?;
            stream.reset()?;
        }
        Ok(())
    })?;
    cluster.check_no_drops()
}

#[test]
fn a_port_in_use_to_a_vip_serves_directly_to_the_endpoint_as_well() -> Result<()> {
    need_datapath!();
    let services = services();
    let cluster = Cluster::start(&services)?;
    for_all_pairs(&cluster, &services, |client, port, [vip, _], direct| {
        let by_vip = Stream::open(&client.netns, port, vip)?;
        let directly = Stream::open(&client.netns, port, direct)?;
        ensure!(by_vip.client.port() == port && directly.client.port() != port);
        talk_in_turns(by_vip, directly)
    })?;
    for node in Cluster::NODES {
        ensure!(
            cluster.verdict(node, "port-moved")? > 0,
            "{node} moved none"
        );
    }
    cluster.check_no_drops()
}

/// Nothing tells that the direct connection is there before its endpoint is asked by the VIP as well.
#[test]
fn a_port_in_use_directly_serves_to_a_vip_as_well() -> Result<()> {
    need_datapath!();
    let services = services();
    let cluster = Cluster::start(&services)?;
    for_all_pairs(&cluster, &services, |client, port, [vip, _], direct| {
        let directly = Stream::open(&client.netns, port, direct)?;
        let by_vip = Stream::open(&client.netns, port, vip)?;
        talk_in_turns(directly, by_vip)
    })?;
    cluster.check_no_drops()
}

#[test]
fn a_port_serves_to_two_vips_of_one_endpoint() -> Result<()> {
    need_datapath!();
    let services = services();
    let cluster = Cluster::start(&services)?;
    for_all_pairs(&cluster, &services, |client, port, [one, other], _| {
        let first = Stream::open(&client.netns, port, one)?;
        let second = Stream::open(&client.netns, port, other)?;
        talk_in_turns(first, second)
    })?;
    cluster.check_no_drops()
}

/// One UDP socket asks both in turns and is answered by whom it asked.
fn ask_in_turns(cluster: &Cluster, client: &Pod, port: u16, both: [SocketAddr; 2]) -> Result<()> {
    let own = client.addresses.like(&both[0].ip());
    let socket = cluster
        .lab
        .in_ns(client, || UdpSocket::bind((own, port)))??;
    socket.set_read_timeout(Some(stretched(Duration::from_secs(2))))?;
    for round in 0..10 {
        for to in both {
            let asked = format!("{to} {round}");
            socket.send_to(asked.as_bytes(), to)?;
            let mut buffer = [0; 256];
            let (length, from) = socket.recv_from(&mut buffer).context("no answer")?;
            let answer = String::from_utf8_lossy(&buffer[..length]);
            ensure!(from == to, "{to} answered as {from}");
            ensure!(answer.ends_with(&asked), "asked {asked}, got {answer}");
        }
    }
    Ok(())
}

#[test]
fn a_datagram_socket_serves_to_two_vips_of_one_endpoint() -> Result<()> {
    need_datapath!();
    let services = services();
    let cluster = Cluster::start(&services)?;
    for_all_pairs(&cluster, &services, |client, port, vips, _| {
        ask_in_turns(&cluster, client, port, vips)
    })?;
    cluster.check_no_drops()
}
