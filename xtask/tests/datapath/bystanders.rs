//! What is no business of ours passes as if we were not there, and what cannot be served disturbs
//! nothing that can.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol as Ip, Socket, Type};
use xtask::lab::patience::stretched;
use xtask::lab::{Addresses, Netns, Pod, Protocol, probe::Probe};

use crate::support::{Cluster, need_datapath, pods_of, service::Service, stream::bytes};

pub const PATIENCE: Duration = Duration::from_secs(2);

/// One ICMP echo of so many bytes, checked.
pub fn ping(netns: &Netns, to: IpAddr, length: usize) -> Result<()> {
    ping_for(PATIENCE, netns, to, length)
}

/// Likewise with another patience.
pub fn ping_for(patience: Duration, netns: &Netns, to: IpAddr, length: usize) -> Result<()> {
    netns.sysctl(&[("net/ipv4/ping_group_range", "0 0")])?;
    netns.run(|| {
        let (protocol, kind) = match to {
            IpAddr::V4(_) => (Ip::ICMPV4, 8),
            IpAddr::V6(_) => (Ip::ICMPV6, 128),
        };
        let to = SocketAddr::new(to, 0);
        let mut socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(protocol))?;
        socket.set_read_timeout(Some(stretched(patience)))?;
        socket.connect(&to.into())?;
        let payload = bytes(length);
        let request = [&[kind, 0, 0, 0, 0, 0, 0, 1][..], &payload].concat();
        socket.write_all(&request)?;
        let mut reply = vec![0; 64 << 10];
        let length = socket.read(&mut reply).context("no echo")?;
        ensure!(reply[..length].ends_with(&payload), "another echo");
        Ok(())
    })?
}

