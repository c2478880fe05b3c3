//! What the node that a client's packets meet first counts: that it was the datapath that saw to it, and for such a
//! reason.

use std::collections::BTreeMap;

use crate::cases::{Client, Outcome};

/// How often each verdict was counted, by its label.
pub(super) type Counts = BTreeMap<String, f64>;

/// The labels that are counted more often now.
pub(super) fn find_new(before: &Counts, now: &Counts) -> Vec<String> {
    let is_new = |label: &&String| now.get(*label) > before.get(*label);
    now.keys().filter(is_new).cloned().collect()
}

/// Whether that is what a node counts; `counted` are the labels that are new, `is_away` whether some of the endpoints
/// that may answer are on other nodes.
pub(super) fn are_right(
    (client, is_away): (Client, bool),
    expected: &Outcome,
    counted: &[String],
) -> bool {
    let is_counted = |label: &&str| counted.iter().any(|other| other == label);
    // One of these, or all of these, and none but these.
    let (one, all): (&[&str], &[&str]) = match (expected, client) {
        // None of our business.
        (Outcome::Passed, _) => (&[], &[]),
        (Outcome::Refused, _) => (&["no-endpoint", "unknown-port"], &[]),
        (Outcome::Dropped, _) => (&["no-local-endpoint", "unallocated", "source-denied"], &[]),
        // No packet of it needs translation.
        (Outcome::Answered(..), Client::Host) => (&[], &["socket"]),
        (Outcome::Answered(..), Client::Outside) if is_away => {
            (&[], &["dnat", "rev-nat", "snat", "un-snat"])
        }
        (Outcome::Answered(..), _) => (&[], &["dnat", "rev-nat"]),
    };
    let is_known = |label: &String| one.iter().chain(all).any(|other| other == label);
    (one.is_empty() || one.iter().any(is_counted))
        && all.iter().all(is_counted)
        && counted.iter().all(is_known)
}
