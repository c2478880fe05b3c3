//! Uplinks that appear while the agent runs serve node ports on their addresses within a second (rule 66), and
//! leave the others served when they go.

use std::{net::SocketAddr, slice, time::Duration};

use anyhow::{Result, ensure};
use xtask::lab::{Host, Lab, Netns, Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Endpoint, Frontend, Policy},
    services::Numbered,
};

/// How long a change may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(1);
/// The node's address on an uplink that comes, IPv4 first.
const ADDRESSES: [&str; 2] = ["172.19.0.1", "fd00:172:19::1"];
/// What there is besides the nodes' own addresses.
const NODE_PORTS: &str = "172.16.0.0/12,fd00:172::/32";
/// Known, so that neighbours can be written down: a device that shares another's has a MAC of its own.
const MAC: &str = "02:00:ac:13:00:01";

/// A device with [`MAC`], and the fabric's device to it.
struct Uplink {
    name: &'static str,
    from: &'static str,
    /// Lines for `ip` on the node that make it.
    on_node: &'static [&'static str],
    /// Likewise on the fabric, where they make what leads to it.
    on_fabric: &'static [&'static str],
    /// Devices to be deleted on the node and on the fabric, so that it goes.
    ends: [&'static [&'static str]; 2],
}

/// A cable of its own.
const VETH: Uplink = Uplink {
    name: "up0",
    from: "node-1-up0",
    on_node: &["link add up0 address MAC type veth peer name node-1-up0 netns FABRIC"],
    on_fabric: &["link set node-1-up0 up"],
    ends: [&["up0"], &[]],
};
/// On the first uplink.
const MACVLAN: Uplink = Uplink {
    name: "mac0",
    from: "node-1",
    on_node: &["link add link eth0 name mac0 address MAC type macvlan mode bridge"],
    on_fabric: &[],
    ends: [&["mac0"], &[]],
};
/// A VLAN of the first uplink.
const VLAN: Uplink = Uplink {
    name: "vlan7",
    from: "node-1-v7",
    on_node: &["link add link eth0 name vlan7 address MAC type vlan id 7"],
    on_fabric: &[
        "link add link node-1 name node-1-v7 type vlan id 7",
        "link set node-1-v7 up",
    ],
    ends: [&["vlan7"], &["node-1-v7"]],
};
/// A bond with one cable.
const BOND: Uplink = Uplink {
    name: "bond7",
    from: "node-1-up0",
    on_node: &[
        "link add bond7 address MAC type bond mode active-backup miimon 50",
        "link add up0 type veth peer name node-1-up0 netns FABRIC",
        "link set up0 master bond7",
    ],
    on_fabric: &["link set node-1-up0 up"],
    ends: [&["up0", "bond7"], &[]],
};

impl Uplink {
    fn come(&self, cluster: &Cluster) -> Result<()> {
        let (name, from, node) = (self.name, self.from, cluster.lab.node("node-1"));
        let fabric = cluster.lab.fabric();
        for line in self.on_node {
            let line = line.replace("FABRIC", fabric.name()).replace("MAC", MAC);
            run(cluster, node, &line)?;
        }
        for line in self.on_fabric {
            run(cluster, fabric, line)?;
        }
        run(cluster, node, &format!("link set {name} up"))?;
        for (address, length) in ADDRESSES.into_iter().zip(["24", "64 nodad"]) {
            run(
                cluster,
                node,
                &format!("addr add {address}/{length} dev {name}"),
            )?;
            let to = format!("neigh replace {address} lladdr {MAC} dev {from} nud permanent");
            run(cluster, fabric, &to)?;
            run(
                cluster,
                fabric,
                &format!("route replace {address} dev {from}"),
            )?;
        }
        Ok(())
    }

    fn go(&self, cluster: &Cluster) -> Result<()> {
        let [on_node, on_fabric] = self.ends;
        for device in on_node {
            let del = format!("link del {device}");
            run(cluster, cluster.lab.node("node-1"), &del)?;
        }
        let fabric = cluster.lab.fabric();
        for device in on_fabric {
            run(cluster, fabric, &format!("link del {device}"))?;
        }
        ADDRESSES.into_iter().try_for_each(|address| {
            // The kernel takes the route and the neighbour away where the device has gone.
            let replaced = format!("route replace {address} via 172.18.0.1 dev node-1 onlink");
            let replaced =
                replaced.replace("172.18.0.1", &via(cluster.lab.node("node-1"), address));
            run(cluster, fabric, &replaced)
        })
    }
}

