//! Ports that a ClusterIP does not have: the client is told at once (rule 49), whoever computes checksums.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::patience::stretched;
use xtask::lab::{Protocol, probe::Probe};

use crate::{
    offload::set_tx,
    support::{Cluster, need_datapath, pods_of, service::Service},
};

/// A blocking connect() hears of an ICMP error after a second; of a reset in well under this.
const AT_ONCE: Duration = Duration::from_millis(500);

#[test]
fn an_unknown_port_of_a_cluster_ip_is_refused_at_once_under_every_offload() -> Result<()> {
    need_datapath!();
    let services = [
        Service::new(1, pods_of(1, 1)),
        Service::new(2, pods_of(2, 1)),
    ];
    let cluster = Cluster::start(&services)?;
    for (senders, egress) in [(true, true), (false, true), (true, false), (false, false)] {
        set_tx(&cluster, senders, egress)?;
        for client in cluster.clients() {
            for frontend in services.iter().flat_map(Service::frontends) {
                let unknown = SocketAddr::new(frontend.ip(), 81);
                for protocol in Protocol::BOTH {
                    let what = || {
                        format!(
                            "{} to {unknown}/{protocol}, tx of senders {senders}, of egress {egress}",
                            client.name
                        )
                    };
                    let mut probe = Probe::new(protocol, unknown);
                    probe.connected = true;
                    probe.attempts = 1;
                    let start = Instant::now();
                    let error = match client.netns.run(|| probe.run())? {
                        Ok(answer) => anyhow::bail!("{}: {} answered", what(), answer.endpoint),
                        Err(error) => error,
                    };
                    let kind = error.source.kind();
                    ensure!(kind == ErrorKind::ConnectionRefused, "{}: {error}", what());
                    let elapsed = start.elapsed();
                    ensure!(
                        elapsed < stretched(AT_ONCE),
                        "{}: after {elapsed:?}",
                        what()
                    );
                }
            }
        }
    }
    for node in Cluster::NODES {
        ensure!(cluster.verdict(node, "unknown-port")? > 0, "{node}");
    }
    cluster.check_checksums()
}

#[test]
fn the_known_ports_beside_an_unknown_one_are_served() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(1, 2))];
    let cluster = Cluster::start(&services)?;
    for client in cluster.clients() {
        for frontend in services[0].frontends() {
            for protocol in Protocol::BOTH {
                Probe::new(protocol, frontend)
                    .run_in(&client.netns)
                    .with_context(|| format!("{} to {frontend}/{protocol}", client.name))?;
            }
        }
    }
    cluster.check_no_drops()
}
