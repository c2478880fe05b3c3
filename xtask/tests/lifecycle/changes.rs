//! Endpoints that change under open connections.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use xtask::lab::patience::stretched;

use crate::{
    eventually,
    manifests::{self, Directory, frontends},
    needs_root,
    stream::{Streams, who_answers},
};

#[test]
fn open_connections_go_on_and_new_ones_follow_within_a_second() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[(1, 10), (2, 10)])?;
    let lab = manifests::lab(&directory)?;
    for client in ["client-1", "client-2"] {
        let client = &lab.pod(client).netns;
        directory.serve(&[(1, 10), (2, 10)])?;
        wait_for(client, &["pod-1-10", "pod-2-10"])?;
        let streams = Streams::start(client, &frontends())?;
        streams.wait_rounds(200)?;
        directory.serve(&[(1, 11)])?;
        let changed = Instant::now();
        let mut new = who_answers(client, &frontends(), 1)?;
        while new != BTreeSet::from(["pod-1-11".to_owned()]) {
            ensure!(
                changed.elapsed() < stretched(Duration::from_secs(1)),
                "{new:?} still answers after a second"
            );
            new = who_answers(client, &frontends(), 1)?;
        }
        streams.wait_rounds(200)?;
        for (name, done) in streams.finish()? {
            ensure!(done.lost == 0 && done.rounds > 0, "{name}: {done:?}");
        }
    }
    Ok(())
}

#[test]
fn a_service_scaled_to_nothing_comes_back_and_a_removed_one_is_gone() -> Result<()> {
    needs_root!();
    let directory = Directory::new()?;
    directory.serve(&[(1, 10)])?;
    let lab = manifests::lab(&directory)?;
    let client = &lab.pod("client-2").netns;
    wait_for(client, &["pod-1-10"])?;
    directory.serve(&[])?;
    let probe = xtask::lab::probe::Probe::new(xtask::lab::Protocol::Tcp, frontends()[0])
        .timeout(Duration::from_millis(200));
    eventually(&lab, 1, "nothing answers", || probe.run_in(client).is_err())?;
    let status: serde_json::Value =
        serde_json::from_str(&lab.agent("node-2").duolb(&["status", "-o", "json"])?)?;
    ensure!(
        status["verdicts"]["no-endpoint"].as_u64() > Some(0),
        "rule 40 is not counted: {status}"
    );
    directory.serve(&[(2, 11)])?;
    wait_for(client, &["pod-2-11"])?;
    std::fs::remove_file(directory.path().join("web.yaml"))?;
    let listed = || {
        lab.agent("node-2")
            .duolb(&["service", "list", "-o", "json"])
            .unwrap_or_default()
    };
    eventually(&lab, 1, "the list is empty", || listed().trim() == "[]")?;
    Ok(())
}

/// Waits until these and no others answer.
fn wait_for(client: &xtask::lab::Netns, names: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let start = Instant::now();
    loop {
        let answered = who_answers(client, &frontends(), 8);
        if answered.as_ref().is_ok_and(|names| *names == wanted) {
            return Ok(());
        }
        ensure!(
            start.elapsed() < stretched(Duration::from_secs(5)),
            "{answered:?} instead of {wanted:?}"
        );
    }
}
