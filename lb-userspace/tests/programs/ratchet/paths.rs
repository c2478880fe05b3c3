//! What a packet calls the kernel for, by the way that it goes: exact counts, so a table of its own that holds to the unit.
//!
//! A call for a map is what a packet costs most; a checksum by the kernel, a route, a redirect come next.

use std::{collections::BTreeMap, fmt::Write as _};

use super::TABLE;
use crate::bench::{
    calls::{Calls, KINDS},
    counted,
};

/// The line that the table begins with.
pub const MARK: &str = "paths";

/// What is committed: by the path, its calls and the reason for them.
type Paths = BTreeMap<String, (Calls, String)>;

fn parse(text: &str) -> Result<Paths, String> {
    let lines = text.lines().skip_while(|line| *line != MARK).skip(1);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(parse_line).collect()
}

/// A name of several words, a number for each of [`KINDS`], the reason.
fn parse_line(line: &str) -> Result<(String, (Calls, String)), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_number = |word: &&str| word.parse::<u64>().is_ok();
    let first = words.iter().position(is_number);
    let (name, behind) = words.split_at(first.ok_or_else(|| format!("{line}: no figures"))?);
    let mut calls = Calls::default();
    for (at, (kind, _)) in KINDS.iter().enumerate() {
        let word = behind.get(at).copied().unwrap_or_default();
        let number = word.parse();
        calls[at] = number.map_err(|why| format!("{line}: {kind} {word:?}: {why}"))?;
    }
    match behind.get(KINDS.len()..) {
        Some(reason @ [_, ..]) => Ok((name.join(" "), (calls, reason.join(" ")))),
        _ => Err(format!("{line}: no reason")),
    }
}

fn is_xdp(name: &str) -> bool {
    name.contains("XDP")
}

fn line(name: &str, [lookups, updates, removals, helpers]: Calls, reason: &str) -> String {
    format!("{name:31} {lookups:7} {updates:7} {removals:8} {helpers:7} {reason}")
}

/// The lines that have to be in the table instead of those that are, with what has changed in place of a reason.
fn complaints(table: &Paths, now: &BTreeMap<String, Calls>) -> String {
    let mut lines = String::new();
    let mut complain = |text: String| writeln!(lines, "{text}").expect("a String takes everything");
    for (name, calls) in now {
        match table.get(name) {
            Some((before, _)) if before == calls => {}
            Some((before, _)) => complain(line(name, *calls, &format!("<why? it was {before:?}>"))),
            None => complain(line(name, *calls, "<why? it is new>")),
        }
    }
    // Some kernels have no XDP that would serve.
    let has_xdp = now.keys().any(|name| is_xdp(name));
    let gone = table.keys().filter(|name| !now.contains_key(*name));
    for name in gone.filter(|name| has_xdp || !is_xdp(name)) {
        complain(format!("{name} is in the table, and no path"));
    }
    lines
}

#[test]
fn no_packet_calls_the_kernel_for_more_than_the_table_says() {
    let table = parse(TABLE).unwrap();
    let Some(now) = counted::count() else {
        return;
    };
    for (name, calls) in &now {
        let reason = table.get(name).filter(|(before, _)| before == calls);
        println!(
            "{}",
            line(name, *calls, reason.map_or("-", |(_, reason)| reason))
        );
    }
    let complaints = complaints(&table, &now);
    assert!(
        complaints.is_empty(),
        "packets call the kernel for other things than ratchet.txt says. If that is meant, or is less, put these lines there, \
         with the reason:\n{complaints}"
    );
}

#[test]
fn a_call_more_or_less_is_told_with_the_line_for_the_table() {
    let text =
        "x 1 2 3 4 5 6 why\npaths\n# a comment\nIPv4 miss, leaving 1 0 0 2 the first figures\n";
    let table = parse(text).unwrap();
    assert_eq!(
        table["IPv4 miss, leaving"],
        ([1, 0, 0, 2], "the first figures".to_owned())
    );
    let complaints = |calls| complaints(&table, &[("IPv4 miss, leaving".to_owned(), calls)].into());
    assert_eq!(complaints([1, 0, 0, 2]), "");
    for changed in [[2, 0, 0, 2], [0, 0, 0, 2], [1, 0, 0, 3]] {
        let said = complaints(changed);
        assert!(said.contains("<why? it was [1, 0, 0, 2]>"), "{said}");
        // As it stands, it can be put there.
        assert_eq!(parse_line(said.trim_end()).unwrap().1.0, changed);
    }
    let gone = super::paths::complaints(&table, &BTreeMap::new());
    assert_eq!(gone, "IPv4 miss, leaving is in the table, and no path\n");
}

#[test]
fn a_path_without_a_reason_or_a_figure_is_refused() {
    let refused = |line: &str| parse_line(line).unwrap_err();
    assert_eq!(refused("IPv4 miss 1 0 0 2"), "IPv4 miss 1 0 0 2: no reason");
    assert!(refused("IPv4 miss 1 0 x 2 why").contains("removals \"x\""));
    assert_eq!(refused("IPv4 miss"), "IPv4 miss: no figures");
}
