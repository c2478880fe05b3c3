//! Agents that die, come back, and come back with another kind of XDP, while clients from outside and processes of
//! a node go on: nothing is lost (rule 7), no connection is reset, and endpoints see the same client all along.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::patience::stretched;
use xtask::lab::{AgentOptions, Lab, Netns, next_version};

use crate::{
    cluster::{Cluster, Kind, Mode},
    needs_root,
    reference::{Client, Endpoint, Frontend, Policy},
    services::Numbered,
    stream::{Streams, who_answers},
};

const NODES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// One whose clients from outside get an address of `node-1`, and one whose clients keep theirs.
fn services() -> [Numbered; 2] {
    let pod = |node| Endpoint::Pod { node, number: 10 };
    [(1, "far", 3), (2, "here", 1)]
        .map(|(number, name, node)| Numbered::new(number, name, Policy::Cluster, &[pod(node)]))
}

/// Both Services at this kind of frontend, by either family.
fn frontends(services: &[Numbered], frontend: Frontend) -> Vec<SocketAddr> {
    let both = |service: &Numbered| [false, true].map(|v6| service.socket(frontend, v6));
    services.iter().flat_map(both).collect()
}

/// Who talks, and with whom.
struct Party {
    who: Client,
    to: Vec<SocketAddr>,
    streams: Streams,
}

impl Party {
    fn start(cluster: &Cluster, who: Client, frontend: Frontend) -> Result<Self> {
        let to = frontends(&services(), frontend);
        let streams = Streams::start(cluster.netns(who), &to)?;
        Ok(Self { who, to, streams })
    }
}