/// A datagram to a group or to everyone arrives.
fn cast(
    cluster: &Cluster,
    from: &Netns,
    (receiver, device): (&Netns, &str),
    group: SocketAddr,
) -> Result<()> {
    let link = cluster.run(receiver, &format!("ip -o link show dev {device}"))?;
    let index = link.split(':').next().and_then(|index| index.parse().ok());
    let index: u32 = index.with_context(|| link.clone())?;
    let receiving = receiver.run(|| -> Result<UdpSocket> {
        let any: IpAddr = match group {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = Socket::new(Domain::for_address(group), Type::DGRAM, None)?;
        match group.ip() {
            IpAddr::V4(ip) if ip.is_multicast() => {
                let device = socket2::InterfaceIndexOrAddress::Index(index);
                socket.join_multicast_v4_n(&ip, &device)?;
            }
            IpAddr::V4(_) => {}
            IpAddr::V6(ip) => socket.join_multicast_v6(&ip, index)?,
        }
        socket.bind(&SocketAddr::new(any, group.port()).into())?;
        Ok(socket.into())
    })??;
    receiving.set_read_timeout(Some(stretched(PATIENCE)))?;
    from.run(|| -> Result<()> {
        let socket = Socket::new(Domain::for_address(group), Type::DGRAM, None)?;
        if group.is_ipv4() {
            socket.set_broadcast(true)?;
        }
        // Everyone is whoever hangs on eth0.
        socket.bind_device(Some(b"eth0"))?;
        socket.send_to(b"duolb", &group.into())?;
        Ok(())
    })??;
    let mut buffer = [0; 16];
    let (length, _) = receiving.recv_from(&mut buffer).context("nothing came")?;
    ensure!(buffer[..length] == *b"duolb");
    Ok(())
}

/// Direct traffic of every kind between a client and a pod.
fn talk_directly(cluster: &Cluster, client: &Pod, pod: &Pod) -> Result<()> {
    // Whoever is asked has to be found first, by ARP or neighbour discovery.
    for netns in [
        &client.netns,
        &pod.netns,
        &cluster.lab.node(&pod.node).netns,
    ] {
        cluster.run(netns, "ip neigh flush all")?;
    }
    for ip in pod.addresses.both() {
        ping(&client.netns, ip, 5).with_context(|| format!("ping {ip}"))?;
        for protocol in Protocol::BOTH {
            // Fragments of a datagram as well.
            for length in [5, 60_000] {
                let probe = Probe::new(protocol, SocketAddr::new(ip, 8080)).length(length);
                let answer = probe.run_in(&client.netns)?;
                ensure!(answer.endpoint == pod.name);
                ensure!(answer.client.ip() == client.addresses.like(&ip));
            }
        }
    }
    Ok(())
}

#[test]
fn traffic_without_a_service_passes_uncounted() -> Result<()> {
    need_datapath!();
    let service = Service::new(1, [pods_of(1, 1), pods_of(2, 1)].concat());
    let cluster = Cluster::start(std::slice::from_ref(&service))?;
    let counts = || Cluster::NODES.map(|node| cluster.verdicts(node).unwrap());
    let before = counts();
    for client in cluster.clients() {
        for pod in ["pod-1-10", "pod-1-11", "pod-2-10", "pod-2-11"] {
            talk_directly(&cluster, client, cluster.lab.pod(pod))
                .with_context(|| format!("{} to {pod}", client.name))?;
        }
    }
    let groups: [SocketAddr; 3] = [
        (Ipv4Addr::new(239, 1, 1, 1), 7000).into(),
        (Ipv4Addr::BROADCAST, 7001).into(),
        "[ff02::1:1234]:7002".parse()?,
    ];
    for group in groups {
        // On a bridge a pod hears them, at the end of a routed veth only its node.
        let [routed, bridged] = cluster.clients();
        let node = &cluster.lab.node("node-1").netns;
        let pod = &cluster.lab.pod("pod-2-10").netns;
        for (from, to) in [
            (bridged, (pod, "eth0")),
            (routed, (node, routed.device.as_str())),
        ] {
            cast(&cluster, &from.netns, to, group)
                .with_context(|| format!("{group} from {}", from.name))?;
        }
    }
    ensure!(
        counts() == before,
        "direct traffic was counted: {:?}",
        counts()
    );
    // The counters do count.
    for (client, frontend) in cluster.clients().into_iter().zip(service.frontends()) {
        cluster.lab.probe(client, Protocol::Tcp, frontend)?;
    }
    let after = counts();
    ensure!(after[0] != before[0] && after[1] != before[1]);
    cluster.check_checksums()
}

/// Finding 9: DNAT to 127.0.0.1 would need route_localnet; the pods' own loopback is meant anyway.
#[test]
fn an_endpoint_on_loopback_is_reported_and_others_are_served() -> Result<()> {
    need_datapath!();
    let loopback = Addresses {
        v4: Ipv4Addr::LOCALHOST,
        v6: Ipv6Addr::LOCALHOST,
    };
    // A slice that cannot be served is skipped as a whole; the service's other ones are not.
    let mixed = Service::new(1, [vec![loopback], pods_of(1, 1)].concat()).per_slice(1);
    let sound = Service::new(2, pods_of(2, 1));
    let cluster = Cluster::start(&[mixed.clone(), sound.clone()])?;
    for node in Cluster::NODES {
        let log = cluster.lab.agent(node).log();
        for (slice, address) in [
            ("service-1-ipv4-0", "127.0.0.1"),
            ("service-1-ipv6-0", "::1"),
        ] {
            let told = log.lines().any(|line| {
                line.contains(slice) && line.contains(address) && line.contains("loopback address")
            });
            ensure!(told, "{node} did not report {address} of {slice}:\n{log}");
        }
        let agent = &cluster.status(node)?["agent"];
        ensure!(agent["problems"] == 2, "{node}: {agent}\n{log}");
    }
    for client in cluster.clients() {
        for frontend in sound.frontends().into_iter().chain(mixed.frontends()) {
            for _ in 0..5 {
                cluster.lab.probe(client, Protocol::Tcp, frontend)?;
            }
        }
    }
    cluster.check_no_drops()
}
