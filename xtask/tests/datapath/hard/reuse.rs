//! A client's port that is used again at once, over an entry that is closing (rule 80): the new connection is new, and
//! goes where new ones go.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::PATIENCE;
use crate::support::{
    Cluster, need_datapath, pods_of,
    service::{self, Service},
    stream::Stream,
};

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By FINs of both sides, the client's first: its kernel keeps the port, but for a SYN to the same peer it may
    /// be taken with `SO_REUSEADDR` and timestamps.
    Close,
    /// By the client's RST.
    Reset,
}

#[test]
fn rule_80_a_port_used_again_at_once_goes_to_the_endpoint_that_there_is_now() -> Result<()> {
    need_datapath!();
    let pods = [pods_of(1, 2), pods_of(2, 2)].concat();
    let only = |at: usize| Service::new(1, [pods[at]]);
    let cluster = Cluster::start(&[only(0)])?;
    let manifests = cluster.lab.dir().join("manifests");
    // A node that has a connection in TIME-WAIT lets its port be used again if the new one is surely later.
    for client in cluster.clients() {
        client.netns.sysctl(&[("net/ipv4/tcp_tw_reuse", "1")])?;
    }
    let (mut port, mut turn) = (42_000, 0);
    for end in [End::Reset, End::Close] {
        for client in cluster.clients() {
            for frontend in only(0).frontends() {
                port += 1;
                let about = || format!("{} from {port} to {frontend}, {end:?}", client.name);
                let mut former = None;
                for _ in 0..3 {
                    let endpoint = only(turn).sockets_like(frontend).next().context("one")?;
                    let opened = open_eventually(&client.netns, port, frontend, end);
                    let mut stream = opened.with_context(about)?;
                    let expected = endpoint.ip().to_string();
                    let pod = cluster.lab.pod(&stream.endpoint);
                    let is_it = pod
                        .addresses
                        .both()
                        .iter()
                        .any(|ip| ip.to_string() == expected);
                    ensure!(
                        is_it,
                        "{}: {} answered, not {expected}",
                        about(),
                        stream.endpoint
                    );
                    ensure!(former.as_ref() != Some(&stream.endpoint), "the same again");
                    stream.exchange_little(b"anew").with_context(about)?;
                    former = Some(stream.endpoint.clone());
                    match end {
                        End::Close => stream.close()?,
                        End::Reset => stream.reset()?,
                    }
                    turn = (turn + 1) % pods.len();
                    service::write(&manifests, &[only(turn)])?;
                    follow(&cluster, only(turn).sockets_like(frontend).next())?;
                }
            }
        }
    }
    cluster.check_no_drops()
}

/// With TIME-WAIT a port is free again a second later.
fn open_eventually(
    netns: &xtask::lab::Netns,
    port: u16,
    to: std::net::SocketAddr,
    end: End,
) -> Result<Stream> {
    let start = std::time::Instant::now();
    loop {
        match Stream::open(netns, port, to) {
            Err(_) if matches!(end, End::Close) && start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(200));
            }
            opened => return opened,
        }
    }
}

/// Waits until every node has this endpoint and no other.
fn follow(cluster: &Cluster, endpoint: Option<std::net::SocketAddr>) -> Result<()> {
    let ip = endpoint.context("one")?.ip().to_string();
    let is_there = || {
        for node in Cluster::NODES {
            let list = ["service", "list", "-o", "json"];
            let text = cluster.lab.agent(node).duolb(&list)?;
            let rows: serde_json::Value = serde_json::from_str(&text)?;
            let mut rows = rows.as_array().into_iter().flatten();
            let is_new = rows.any(|row| row["endpoints"][0]["address"] == ip.as_str());
            if !is_new {
                return Ok(false);
            }
        }
        Ok(true)
    };
    ensure!(cluster.lab.wait_until(PATIENCE, is_there)?, "not followed");
    Ok(())
}
