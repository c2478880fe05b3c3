//! Node firewalls that drop what conntrack finds invalid: both directions of a flow must take the same
//! path, through the stack or through the bridge, or conntrack sees half of it (finding 1).

use std::{
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::lab::patience::stretched;
use xtask::lab::{Protocol, probe::Probe};

use crate::support::{
    Cluster, need_datapath, pods_of,
    service::Service,
    stream::{Stream, bytes},
};

/// What CNIs and kube-proxy's own rules amount to: pods may begin, answers may follow, the rest is
/// dropped.
pub const FIREWALL: &str = "
    table inet firewall {
        counter invalid {}
        chain forward {
            type filter hook forward priority filter; policy drop;
            ct state invalid counter name invalid drop
            ct state established,related accept
            icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert } accept
            ip saddr 10.244.0.0/16 ct state new accept
            ip6 saddr fd00:10:244::/46 ct state new accept
        }
    }";

/// Packets that the firewalls found invalid so far.
pub fn invalid(cluster: &Cluster) -> Result<u64> {
    let nodes = cluster.lab.nodes();
    nodes.map(|node| cluster.lab.invalid(node)).sum()
}

/// Has pods and nodes forget who has which MAC, so that first packets find no neighbour.
fn forget_neighbours(cluster: &Cluster) -> Result<()> {
    let nodes = cluster.lab.nodes().map(|node| &node.netns);
    for netns in cluster.lab.pods().map(|pod| &pod.netns).chain(nodes) {
        cluster.run(netns, "ip neigh flush all")?;
    }
    Ok(())
}

fn transfer(cluster: &Cluster, services: &[Service], payload: &[u8]) -> Result<()> {
    for client in cluster.clients() {
        for frontend in services.iter().flat_map(Service::frontends) {
            for neighbours in ["unknown", "known"] {
                let what = || format!("{} to {frontend}, neighbours {neighbours}", client.name);
                if neighbours == "unknown" {
                    forget_neighbours(cluster)?;
                }
                let mut stream = Stream::open(&client.netns, 0, frontend).with_context(what)?;
                let exchanged = stream.exchange(payload).and_then(|()| stream.close());
                exchanged.with_context(what)?;
                for _ in 0..5 {
                    let udp = Probe::new(Protocol::Udp, frontend).length(1000);
                    udp.run_in(&client.netns).with_context(what)?;
                }
                ensure!(invalid(cluster)? == 0, "{}: invalid packets", what());
            }
        }
    }
    Ok(())
}

/// Whether bridged frames can be shown to the firewall on this machine.
fn has_br_netfilter() -> bool {
    Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
}

fn behind_a_firewall(bridge_nf: Option<&str>) -> Result<()> {
    let services = [1, 2].map(|node: u8| Service::new(node, pods_of(node, 2)));
    let cluster = Cluster::start(&services)?;
    for node in cluster.lab.nodes() {
        if let Some(value) = bridge_nf {
            node.netns.sysctl(&[
                ("net/bridge/bridge-nf-call-iptables", value),
                ("net/bridge/bridge-nf-call-ip6tables", value),
            ])?;
        }
        cluster.lab.nft(node, FIREWALL)?;
    }
    transfer(&cluster, &services, &bytes(1 << 20))?;
    cluster.check_no_drops()
}

#[test]
fn flows_pass_a_firewall_that_does_not_see_the_bridge() -> Result<()> {
    need_datapath!();
    behind_a_firewall(has_br_netfilter().then_some("0"))
}

#[test]
fn flows_pass_a_firewall_that_sees_the_bridge() -> Result<()> {
    need_datapath!();
    if !has_br_netfilter() {
        eprintln!("skipped: br_netfilter is not loaded (modprobe br_netfilter)");
        return Ok(());
    }
    behind_a_firewall(Some("1"))
}

/// A datagram from `socket` is answered, if not the first then one of the next.
fn is_answered(socket: &UdpSocket, frontend: SocketAddr) -> Result<()> {
    let mut buffer = [0; 64];
    for _ in 0..8 {
        socket.send_to(b"duolb", frontend)?;
        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
            ensure!(from == frontend, "answered by {from}");
            return Ok(());
        }
    }
    bail!("{frontend} does not answer")
}

/// Frames of a flow on a bridge bear the endpoint's MAC, which another pod's with the same address is
/// not.
#[test]
fn a_datagram_socket_on_a_bridge_outlives_the_endpoints_pod() -> Result<()> {
    need_datapath!();
    let service = Service::new(1, pods_of(2, 1));
    let mut cluster = Cluster::start(std::slice::from_ref(&service))?;
    let client = cluster.lab.pod("client-2");
    let sockets = cluster.lab.in_ns(client, || {
        ["0.0.0.0:0", "[::]:0"].map(|any| UdpSocket::bind(any).unwrap())
    })?;
    for (socket, frontend) in sockets.iter().zip(service.frontends()) {
        socket.set_read_timeout(Some(stretched(Duration::from_millis(500))))?;
        is_answered(socket, frontend)?;
        is_answered(socket, frontend)?;
    }
    cluster.lab.remove_pod("pod-2-10")?;
    cluster.lab.add_pod("node-2", 10, true)?;
    for (socket, frontend) in sockets.iter().zip(service.frontends()) {
        is_answered(socket, frontend).context("after the pod was replaced")?;
    }
    Ok(())
}
