//! Uplinks without link layer, as WireGuard's and IPIP's are: node ports are reached through them, answers go back
//! through them, and so do refusals.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    slice,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Host, Lab, Protocol, Tunnel, probe::Probe};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Endpoint, Frontend, Policy},
    services::Numbered,
};

const TUNNEL: &str = "tun0";
/// Networks of the tunnel; the node is number 1, whoever is at its other end number 2.
const NETWORKS: [&str; 2] = ["198.18.7.0/24", "2001:db8:18::/64"];
const NEAR: [&str; 2] = ["198.18.7.1", "2001:db8:18::1"];
const FAR: [&str; 2] = ["198.18.7.2", "2001:db8:18::2"];

/// How long a new device may take to be served on a busy machine; `uplinks` and `devices` ask for a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the tunnel is.
#[derive(Clone, Copy)]
enum Through {
    /// A device of ours that stands for all others.
    Tun,
    /// WireGuard's.
    WireGuard,
    /// IPv4 and IPv6 in IPv6, as the kernel's `ip6tnl` does it.
    InIpv6,
}

/// A tunnel from `node-1` to another host, with addresses at both ends.
fn lay(lab: &Lab, kind: Through, to: &Host) -> Result<Option<Tunnel>> {
    let (from, to_host) = (lab.node("node-1"), to);
    let (node, to) = (&from.netns, &to.netns);
    let tunnel = match kind {
        Through::Tun => Some(Tunnel::lay(TUNNEL, [node, to])?),
        Through::WireGuard => {
            lab.lay_wireguard(TUNNEL, [from, to_host])?;
            None
        }
        Through::InIpv6 => {
            lab.lay_ip6tnl(TUNNEL, [from, to_host])?;
            None
        }
    };
    for (netns, [v4, v6]) in [(node, NEAR), (to, FAR)] {
        for line in [
            &format!("link set {TUNNEL} up mtu 1400"),
            &format!("addr add {v4}/24 dev {TUNNEL}"),
            &format!("addr add {v6}/64 dev {TUNNEL} nodad"),
        ] {
            let words: Vec<&str> = ["ip"].into_iter().chain(line.split(' ')).collect();
            lab.exec(netns, &words)?;
        }
    }
    Ok(tunnel)
}

fn parsed(addresses: [&str; 2], v6: bool) -> Result<IpAddr> {
    addresses[usize::from(v6)].parse().context("an address")
}

/// One whose endpoint is on the node, one whose endpoint is on another, one with a closed port, and one with nobody.
fn services() -> [Numbered; 4] {
    let service = |number, name, endpoints: &[Endpoint]| {
        Numbered::new(number, name, Policy::Cluster, endpoints)
    };
    let pod = |node, number| [Endpoint::Pod { node, number }];
    [
        service(1, "here", &pod(1, 10)),
        service(2, "far", &pod(3, 10)),
        service(3, "closed", &pod(3, 100)),
        service(4, "nobody", &[]),
    ]
}

/// A client at the other end of a tunnel.
fn come_through(mode: Mode, kind: Through) -> Result<()> {
    let services = services();
    let args = ["--nodeport-addresses", &NETWORKS.join(",")];
    let cluster = Cluster::start(Kind::plain(mode), &services, &args)?;
    let (lab, outside) = (&cluster.lab, &cluster.lab.outside().netns);
    let _tunnel = lay(lab, kind, lab.outside())?;
    let nodes = cluster.node_addresses()?;
    let is_served = || {
        let [first, second] =
            NEAR.map(|near| SocketAddr::new(near.parse().expect("an address"), 30_001));
        let answers = |to| Probe::new(Protocol::Tcp, to).run_in(outside).is_ok();
        Ok(answers(first) && answers(second))
    };
    ensure!(lab.wait_until(PATIENCE, is_served)?, "not in time");
    for v6 in [false, true] {
        let (own, near) = (parsed(FAR, v6)?, parsed(NEAR, v6)?);
        for protocol in Protocol::BOTH {
            let probe = |service: &Numbered| {
                let to = (near, service.node_port()).into();
                Probe::new(protocol, to).connected().length(1000)
            };
            // Also that the first packet of a flow is as good as the next.
            let here = probe(&services[0]).attempts(1).run_in(outside)?;
            ensure!(here.client.ip() == own, "{here:?}");
            let far = probe(&services[1]).attempts(1).run_in(outside)?;
            ensure!(nodes[&1].contains(&far.client.ip()), "{far:?}");
            for service in &services[2..] {
                let error = probe(service).attempts(1).run_in(outside);
                let error = error.expect_err("nobody serves there");
                ensure!(
                    error.source.kind() == io::ErrorKind::ConnectionRefused,
                    "{}: {error}",
                    service.name
                );
            }
        }
        for service in &services[..2] {
            let to = (near, service.node_port()).into();
            let bulk = Probe::new(Protocol::Tcp, to).length(1 << 20);
            bulk.run_in(outside).context("bulk")?;
        }
    }
    cluster.check_counters()
}

