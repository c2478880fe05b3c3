//! Many clients of a node port whose endpoint is on another node: ports of the node stand for them, are given
//! back, and may run out.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use crate::{
    cluster::{Cluster, Kind, Mode},
    crowd::{Call, Crowd, gather},
    needs_root,
    reference::{Endpoint, Frontend, Policy},
    services::Numbered,
};

/// Clients at a time; two rounds are more than there are ports (19,000), so that one that is not given back
/// is missed.
const CLIENTS: usize = 10_000;
/// What the range of ports is if nothing is said.
const PORTS: std::ops::Range<u16> = 11_000..30_000;
/// Where clients come in.
const HERE: Frontend = Frontend::NodePort { node: 1 };

fn far() -> Numbered {
    let far = Endpoint::Pod {
        node: 3,
        number: 10,
    };
    Numbered::new(1, "far", Policy::Cluster, &[far])
}

/// Gives `outside` three more addresses of each family; returns all eight.
fn multiply_outside(cluster: &Cluster) -> Result<[Vec<IpAddr>; 2]> {
    let outside = cluster.lab.outside();
    let mut all: [Vec<IpAddr>; 2] = outside.addresses.both().map(|ip| vec![ip]);
    for number in 11..14 {
        let more = [format!("192.0.2.{number}"), format!("2001:db8::{number}")];
        for (text, all) in more.iter().zip(&mut all) {
            let add = ["ip", "addr", "add", text, "dev", "eth0", "nodad"];
            let length = if text.contains(':') { add.len() } else { 6 };
            cluster.lab.exec(outside, &add[..length])?;
            let via = outside.addresses.like(&text.parse()?).to_string();
            let route = [
                "ip", "route", "replace", text, "via", &via, "dev", "outside",
            ];
            let onlink = [&route[..], &["onlink"]].concat();
            cluster.lab.exec(cluster.lab.fabric(), &onlink)?;
            all.push(text.parse()?);
        }
    }
    Ok(all)
}

/// All of them are there, have their own port of the node each, and hear nothing but what they said.
fn serve(cluster: &Cluster, mut crowd: Crowd, node: &BTreeSet<IpAddr>) -> Result<()> {
    ensure!(
        crowd.len() == CLIENTS,
        "{} of {CLIENTS} connections; {:?}; {:?}",
        crowd.len(),
        crowd.failures.first(),
        cluster.verdicts(1)?,
    );
    crowd.talk()?;
    let seen = crowd.seen();
    ensure!(seen.len() == CLIENTS, "ports given twice");
    let mut seen = seen.iter();
    let stray = seen.find(|seen| !node.contains(&seen.ip()) || !PORTS.contains(&seen.port()));
    ensure!(stray.is_none(), "seen as {stray:?}");
    crowd.close()
}

/// Crowds come one after the other: their servers are all this process's, and have its table of files.
static TURN: Mutex<()> = Mutex::new(());

fn serve_a_crowd(mode: Mode) -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let service = far();
    // Both rounds' flows, each of four entries, of either family.
    let args = ["--max-flows", "400000"];
    let cluster = Cluster::start(Kind::plain(mode), std::slice::from_ref(&service), &args)?;
    let from = multiply_outside(&cluster)?;
    let nodes = cluster.node_addresses()?;
    for round in ["first", "second"] {
        for (v6, from) in [(false, &from[0]), (true, &from[1])] {
            let call = Call {
                to: service.socket(HERE, v6),
                from,
                count: CLIENTS,
                patience: Duration::from_secs(10),
            };
            let outside = &cluster.lab.outside().netns;
            gather(outside, call, |crowd| serve(&cluster, crowd, &nodes[&1]))
                .with_context(|| format!("{round} round, IPv6 {v6}"))?;
        }
    }
    for label in ["no-snat-port", "flow-table-full", "no-port"] {
        let count = cluster.verdict(label)?;
        ensure!(count == 0, "{count} packets {label}");
    }
    cluster.check_counters()
}

#[test]
fn ten_thousand_clients_of_a_far_endpoint_get_their_own_answers_and_leave_no_port_behind_through_tc()
-> Result<()> {
    needs_root!();
    serve_a_crowd(Mode::Tc)
}

#[test]
fn ten_thousand_clients_of_a_far_endpoint_get_their_own_answers_and_leave_no_port_behind_through_xdp()
-> Result<()> {
    needs_root!();
    serve_a_crowd(Mode::Native)
}

/// Sixteen ports: who finds none waits in vain and is counted, and everything else goes on.
#[test]
fn clients_that_find_no_port_are_counted_and_take_nothing_from_others() -> Result<()> {
    needs_root!();
    let elsewhere = Endpoint::Pod {
        node: 2,
        number: 10,
    };
    let here = Endpoint::Pod {
        node: 1,
        number: 10,
    };
    let services = [
        far(),
        Numbered::new(2, "elsewhere", Policy::Cluster, &[elsewhere]),
        Numbered::new(3, "here", Policy::Cluster, &[here]),
    ];
    let args = ["--snat-ports", "40000-40015"];
    let cluster = Cluster::start(Kind::plain(Mode::Tc), &services, &args)?;
    let outside = cluster.lab.outside();
    for v6 in [false, true] {
        let own = [outside.addresses.both()[usize::from(v6)]];
        let call = Call {
            to: services[0].socket(HERE, v6),
            from: &own,
            count: 40,
            patience: Duration::from_millis(1500),
        };
        let before = cluster.verdict("no-snat-port")?;
        gather(&outside.netns, call, |mut crowd| {
            let ports: BTreeSet<u16> = crowd.seen().iter().map(|seen| seen.port()).collect();
            ensure!(
                ports.len() == crowd.len() && (8..=16).contains(&ports.len()),
                "ports {ports:?} for {} connections",
                crowd.len()
            );
            ensure!(ports.iter().all(|port| (40_000..=40_015).contains(port)));
            ensure!(cluster.verdict("no-snat-port")? > before, "not counted");
            crowd.talk()?;
            for other in &services[1..] {
                for protocol in Protocol::BOTH {
                    let probe = Probe::new(protocol, other.socket(HERE, v6));
                    let answer = probe.run_in(&outside.netns);
                    answer.context("another service while ports are out")?;
                }
            }
            crowd.talk()?;
            crowd.close()
        })?;
        gather(&outside.netns, call, |crowd| {
            ensure!(crowd.len() >= 8, "{} after all had closed", crowd.len());
            crowd.close()
        })?;
    }
    cluster.check_counters()
}
