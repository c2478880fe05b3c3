//! The agent ends and comes back while the node's processes connect, and is cleaned up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Protocol, probe::Probe};

use super::{ask, udp};
use crate::support::{Cluster, need_datapath, pods_of, service::Service};

#[test]
fn no_connect_fails_while_the_agent_is_killed_and_comes_back() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(2, 2))];
    let mut cluster = Cluster::start(&services)?;
    let [frontend, _] = services[0].frontends();
    let socket = udp(&cluster.lab.node("node-1").netns, frontend)?;
    let endpoint = ask(&socket, frontend)?;
    let before = cluster.verdict("node-1", "socket")?;
    let (stop, count) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
    let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&count));
    let connect = move || -> Result<()> {
        while !stopped.load(Relaxed) {
            Probe::new(Protocol::Tcp, frontend).run()?;
            counter.fetch_add(1, Relaxed);
        }
        Ok(())
    };
    // A thread stays in the namespace of the one that starts it.
    let node = cluster.lab.node("node-1");
    let client = cluster.lab.in_ns(node, || thread::spawn(connect))?;
    let agent = cluster.lab.agent_mut("node-1");
    for _ in 0..2 {
        agent.kill();
        thread::sleep(Duration::from_millis(300));
        agent.start()?;
        agent.wait_ready()?;
    }
    stop.store(true, Relaxed);
    client
        .join()
        .expect("no panic")
        .context("a connect failed")?;
    let count = count.load(Relaxed);
    ensure!(count > 20, "only {count} connects");
    // Neither by none of the programs, nor by two.
    let counted = cluster.verdict("node-1", "socket")? - before;
    ensure!(counted == count, "{counted} counted, {count} made");
    // What a socket has got outlives the agent as well.
    let after = ask(&socket, frontend)?;
    ensure!(after == endpoint, "{endpoint}, then {after}");
    Ok(())
}

#[test]
fn nothing_is_left_of_it_after_a_clean_up() -> Result<()> {
    need_datapath!();
    let services = [Service::new(1, pods_of(1, 1)), Service::new(2, [])];
    let mut cluster = Cluster::start(&services)?;
    let [_, empty] = [0, 1].map(|at: usize| services[at].frontends()[0]);
    let refused = |cluster: &Cluster| -> Result<bool> {
        let socket = udp(&cluster.lab.node("node-1").netns, empty)?;
        let sent = socket.send_to(b"duolb", empty);
        Ok(sent.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused))
    };
    ensure!(refused(&cluster)?, "it is not refused to begin with");
    let agent = cluster.lab.agent_mut("node-1");
    agent.stop()?;
    ensure!(
        refused(&cluster)?,
        "it is not refused when the agent has ended (rule 7)"
    );
    cluster.lab.agent("node-1").duolb(&["cleanup"])?;
    // The kernel takes programs away when it gets round to it.
    let gone = cluster
        .lab
        .wait_until(Duration::from_secs(2), || Ok(!refused(&cluster)?))?;
    ensure!(gone, "calls are still refused after the clean-up");
    Ok(())
}
