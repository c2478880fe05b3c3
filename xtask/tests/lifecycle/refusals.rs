//! Services without endpoints are refused at once (rule 40), whoever completes the checksums (finding 7).

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use xtask::lab::patience::stretched;
use xtask::lab::{Lab, Protocol, probe::Probe};

use crate::{
    manifests::{self, Directory, frontends},
    needs_root,
};

/// Everything a client may ask for is refused, soon.
fn refused(lab: &Lab, client: &str, what: &str) -> Result<()> {
    for to in frontends() {
        for protocol in Protocol::BOTH {
            // A datagram of 1 kB has room for an answer in its place; 8 bytes have not.
            for length in [8, 1000] {
                let probe = Probe::new(protocol, to).connected().length(length);
                let start = Instant::now();
                let error = probe
                    .run_in(&lab.pod(client).netns)
                    .expect_err("nothing serves");
                let took = start.elapsed();
                let kind = error.source.kind();
                ensure!(
                    kind == io::ErrorKind::ConnectionRefused
                        && took < stretched(Duration::from_millis(300)),
                    "{what}, {client}: {error} after {took:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn clients_of_a_service_without_endpoints_are_refused_at_once() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[])?;
    let lab = manifests::lab(&directory)?;
    for client in ["client-1", "client-2"] {
        let pod = lab.pod(client);
        let (node, device) = (lab.node(&pod.node), pod.device.as_str());
        refused(&lab, client, "default offloads")?;
        lab.offload(node, device, &["tx", "off"])?;
        refused(&lab, client, "node's device without offload")?;
        lab.offload(pod, "eth0", &["tx", "off"])?;
        refused(&lab, client, "no offload at all")?;
        lab.offload(node, device, &["tx", "on"])?;
        refused(&lab, client, "client's device without offload")?;
        let errors = lab.checksum_errors(pod)?;
        ensure!(errors == Default::default(), "{client}: {errors:?}");
    }
    Ok(())
}

#[test]
fn a_flood_of_refusals_is_limited_and_counted() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[])?;
    let lab = manifests::lab(&directory)?;
    lab.in_ns(lab.pod("client-1"), || -> Result<()> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..20_000 {
            // The socket is not connected, so it is not told of refusals.
            socket.send_to(b"x", frontends()[0])?;
        }
        Ok(())
    })??;
    let status: serde_json::Value =
        serde_json::from_str(&lab.agent("node-1").duolb(&["status", "-o", "json"])?)?;
    let count = |verdict: &str| status["verdicts"][verdict].as_u64().unwrap_or(0);
    let (answered, limited) = (count("no-endpoint"), count("reject-limited"));
    ensure!(answered + limited == 20_000, "{answered} + {limited}");
    ensure!(
        answered > 0 && limited > answered,
        "{answered} answered, {limited} limited"
    );
    Ok(())
}
