//! The rules of the service model, as tables: objects in, and what becomes of a client's new flow.
//!
//! `tables/` holds the cases, a file for each group of rules, and `cases` reads them; they know nothing of how
//! they are checked. Here they go through the whole of user space that decides: the manifests source, the
//! index, the desired state. Each case runs in both families. `corpus` reads what a real cluster prints, and
//! `memory` weighs a large one.

mod cases;
mod corpus;
mod judge;
mod memory;

use cases::{Case, Step};
use judge::{Agent, Plain};
use lb_common::address::Family;

fn run(group: &str) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rules/tables");
    let cases = cases::load(&format!("{folder}/{group}.txt"));
    assert!(cases.len() >= 2, "{group}: the cases are missing");
    for case in &cases {
        for family in Family::BOTH {
            check(case, family);
        }
    }
}

fn check(case: &Case, family: Family) {
    let place = format!("{} ({family})", case.name);
    let mut agents: Vec<Agent> = case.nodes.iter().map(|node| Agent::new(node)).collect();
    let mut world = cases::Objects::default();
    for step in &case.steps {
        match step {
            Step::Apply(object) => world.apply(object),
            Step::Delete(object) => world.delete(object),
            Step::Ask(ask) if !ask.families().any(|other| other == family) => {}
            Step::Ask(ask) => {
                let manifest = world.manifest(family, &Plain);
                for agent in &mut agents {
                    let node = agent.node().to_owned();
                    for client in ask.clients_on(&node) {
                        agent.read(&manifest);
                        let to = ask.address(family, &Plain);
                        let answer = agent.answer(client, to, ask.port, ask.protocol);
                        let expected = ask.outcome(family, &Plain);
                        assert_eq!(
                            answer, expected,
                            "{place}: on {node}, {client:?}, {ask}\n{manifest:#}"
                        );
                    }
                }
            }
            Step::Lacking {
                node,
                service,
                policies,
            } => {
                let manifest = world.manifest(family, &Plain);
                let agent = agents.iter_mut().find(|agent| agent.node() == node);
                let agent = agent.unwrap_or_else(|| panic!("{place}: no node {node}"));
                agent.read(&manifest);
                assert_eq!(
                    &agent.lacking(service),
                    policies,
                    "{place}: lacking on {node}"
                );
            }
        }
    }
}

#[test]
fn what_is_watched_and_when_it_counts_rules_1_to_5() {
    run("a-watched");
}

#[test]
fn identity_and_parsing_rules_9_to_28() {
    run("b-identity");
}

#[test]
fn which_endpoints_are_usable_rules_29_to_39() {
    run("c-usable");
}

#[test]
fn verdict_by_destination_rules_40_to_53() {
    run("d-verdict");
}

#[test]
fn clients_of_addresses_outside_rules_22_to_27_40_to_48_62_to_65_and_100() {
    run("d-outside");
}

#[test]
fn session_affinity_rules_68_to_72() {
    run("g-affinity");
}

#[test]
fn services_without_local_endpoints_are_told_rule_87() {
    run("i-local");
}

#[test]
fn stale_events_and_reused_addresses_rules_90_to_94() {
    run("j-traps");
}