#[test]
fn a_client_behind_a_tunnel_is_served_and_refused_through_tc() -> Result<()> {
    needs_root!();
    come_through(Mode::Tc, Through::Tun)
}

#[test]
fn a_client_behind_a_tunnel_is_served_and_refused_where_the_other_uplink_has_xdp() -> Result<()> {
    needs_root!();
    come_through(Mode::Native, Through::Tun)
}

/// An endpoint behind a tunnel: clients from outside get the tunnel's address.
fn go_through(mode: Mode, kind: Through) -> Result<()> {
    let service = &services()[1];
    let cluster = Cluster::start(Kind::plain(mode), slice::from_ref(service), &[])?;
    let (lab, outside) = (&cluster.lab, &cluster.lab.outside().netns);
    let _tunnel = lay(lab, kind, lab.node("node-3"))?;
    let pod = lab.pod("pod-3-10").addresses;
    for (ip, via) in pod.both().into_iter().zip(FAR) {
        let (to, node) = (ip.to_string(), lab.node("node-1"));
        lab.exec(node, &["ip", "route", "replace", &to, "via", via])?;
    }
    for v6 in [false, true] {
        let (to, near) = (
            service.socket(Frontend::NodePort { node: 1 }, v6),
            parsed(NEAR, v6)?,
        );
        let given = || -> Result<bool> {
            let answer = Probe::new(Protocol::Tcp, to).run_in(outside)?;
            Ok(answer.client.ip() == near)
        };
        ensure!(lab.wait_until(PATIENCE, given)?, "not as {near}");
        for protocol in Protocol::BOTH {
            let probe = Probe::new(protocol, to).length(1000).attempts(1);
            let answer = probe.run_in(outside)?;
            ensure!(answer.client.ip() == near, "{answer:?}");
        }
        // The tunnel's MTU is smaller than the client's.
        let bulk = Probe::new(Protocol::Tcp, to).length(1 << 20);
        bulk.run_in(outside).context("bulk")?;
    }
    cluster.check_counters()
}

#[test]
fn an_endpoint_behind_a_tunnel_sees_the_tunnels_address_through_tc() -> Result<()> {
    needs_root!();
    go_through(Mode::Tc, Through::Tun)
}

#[test]
fn an_endpoint_behind_a_tunnel_sees_the_tunnels_address_where_clients_come_in_by_xdp() -> Result<()>
{
    needs_root!();
    go_through(Mode::Native, Through::Tun)
}

/// The kernel's own tunnels, where it has them: both ways round, beside an uplink with XDP.
fn go_both_ways(kind: Through, name: &str, test: &str) -> Result<()> {
    if Lab::knows_link(name, test)? {
        come_through(Mode::Native, kind)?;
        go_through(Mode::Native, kind)?;
    }
    Ok(())
}

#[test]
fn wireguard_is_a_tunnel_like_any_other() -> Result<()> {
    needs_root!();
    let test = "wireguard_is_a_tunnel_like_any_other";
    go_both_ways(Through::WireGuard, "wireguard", test)
}

#[test]
fn ip_in_ipv6_is_a_tunnel_like_any_other() -> Result<()> {
    needs_root!();
    let test = "ip_in_ipv6_is_a_tunnel_like_any_other";
    go_both_ways(Through::InIpv6, "ip6tnl", test)
}
