//! Datagrams where ports alone tell nothing: several clients with one port, and an endpoint that answers from another
//! port than it was asked at.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::Netns;

use super::{OWN_PORT, PATIENCE, bound};
use crate::support::{Cluster, need_datapath, pods_of, service::Service};

fn bind(netns: &Netns, at: SocketAddr) -> Result<UdpSocket> {
    let socket = bound(netns, at, UdpSocket::bind)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn receive(socket: &UdpSocket) -> Result<(String, SocketAddr)> {
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer).context("nothing came")?;
    Ok((
        String::from_utf8_lossy(&buffer[..length]).into_owned(),
        from,
    ))
}

/// Pods of both nodes with one and the same port, one endpoint, and VIPs enough that each has several: everyone gets
/// his own answers, in whatever order they come.
#[test]
fn several_clients_with_one_port_and_several_vips_get_their_own_answers_each() -> Result<()> {
    need_datapath!();
    let services = [1, 2, 3].map(|number| Service::new(number, pods_of(1, 1)));
    let cluster = Cluster::start(&services)?;
    for at in [0, 1] {
        let names = ["client-1", "client-2", "pod-1-11", "pod-2-11"];
        let mut clients = Vec::new();
        for name in names {
            let pod = cluster.lab.pod(name);
            let own = SocketAddr::new(pod.addresses.both()[at], 45_000);
            clients.push((name, own, bind(&pod.netns, own)?));
        }
        for round in 0..20 {
            // All ask all before anyone looks at an answer.
            for (name, _, socket) in &clients {
                for service in &services {
                    let to = service.frontends()[at];
                    socket.send_to(format!("{name} {to} {round}").as_bytes(), to)?;
                }
            }
            for (name, own, socket) in &clients {
                let mut missing: Vec<SocketAddr> = services
                    .iter()
                    .map(|service| service.frontends()[at])
                    .collect();
                while !missing.is_empty() {
                    let (answer, from) = receive(socket).context(*name)?;
                    ensure!(
                        answer.ends_with(&format!("{name} {from} {round}")),
                        "{name} got {answer:?} from {from}"
                    );
                    // Two VIPs of one endpoint make it see two ports, and neither is another client's.
                    ensure!(answer.contains(&format!(" {}", own.ip())) || answer.contains("[fd00"));
                    missing.retain(|vip| *vip != from);
                }
            }
        }
    }
    cluster.check_no_drops()
}

/// An answer from another port belongs to no flow of ours: it passes as it is.
#[test]
fn an_answer_from_another_port_than_was_asked_is_none_of_ours() -> Result<()> {
    need_datapath!();
    let services = [1, 2].map(|node| Service::new(node, pods_of(node, 1)).target(OWN_PORT));
    let cluster = Cluster::start(&services)?;
    for client in cluster.clients() {
        for (service, pod) in services.iter().zip(["pod-1-10", "pod-2-10"]) {
            let pod = cluster.lab.pod(pod);
            for frontend in service.frontends() {
                let ip = pod.addresses.like(&frontend.ip());
                let asked = bind(&pod.netns, SocketAddr::new(ip, OWN_PORT))?;
                let other = bind(&pod.netns, SocketAddr::new(ip, OWN_PORT + 1))?;
                let own = client.addresses.like(&ip);
                let socket = bind(&client.netns, SocketAddr::new(own, 0))?;
                socket.send_to(b"question", frontend)?;
                let (_, from) = receive(&asked)?;
                other.send_to(b"from elsewhere", from)?;
                ensure!(receive(&socket)? == ("from elsewhere".into(), other.local_addr()?));
                asked.send_to(b"from here", from)?;
                ensure!(receive(&socket)? == ("from here".into(), frontend));
            }
        }
    }
    cluster.check_no_drops()
}