/// Clients that talk while `trouble` happens, which gets what makes them talk on, and make new connections.
fn lose_nothing(
    mode: Mode,
    trouble: impl Fn(&mut Cluster, &dyn Fn(&Cluster) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let mut cluster = Cluster::start(Kind::plain(mode), &services(), &[])?;
    // Where a veth does GRO, taking XDP away does not empty its ring: `veth_disable_xdp` leaves NAPI alone.
    for node in NODES {
        let host = cluster.lab.node(node);
        cluster.lab.offload(host, "eth0", &["gro", "on"])?;
    }
    let host = Client::Host { node: 1 };
    let parties = [
        Party::start(&cluster, Client::Outside, Frontend::NodePort { node: 1 })?,
        Party::start(&cluster, host, Frontend::ClusterIp)?,
    ];
    let go_on = |cluster: &Cluster| -> Result<()> {
        for Party { who, to, streams } in &parties {
            let went_on = streams.wait_rounds(200);
            went_on.with_context(|| format!("from {who}"))?;
            who_answers(cluster.netns(*who), to, 1).with_context(|| format!("from {who}"))?;
        }
        Ok(())
    };
    go_on(&cluster)?;
    trouble(&mut cluster, &go_on)?;
    go_on(&cluster)?;
    let ends = parties.iter().map(|Party { who, .. }| {
        let lost = lost(&cluster.lab, cluster.netns(*who))?;
        Ok((*who, lost))
    });
    let lost: Vec<(Client, u64)> = ends.collect::<Result<_>>()?;
    let mut stalled = false;
    for Party { who, streams, .. } in parties {
        for (name, done) in streams.finish()? {
            let what = || format!("from {who}: {name}: {done:?}");
            ensure!(done.is_whole(20), "{}", what());
            ensure!(
                done.slowest < stretched(Duration::from_secs(1)),
                "{}",
                what()
            );
            // UDP sends nothing twice: an answer that took long was not lost, the machine was busy.
            stalled |=
                name.starts_with("UDP") && done.slowest > stretched(Duration::from_millis(150));
        }
    }
    for (who, lost) in lost {
        // TCP repairs a loss, but counts it; it also sends again, after 200 ms, what a busy machine held up.
        ensure!(stalled || lost == 0, "{who} lost {lost} segments");
    }
    cluster.check_counters()
}

/// Segments that the open connections of a namespace have sent again, but for those that the other end had already:
/// what goes through several processors may overtake itself, and TCP takes that for a loss until it is told (DSACK,
/// RFC 2883).
fn lost(lab: &Lab, netns: &Netns) -> Result<u64> {
    let text = lab.exec(netns, &["ss", "-tniH", "state", "established"])?;
    ensure!(
        text.contains("bytes_acked:"),
        "no connection is open: {text}"
    );
    // "retrans:0/3" and "dsack_dups:1"; not there where it is none.
    let sum = |name: &str| -> Result<u64> {
        let words = text.split_whitespace();
        let values = words.filter_map(|word| word.strip_prefix(name));
        let last = values.map(|value| value.rsplit('/').next().unwrap_or(value));
        last.map(|number| {
            number
                .parse::<u64>()
                .with_context(|| format!("{name}{number}"))
        })
        .sum()
    };
    Ok(sum("retrans:")?.saturating_sub(sum("dsack_dups:")?))
}

/// All of them are killed, nobody is there for a while, and they come back; then they end in order, and come back.
fn kill_and_restart(cluster: &mut Cluster, go_on: &dyn Fn(&Cluster) -> Result<()>) -> Result<()> {
    for node in NODES {
        cluster.lab.agent_mut(node).kill();
    }
    go_on(cluster)?;
    for node in NODES {
        cluster.lab.agent_mut(node).start()?;
    }
    go_on(cluster)?;
    for node in NODES {
        let agent = cluster.lab.agent_mut(node);
        agent.wait_ready()?;
        agent.stop()?;
        agent.start()?;
    }
    go_on(cluster)?;
    NODES
        .into_iter()
        .try_for_each(|node| cluster.lab.agent(node).wait_ready())
}

#[test]
fn clients_outside_and_on_the_node_go_on_while_agents_are_killed_and_come_back_through_tc()
-> Result<()> {
    needs_root!();
    lose_nothing(Mode::Tc, kill_and_restart)
}

#[test]
fn clients_outside_and_on_the_node_go_on_while_agents_are_killed_and_come_back_through_xdp()
-> Result<()> {
    needs_root!();
    lose_nothing(Mode::Native, kill_and_restart)
}

/// Other sizes, and those of before again.
fn change_sizes(cluster: &mut Cluster, go_on: &dyn Fn(&Cluster) -> Result<()>) -> Result<()> {
    for sizes in [
        &["--max-flows=300000", "--max-sockets=70000"][..],
        &["--max-flows=50000"],
    ] {
        for node in NODES {
            let agent = cluster.lab.agent_mut(node);
            agent.stop()?;
            agent.args_mut().retain(|arg| !arg.starts_with("--max-"));
            agent
                .args_mut()
                .extend(sizes.iter().map(|&size| size.to_owned()));
            agent.start()?;
            agent.wait_ready()?;
            go_on(cluster)?;
        }
    }
    Ok(())
}

#[test]
fn clients_go_on_while_maps_get_other_sizes_through_tc() -> Result<()> {
    needs_root!();
    lose_nothing(Mode::Tc, change_sizes)
}

#[test]
fn clients_go_on_while_maps_get_other_sizes_through_xdp() -> Result<()> {
    needs_root!();
    lose_nothing(Mode::Native, change_sizes)
}

/// To a version with other maps, and back.
fn change_version(mode: Mode) -> Result<()> {
    let Some(next) = next_version() else {
        return Ok(());
    };
    let this = AgentOptions::from_env("")?.duolb;
    lose_nothing(mode, |cluster, go_on| {
        for binary in [&next, &this] {
            for node in NODES {
                let agent = cluster.lab.agent_mut(node);
                agent.kill();
                agent.set_duolb(binary);
                agent.start()?;
                agent.wait_ready()?;
                go_on(cluster)?;
            }
        }
        Ok(())
    })
}

#[test]
fn clients_go_on_while_agents_get_another_schema_and_the_old_one_back_through_tc() -> Result<()> {
    needs_root!();
    change_version(Mode::Tc)
}

#[test]
fn clients_go_on_while_agents_get_another_schema_and_the_old_one_back_through_xdp() -> Result<()> {
    needs_root!();
    change_version(Mode::Native)
}

/// Flows that XDP has begun go on through TC, and those that TC has begun stay with it.
#[test]
fn clients_go_on_while_xdp_is_taken_away_and_given_back() -> Result<()> {
    needs_root!();
    lose_nothing(Mode::Native, |cluster, go_on| {
        let by_xdp = |cluster: &Cluster| cluster.verdict("xdp-to-endpoint");
        ensure!(by_xdp(cluster)? > 0, "nothing went by XDP to begin with");
        for mode in [Mode::Tc, Mode::Native, Mode::Generic, Mode::Native] {
            cluster.restart_as(mode)?;
            let before = by_xdp(cluster)?;
            go_on(cluster)?;
            let is_used = by_xdp(cluster)? > before;
            ensure!(
                is_used == (mode != Mode::Tc),
                "{mode:?}: XDP used: {is_used}"
            );
        }
        Ok(())
    })
}
