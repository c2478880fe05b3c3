//! The table: every cell as the rules have it, through TC, generic XDP and native XDP.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
};

use anyhow::{Result, bail, ensure};

use crate::{
    cells::{Cell, cells, services},
    cluster::{Cluster, Kind, Mode},
    needs_root,
    play::{Outcome, play},
    reference::{Client, Fate, Seen},
    services::{Numbered, name, place},
};

/// Plays all cells in a cluster of this kind, whose agents get further arguments, and compares.
pub(crate) fn check(kind: Kind, args: &[&str], skip: impl Fn(&Cell) -> bool) -> Result<Cluster> {
    let services = services();
    let mut cells = cells(&services, &kind.surroundings());
    cells.retain(|cell| !skip(cell));
    let cluster = Cluster::start(kind, &services, args)?;
    let outcomes = play(&cluster, &services, &cells)?;
    let nodes = cluster.node_addresses()?;
    let own = |client: Client| match client {
        Client::Pod { .. } => cluster.lab.pod(&place(client)).addresses.both().to_vec(),
        Client::Host { node } => nodes[&node].iter().copied().collect(),
        Client::Outside => cluster.lab.outside().addresses.both().to_vec(),
    };
    let wrong: Vec<(&Cell, String)> = cells
        .iter()
        .zip(&outcomes)
        .filter_map(|(cell, outcome)| {
            let expected = expected(cell, own(cell.client), &nodes);
            let right = is_right(&expected, outcome);
            (!right).then(|| (cell, format!("{outcome:?}")))
        })
        .collect();
    if !wrong.is_empty() {
        let mut text = report(&services, &cells, &wrong);
        for node in 1..=3 {
            let counted = cluster.verdicts(node)?.into_iter();
            let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
            let _ = writeln!(text, "node-{node} counted {counted:?}"); // a String takes it
        }
        bail!("{:?}: {text}", kind.mode);
    }
    cluster.check_counters()?;
    Ok(cluster)
}

/// An expectation in addresses.
enum Expected {
    Answered(BTreeMap<String, BTreeSet<IpAddr>>),
    Refused,
    Dropped,
    Denied,
}

fn expected(cell: &Cell, own: Vec<IpAddr>, nodes: &BTreeMap<u8, BTreeSet<IpAddr>>) -> Expected {
    let of_family = |ip: &IpAddr| ip.is_ipv6() == cell.v6;
    match &cell.expected {
        Fate::Refused => Expected::Refused,
        Fate::Denied => Expected::Denied,
        Fate::Dropped | Fate::Absent => Expected::Dropped,
        Fate::Answered(all) => {
            let sees = |seen: &Seen| -> BTreeSet<IpAddr> {
                match seen {
                    Seen::Own => own.iter().copied().filter(of_family).collect(),
                    Seen::Node(node) => nodes[node].iter().copied().filter(of_family).collect(),
                }
            };
            let all = all.iter();
            Expected::Answered(all.map(|(who, seen)| (name(*who), sees(seen))).collect())
        }
    }
}

/// All who may answer did, no others, and each saw no address but those it may.
fn is_right(expected: &Expected, outcome: &Outcome) -> bool {
    match (expected, outcome) {
        (Expected::Refused, Outcome::Refused)
        | (Expected::Dropped, Outcome::Silent)
        | (Expected::Denied, Outcome::Denied) => true,
        (Expected::Answered(expected), Outcome::Answered(seen)) => {
            expected.keys().eq(seen.keys())
                && seen
                    .iter()
                    .all(|(who, seen)| seen.is_subset(&expected[who]))
        }
        _ => false,
    }
}

/// What is wrong, cell by cell, and below it where.
fn report(services: &[Numbered], all: &[Cell], wrong: &[(&Cell, String)]) -> String {
    let mut text = format!(
        "{} of {} cells are not as the rules say\n",
        wrong.len(),
        all.len()
    );
    for (cell, seen) in wrong {
        let service = &services[cell.service];
        let (client, frontend, protocol) = (cell.client, cell.frontend, cell.protocol);
        let family = if cell.v6 { "IPv6" } else { "IPv4" };
        let _ = writeln!(
            text,
            "{client:9} {frontend:12} {:16} {family} {protocol}: expected {:?}, seen {seen}",
            service.name, cell.expected
        ); // a String takes it
    }
    let mut sums: BTreeMap<(Client, String), [usize; 2]> = BTreeMap::new();
    let key = |cell: &Cell| (cell.client, cell.frontend.to_string());
    for cell in all {
        sums.entry(key(cell)).or_default()[1] += 1;
    }
    for (cell, _) in wrong {
        sums.entry(key(cell)).or_default()[0] += 1;
    }
    for ((client, frontend), [wrong, all]) in sums {
        let _ = writeln!(text, "{client:9} {frontend:12} {wrong:4} wrong of {all:4}"); // as above
    }
    text
}

fn check_mode(mode: Mode, args: &[&str]) -> Result<()> {
    let cluster = check(Kind::plain(mode), args, |_| false)?;
    // Not the TC programs alone, under another name.
    let moved = cluster.verdict("xdp-to-endpoint")?;
    let is_xdp = mode != Mode::Tc;
    ensure!((moved > 0) == is_xdp, "{mode:?}: {moved} packets by XDP");
    Ok(())
}

#[test]
fn every_client_is_served_through_tc_as_the_rules_say() -> Result<()> {
    needs_root!();
    check_mode(Mode::Tc, &[])
}

#[test]
fn every_client_is_served_through_generic_xdp_as_the_rules_say() -> Result<()> {
    needs_root!();
    check_mode(Mode::Generic, &[])
}

#[test]
fn every_client_is_served_through_native_xdp_as_the_rules_say() -> Result<()> {
    needs_root!();
    check_mode(Mode::Native, &[])
}

/// All that skips the stack, with XDP before it, and what has to go by the stack all the same.
#[test]
fn every_client_is_served_past_the_stack_as_the_rules_say() -> Result<()> {
    needs_root!();
    check_mode(Mode::Tc, &["--host-routing", "bpf"])?;
    check_mode(Mode::Native, &["--host-routing", "bpf"])
}

#[test]
fn an_endpoint_too_many_or_a_wrong_address_is_not_right() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let set = |all: &[&str]| {
        all.iter()
            .map(|text| ip(text))
            .collect::<BTreeSet<IpAddr>>()
    };
    let one = || Expected::Answered([("a".to_owned(), set(&["10.0.0.1"]))].into());
    let seen = |all: &[(&str, &str)]| {
        let all = all.iter();
        Outcome::Answered(
            all.map(|(who, ip)| ((*who).to_owned(), set(&[ip])))
                .collect(),
        )
    };
    assert!(is_right(&one(), &seen(&[("a", "10.0.0.1")])));
    assert!(!is_right(&one(), &seen(&[("a", "10.0.0.2")])));
    assert!(!is_right(&one(), &seen(&[("b", "10.0.0.1")])));
    let both = [("a", "10.0.0.1"), ("b", "10.0.0.1")];
    assert!(!is_right(&one(), &seen(&both)));
    assert!(!is_right(&one(), &Outcome::Refused));
    assert!(!is_right(&Expected::Dropped, &Outcome::Refused));
}
