//! The rule tables against loaded programs: agents read the objects, sockets see what becomes of flows.
//!
//! The cases are those that the planner is tested with (`lb-userspace/tests/rules`), so that what it says and
//! what the kernel does cannot drift apart. A table has one lab, whose agents go from case to case without a
//! restart: what a case leaves behind must not concern the next.
//!
//! ```text
//!   places    where a case's endpoints are: pods of the lab                        \
//!   world     the lab, its agents, what the manifests say                           |
//!   stack     who answers what passes; how packets from outside come to a node       > play: a case, step by step
//!   client    what new flows of pods, nodes and outside come to (sctp: by hand)     |
//!   verdicts  what a node counts then                                              /
//! ```

mod client;
mod places;
mod play;
mod sctp;
mod stack;
mod verdicts;
mod world;

use anyhow::{Result, bail, ensure};

use crate::{cases, needs_root};

fn run(group: &str) -> Result<()> {
    needs_root!();
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../lb-userspace/tests/rules/tables"
    );
    let cases = cases::load(&format!("{folder}/{group}.txt"));
    ensure!(cases.len() >= 2, "{group}: the cases are missing");
    let world = world::World::start(&cases)?;
    let (mut asked, mut failures) = (0, Vec::new());
    for case in &cases {
        match places::Places::find(case) {
            Err(reason) => failures.push(format!("{group}: case {}: {reason}", case.name)),
            Ok(places) => match play::play(&world, case, &places) {
                Ok(asks) => asked += asks,
                Err(why) => failures.push(format!("{group}: case {}: {why:#}", case.name)),
            },
        }
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    ensure!(asked > 0, "{group}: nothing was asked");
    Ok(())
}

#[test]
fn what_is_watched_and_when_it_counts_rules_1_to_5() -> Result<()> {
    run("a-watched")
}

#[test]
fn identity_and_parsing_rules_9_to_28() -> Result<()> {
    run("b-identity")
}

#[test]
fn which_endpoints_are_usable_rules_29_to_39() -> Result<()> {
    run("c-usable")
}

#[test]
fn verdict_by_destination_rules_40_to_53() -> Result<()> {
    run("d-verdict")
}

#[test]
fn clients_of_addresses_outside_rules_22_to_27_40_to_48_62_to_65_and_100() -> Result<()> {
    run("d-outside")
}

#[test]
fn session_affinity_rules_68_to_72() -> Result<()> {
    run("g-affinity")
}

#[test]
fn services_without_local_endpoints_are_told_rule_87() -> Result<()> {
    run("i-local")
}

#[test]
fn stale_events_and_reused_addresses_rules_90_to_94() -> Result<()> {
    run("j-traps")
}
