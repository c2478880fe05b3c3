//! What the lab can be made into, without duolb: whatever a test finds broken, it is not this.

use std::io;

use anyhow::{Result, ensure};
use xtask::lab::{Addresses, Lab, Node, OVERLAY, Protocol};

use crate::needs_root;

fn lab(rp_filter: u8) -> Result<Lab> {
    Lab::builder()
        .node(Node::routed("node-1").endpoints(1))
        .node(Node::bridged("node-2").endpoints(1))
        .rp_filter(rp_filter)
        .build()
}

/// A server on `node-1` takes the addresses that the fabric routes there, as duolb would.
#[test]
fn external_addresses_are_routed_to_their_nodes() -> Result<()> {
    needs_root!();
    let lab = lab(0)?;
    for (node, addresses) in [
        ("node-1", Addresses::of_load_balancer(9)),
        ("node-2", Addresses::of_external_ip(9)),
    ] {
        for ip in addresses.both() {
            let host = lab.node(node);
            let refused = || lab.probe(lab.outside(), Protocol::Tcp, (ip, 80).into());
            ensure!(refused().is_err());
            lab.exec(host, &["ip", "addr", "add", &ip.to_string(), "dev", "lo"])?;
            let kind = refused().expect_err("no server").source.kind();
            ensure!(
                kind == io::ErrorKind::ConnectionRefused,
                "{node} {ip}: {kind:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn pods_talk_over_the_overlay_with_strict_reverse_paths_and_a_firewall() -> Result<()> {
    needs_root!();
    let mut lab = lab(1)?;
    lab.be_a_wire()?;
    lab.lay_overlay()?;
    lab.masquerade_pods()?;
    lab.drop_invalid()?;
    let bytes = |node: &str| -> Result<u64> {
        let json = lab.exec(
            lab.node(node),
            &["ip", "-json", "-s", "link", "show", OVERLAY],
        )?;
        let json: serde_json::Value = serde_json::from_str(&json)?;
        Ok(json[0]["stats64"]["tx"]["bytes"]
            .as_u64()
            .unwrap_or_default())
    };
    let before = bytes("node-1")?;
    for (from, to) in [("client-1", "pod-2-10"), ("client-2", "pod-1-10")] {
        let (from, to) = (lab.pod(from), lab.pod(to));
        for ip in to.addresses.both() {
            for protocol in Protocol::BOTH {
                let answer = lab.probe(from, protocol, (ip, 8080).into())?;
                ensure!(answer.client.ip() == from.addresses.like(&ip));
            }
        }
    }
    ensure!(bytes("node-1")? > before, "nothing went over {OVERLAY}");
    // A node's processes come with an address of the overlay, and pods leave with their node's.
    for ip in lab.pod("pod-2-10").addresses.both() {
        let answer = lab.probe(lab.node("node-1"), Protocol::Tcp, (ip, 8080).into())?;
        let own = Addresses::of_overlay(1).like(&ip);
        ensure!(answer.client.ip() == own, "{answer:?}");
    }
    for node in lab.nodes() {
        ensure!(lab.invalid(node)? == 0, "{}: invalid packets", node.name);
    }
    Ok(())
}
