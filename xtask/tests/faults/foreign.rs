//! Others in the places where ours go: the order is kept, theirs are untouched, over restarts and clean-up.

use std::{fs::File, path::Path};

use anyhow::{Context as _, Result, ensure};
use xtask::lab::{Foreign, Lab, Order, Place, Target};

use crate::{
    needs_root,
    node::{Faulty, nothing_lost},
};

const HOOKS: [Place; 2] = [Place::Ingress, Place::Egress];

/// Who stands where: numbers of others, and how many of ours stand at that place in between.
fn order(lab: &Lab, on: &Target<'_>, place: Place, foreign: &[Foreign]) -> Result<Vec<String>> {
    let name = |program: &u32| {
        let position = foreign
            .iter()
            .position(|foreign| foreign.program == *program);
        position.map_or("ours".to_owned(), |position| position.to_string())
    };
    Ok(lab.programs(on, place)?.iter().map(name).collect())
}

#[test]
fn tcx_programs_before_and_after_ours_stay_where_they_are() -> Result<()> {
    needs_root!();
    let mut faulty = Faulty::new()?;
    let netns = |faulty: &Faulty| faulty.lab.pod("client-1").device.clone();
    let device = netns(&faulty);
    let put = |faulty: &Faulty, place, order| {
        let on = Target::Device(&faulty.lab.node("node-1").netns, &device);
        faulty.lab.put_foreign(&on, place, order)
    };
    let mut foreign = [vec![], vec![]];
    for (place, foreign) in HOOKS.into_iter().zip(&mut foreign) {
        foreign.push(put(&faulty, place, Order::First)?);
        foreign.push(put(&faulty, place, Order::Last)?);
    }
    let mut options = xtask::lab::AgentOptions::from_env(faulty.directory.path())?;
    options.args = vec!["--tc-mode".into(), "tcx".into()];
    faulty.lab.start_agents(&options)?;
    for (place, foreign) in HOOKS.into_iter().zip(&mut foreign) {
        foreign.push(put(&faulty, place, Order::Last)?);
        foreign.push(put(&faulty, place, Order::First)?);
    }
    let check = |faulty: &Faulty, wanted: &[&str], when: &str| -> Result<()> {
        for (place, foreign) in HOOKS.into_iter().zip(&foreign) {
            let on = Target::Device(&faulty.lab.node("node-1").netns, &device);
            let found = order(&faulty.lab, &on, place, foreign)?;
            ensure!(found == wanted, "{when}, {place:?}: {found:?}");
        }
        Ok(())
    };
    let together = ["3", "0", "1", "ours", "2"];
    check(&faulty, &together, "beside ours")?;
    let streams = faulty.stream()?;
    streams.wait_rounds(100)?;
    faulty.agent_mut().kill();
    check(&faulty, &together, "after a kill")?;
    faulty.agent_mut().start()?;
    faulty.agent().wait_ready()?;
    check(&faulty, &together, "after a restart")?;
    streams.wait_rounds(100)?;
    nothing_lost(streams)?;
    faulty.agent_mut().stop()?;
    faulty.agent().duolb(&["cleanup"])?;
    check(&faulty, &["3", "0", "1", "2"], "after the clean-up")
}

#[test]
fn filters_of_others_in_the_same_qdisc_stay_where_they_are() -> Result<()> {
    needs_root!();
    let mut faulty = Faulty::new()?;
    let device = faulty.lab.pod("client-1").device.clone();
    let tc = |faulty: &Faulty, words: &str| {
        let line = format!("tc {words}").replace("DEV", &device);
        let words: Vec<&str> = line.split_whitespace().collect();
        faulty.lab.exec(faulty.lab.node("node-1"), &words)
    };
    tc(&faulty, "qdisc add dev DEV clsact")?;
    // In the very place that ours asks for, and after it; nothing matches, so that all goes on to the next.
    for hook in ["ingress", "egress"] {
        for place in ["1", "7"] {
            let filter = format!(
                "filter add dev DEV {hook} pref {place} protocol all u32 match u32 0xffffffff 0xffffffff flowid 1:1"
            );
            tc(&faulty, &filter)?;
        }
    }
    let theirs = |faulty: &Faulty| -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for hook in ["ingress", "egress"] {
            let said = tc(faulty, &format!("filter show dev DEV {hook}"))?;
            let lines_of = said.lines().filter(|line| line.contains("u32"));
            lines.extend(lines_of.map(|line| format!("{hook} {line}")));
        }
        Ok(lines)
    };
    let before = theirs(&faulty)?;
    ensure!(before.len() >= 4, "{before:?}");
    let mut options = xtask::lab::AgentOptions::from_env(faulty.directory.path())?;
    options.args = vec!["--tc-mode".into(), "clsact".into()];
    faulty.lab.start_agents(&options)?;
    faulty
        .check_served()
        .with_context(|| faulty.agent().log())?;
    ensure!(theirs(&faulty)? == before, "{:?}", theirs(&faulty)?);
    faulty.agent_mut().kill();
    faulty.agent_mut().start()?;
    faulty.agent().wait_ready()?;
    faulty.check_served()?;
    ensure!(theirs(&faulty)? == before, "{:?}", theirs(&faulty)?);
    faulty.agent_mut().stop()?;
    faulty.agent().duolb(&["cleanup"])?;
    ensure!(theirs(&faulty)? == before, "{:?}", theirs(&faulty)?);
    for hook in ["ingress", "egress"] {
        let left = tc(&faulty, &format!("filter show dev DEV {hook}"))?;
        ensure!(!left.contains("tc_"), "{left}");
    }
    Ok(())
}

#[test]
fn programs_of_others_on_the_cgroup_stay() -> Result<()> {
    needs_root!();
    let mut faulty = Faulty::new()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(2) == Some("cgroup2"))
        .and_then(|line| line.split(' ').nth(1))
        .context("no cgroup v2 here")?;
    let root = File::open(Path::new(root))?;
    let on = Target::Cgroup(&root);
    let theirs = [(); 2].map(|()| faulty.lab.put_foreign(&on, Place::Connect4, Order::Last));
    let theirs: Vec<Foreign> = theirs.into_iter().collect::<Result<_>>()?;
    let check = |faulty: &Faulty, when: &str| -> Result<()> {
        let found = faulty.lab.programs(&on, Place::Connect4)?;
        // Other labs' agents come and go beside them.
        let kept = found
            .iter()
            .filter(|number| theirs.iter().any(|theirs| theirs.program == **number));
        let kept: Vec<u32> = kept.copied().collect();
        let wanted: Vec<u32> = theirs.iter().map(|theirs| theirs.program).collect();
        ensure!(kept == wanted, "{when}: {kept:?} of {wanted:?}");
        Ok(())
    };
    let options = xtask::lab::AgentOptions::from_env(faulty.directory.path())?;
    faulty.lab.start_agents(&options)?;
    ensure!(faulty.status()?["host_clients"] == true);
    check(&faulty, "beside ours")?;
    faulty.agent_mut().kill();
    faulty.agent_mut().start()?;
    faulty.agent().wait_ready()?;
    check(&faulty, "after a restart")?;
    faulty.agent_mut().stop()?;
    faulty.agent().duolb(&["cleanup"])?;
    check(&faulty, "after the clean-up")
}
