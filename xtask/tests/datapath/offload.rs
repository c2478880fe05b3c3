//! Checksums, whoever computes them: a veth with default offloads hides every mistake, so each
//! combination of who fills in and who checks is tried (performance.md, traps).
//!
//! `sender tx off` makes packets as they come off a wire; `egress tx off` has the node compute what the
//! pod left open, after our programs have changed the packet.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::patience::stretched;
use xtask::lab::{Netns, Protocol, leave_out_checksums, probe::Probe};

use crate::support::{
    Cluster, need_datapath, pods_of, server::Sockets, service::Service, stream::bytes,
};

/// Lengths of payloads: odd and even, one segment and many.
const LENGTHS: [usize; 3] = [1, 1400, 200_001];

/// The port of the server that leaves checksums out.
const NO_CHECKSUM: u16 = 9001;

/// Turns transmit checksums on or off: at the pods' end of every veth, and at the nodes' end and their
/// uplinks.
pub fn set_tx(cluster: &Cluster, senders: bool, egress: bool) -> Result<()> {
    let word = |on| ["tx", if on { "on" } else { "off" }];
    for pod in cluster.lab.pods() {
        cluster.lab.offload(pod, "eth0", &word(senders))?;
        let node = cluster.lab.node(&pod.node);
        cluster.lab.offload(node, &pod.device, &word(egress))?;
    }
    for node in cluster.lab.nodes() {
        cluster.lab.offload(node, "eth0", &word(egress))?;
    }
    Ok(())
}

/// One answer over UDP without checksums in either direction.
fn talk_without_checksums(netns: &Netns, to: SocketAddr, payload: &[u8]) -> Result<()> {
    netns.run(|| {
        let any: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)?;
        leave_out_checksums(&socket, to)?;
        socket.set_read_timeout(Some(stretched(Duration::from_secs(1))))?;
        socket.send_to(payload, to)?;
        let mut buffer = vec![0; 64 << 10];
        let (length, from) = socket.recv_from(&mut buffer).context("no answer")?;
        ensure!(from == to, "the answer came from {from}");
        ensure!(buffer[..length].ends_with(payload), "another payload");
        Ok(())
    })?
}

/// Every kind of packet between every client and service, and what the kernels' counters say then.
pub fn check_payloads_and_checksums(
    cluster: &Cluster,
    services: &[Service],
    without_checksums: &[Service],
) -> Result<()> {
    for client in cluster.clients() {
        for frontend in services.iter().flat_map(Service::frontends) {
            for length in LENGTHS {
                let tcp = Probe::new(Protocol::Tcp, frontend).length(length);
                tcp.run_in(&client.netns)?;
                // Datagrams in pieces are another test's.
                let udp = Probe::new(Protocol::Udp, frontend).length(length.min(1400));
                udp.attempts(1).run_in(&client.netns)?;
            }
        }
        for frontend in without_checksums.iter().flat_map(Service::frontends) {
            for length in [1, 1400] {
                talk_without_checksums(&client.netns, frontend, &bytes(length))
                    .with_context(|| format!("{} to {frontend}/UDP, no checksum", client.name))?;
            }
        }
    }
    cluster.check_no_drops()?;
    cluster.check_checksums()
}

#[test]
fn checksums_are_right_whoever_computes_them() -> Result<()> {
    need_datapath!();
    let services = [
        Service::new(1, pods_of(1, 1)),
        Service::new(2, pods_of(2, 1)),
    ];
    let without = [
        Service::new(3, pods_of(1, 1)).target(NO_CHECKSUM),
        Service::new(4, pods_of(2, 1)).target(NO_CHECKSUM),
    ];
    let cluster = Cluster::start(&[&services[..], &without].concat())?;
    let mut sockets = Sockets::default();
    for pod in [cluster.lab.pod("pod-1-10"), cluster.lab.pod("pod-2-10")] {
        let addresses = pod.addresses.both().map(|ip| (ip, NO_CHECKSUM).into());
        sockets.bind_without_checksums(&pod.netns, &addresses)?;
    }
    let _server = sockets.serve()?;
    for (senders, egress) in [(true, true), (false, true), (true, false), (false, false)] {
        set_tx(&cluster, senders, egress)?;
        check_payloads_and_checksums(&cluster, &services, &without)
            .with_context(|| format!("tx of senders {senders}, of egress devices {egress}"))?;
    }
    Ok(())
}