/// The node's first address of the family of `address`.
fn via(node: &Host, address: &str) -> String {
    let ip = address.parse().expect("written here");
    node.addresses.like(&ip).to_string()
}

fn run(cluster: &Cluster, netns: impl AsRef<Netns>, line: &str) -> Result<()> {
    let words: Vec<&str> = ["ip"].into_iter().chain(line.split(' ')).collect();
    cluster.lab.exec(netns, &words).map(drop)
}

fn services() -> [Numbered; 2] {
    [(1, "here", 1), (2, "far", 3)].map(|(number, name, node)| {
        let pod = Endpoint::Pod { node, number: 10 };
        Numbered::new(number, name, Policy::Cluster, slice::from_ref(&pod))
    })
}

fn answers(cluster: &Cluster, to: SocketAddr) -> bool {
    Protocol::BOTH.into_iter().all(|protocol| {
        let probe = Probe::new(protocol, to).attempts(1);
        let probe = probe.timeout(Duration::from_millis(150));
        probe.run_in(&cluster.lab.outside().netns).is_ok()
    })
}

/// Whether both services answer at the uplink's addresses.
fn is_served(cluster: &Cluster) -> bool {
    services().iter().all(|service| {
        let to = ADDRESSES
            .map(|ip| SocketAddr::new(ip.parse().expect("written here"), service.node_port()));
        to.into_iter().all(|to| answers(cluster, to))
    })
}

fn come_and_go(mode: Mode, uplink: &Uplink) -> Result<()> {
    let args = ["--nodeport-addresses", NODE_PORTS];
    let services = services();
    let cluster = Cluster::start(Kind::plain(mode), &services, &args)?;
    for turn in ["first", "second"] {
        uplink.come(&cluster)?;
        let served = cluster
            .lab
            .wait_until(IN_FORCE, || Ok(is_served(&cluster)))?;
        ensure!(
            served,
            "{turn} time: {} is not served within a second",
            uplink.name
        );
        uplink.go(&cluster)?;
        let gone = cluster
            .lab
            .wait_until(IN_FORCE, || Ok(!is_served(&cluster)))?;
        ensure!(gone, "{turn} time: {} is gone and served", uplink.name);
        for service in &services {
            for v6 in [false, true] {
                let own = service.socket(Frontend::NodePort { node: 1 }, v6);
                ensure!(
                    answers(&cluster, own),
                    "{own} after the other uplink was gone"
                );
            }
        }
    }
    cluster.check_counters()
}

#[test]
fn a_new_uplink_serves_node_ports_within_a_second_through_tc() -> Result<()> {
    needs_root!();
    come_and_go(Mode::Tc, &VETH)
}

#[test]
fn a_new_uplink_serves_node_ports_within_a_second_through_xdp() -> Result<()> {
    needs_root!();
    come_and_go(Mode::Native, &VETH)
}

#[test]
fn so_does_one_that_stands_on_another_through_tc() -> Result<()> {
    needs_root!();
    come_and_go(Mode::Tc, &MACVLAN)
}

#[test]
fn so_does_one_that_stands_on_another_which_has_xdp() -> Result<()> {
    needs_root!();
    come_and_go(Mode::Native, &MACVLAN)
}

/// What not every kernel has: one that does not, skips the test with a line.
fn come_and_go_if_known(mode: Mode, uplink: &Uplink, kind: &str, test: &str) -> Result<()> {
    if Lab::knows_link(kind, test)? {
        come_and_go(mode, uplink)?;
    }
    Ok(())
}

#[test]
fn so_does_a_vlan_through_tc() -> Result<()> {
    needs_root!();
    come_and_go_if_known(Mode::Tc, &VLAN, "vlan", "so_does_a_vlan_through_tc")
}

#[test]
fn so_does_a_vlan_of_an_uplink_that_has_xdp() -> Result<()> {
    needs_root!();
    let test = "so_does_a_vlan_of_an_uplink_that_has_xdp";
    come_and_go_if_known(Mode::Native, &VLAN, "vlan", test)
}

#[test]
fn so_does_a_bond_through_tc() -> Result<()> {
    needs_root!();
    come_and_go_if_known(Mode::Tc, &BOND, "bond", "so_does_a_bond_through_tc")
}

#[test]
fn so_does_a_bond_through_xdp() -> Result<()> {
    needs_root!();
    come_and_go_if_known(Mode::Native, &BOND, "bond", "so_does_a_bond_through_xdp")
}
