//! Node ports and the node's own sockets: nothing of ours listens (rule 55), and theirs is what is no node port.

use std::{net::SocketAddr, slice};

use anyhow::{Result, ensure};
use xtask::lab::{Addresses, Endpoint as Server, Protocol};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Client, Endpoint, Policy},
    services::Numbered,
};

fn check(mode: Mode) -> Result<()> {
    let far = Endpoint::Pod {
        node: 3,
        number: 10,
    };
    let service = Numbered::new(1, "web", Policy::Cluster, &[far]);
    let cluster = Cluster::start(Kind::plain(mode), slice::from_ref(&service), &[])?;
    let lab = &cluster.lab;
    let (port, node) = (service.node_port(), lab.node("node-2"));
    // It takes the port at every address, and another one, which is nobody's.
    let addresses = [node.addresses, Addresses::of_gateway(2)].map(|both| both.both());
    let names = addresses.as_flattened().iter().flat_map(|&ip| {
        [port, port + 500].map(|port| (SocketAddr::new(ip, port), "own".to_owned()))
    });
    let server = Server::start_at(&node.netns, "own", names.collect())?;
    let clients = [
        Client::Outside,
        Client::Pod {
            node: 2,
            number: 100,
        },
        Client::Pod {
            node: 1,
            number: 100,
        },
    ];
    for client in clients {
        let (primary, secondary) = (node.addresses, Addresses::of_gateway(2));
        for (addresses, port, expected) in [
            (primary, port, "pod-3-10"),
            (secondary, port, "own"),
            (primary, port + 500, "own"),
        ] {
            for ip in addresses.both() {
                let to = SocketAddr::new(ip, port);
                for protocol in Protocol::BOTH {
                    let answer = lab.probe(cluster.netns(client), protocol, to)?;
                    ensure!(
                        answer.endpoint == expected,
                        "{client} to {to}/{protocol}: {answer:?}"
                    );
                }
            }
        }
    }
    drop(server);
    cluster.check_counters()
}

#[test]
fn rule_55_a_process_can_have_a_node_port_at_another_address_and_all_other_ports_through_tc()
-> Result<()> {
    needs_root!();
    check(Mode::Tc)
}

#[test]
fn rule_55_a_process_can_have_a_node_port_at_another_address_and_all_other_ports_through_xdp()
-> Result<()> {
    needs_root!();
    check(Mode::Native)
}
