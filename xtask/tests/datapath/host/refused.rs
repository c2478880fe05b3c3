//! What a node's process is told where there is nothing for it: at once, by the call itself (rule 54).

use std::{
    io::ErrorKind::{self, ConnectionRefused, PermissionDenied},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use xtask::lab::patience::stretched;
use xtask::lab::{Netns, Protocol, probe::Probe};

use super::udp;
use crate::support::{Cluster, need_datapath, pods_of, service::Service};

/// No packet has gone anywhere.
const AT_ONCE: Duration = Duration::from_millis(100);

/// TCP and UDP, connected and not, to `to` must all fail with `kind`; how many calls that were.
fn check_refused(netns: &Netns, to: SocketAddr, kind: ErrorKind) -> Result<u64> {
    let start = Instant::now();
    let socket = udp(netns, to)?;
    let errors = [
        Probe::new(Protocol::Tcp, to)
            .run_in(netns)
            .err()
            .map(|error| error.source),
        Probe::new(Protocol::Udp, to)
            .connected()
            .run_in(netns)
            .err()
            .map(|error| error.source),
        socket.send_to(b"duolb", to).err(),
    ];
    let elapsed = start.elapsed();
    for (how, error) in ["TCP", "connected UDP", "UDP"].into_iter().zip(&errors) {
        let is_it = error.as_ref().is_some_and(|error| error.kind() == kind);
        ensure!(is_it, "{how} to {to}: {error:?} instead of {kind:?}");
    }
    ensure!(elapsed < stretched(AT_ONCE), "{to}: after {elapsed:?}");
    Ok(errors.len() as u64)
}

#[test]
fn calls_that_lead_nowhere_fail_at_once_and_each_is_counted_once_by_its_reason() -> Result<()> {
    need_datapath!();
    let services = [
        Service::new(1, pods_of(1, 1)),
        // Rule 40.
        Service::new(2, []),
        // Rule 41: none of its endpoints is here.
        Service::new(3, pods_of(2, 1)).local(),
    ];
    let cluster = Cluster::start(&services)?;
    let node = &cluster.lab.node("node-1").netns;
    let unallocated = ["10.96.99.99:80", "[fd00:10:96::9999]:80"];
    for (family, nobody) in unallocated.into_iter().enumerate() {
        let [known, empty, local] = [0, 1, 2].map(|at: usize| services[at].frontends()[family]);
        let cases = [
            ("no-endpoint", empty, ConnectionRefused),
            ("no-local-endpoint", local, PermissionDenied),
            // Rule 49.
            (
                "unknown-port",
                SocketAddr::new(known.ip(), 81),
                ConnectionRefused,
            ),
            // Rule 50.
            ("unallocated", nobody.parse()?, PermissionDenied),
        ];
        for (label, to, kind) in cases {
            let before = cluster.verdict("node-1", label)?;
            let calls = check_refused(node, to, kind)?;
            let counted = cluster.verdict("node-1", label)? - before;
            ensure!(
                counted == calls,
                "{to}: {counted} counted as {label}, {calls} made"
            );
        }
    }
    ensure!(cluster.verdict("node-1", "socket")? == 0);
    // The other node has the local endpoint.
    let node = &cluster.lab.node("node-2").netns;
    for frontend in services[2].frontends() {
        Probe::new(Protocol::Tcp, frontend).run_in(node)?;
    }
    Ok(())
}

#[test]
fn what_is_no_service_is_left_alone() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(1, 1))];
    let cluster = Cluster::start(&services)?;
    let node = &cluster.lab.node("node-1").netns;
    let before = cluster.verdicts("node-1")?;
    for endpoint in services[0]
        .frontends()
        .map(|frontend| services[0].sockets_like(frontend))
    {
        for socket in endpoint {
            for protocol in Protocol::BOTH {
                Probe::new(protocol, socket).run_in(node)?;
            }
        }
    }
    // Port 0: a resolver that asks which address it would have (RFC 6724).
    for frontend in services[0].frontends() {
        udp(node, frontend)?.connect(SocketAddr::new(frontend.ip(), 0))?;
    }
    let after = cluster.verdicts("node-1")?;
    ensure!(after == before, "{before:?} became {after:?}");
    Ok(())
}
