//! The verdicts that no test reaches, and why: the one place for them, which `cargo xtask test` reads, too.

use lb_common::verdict::Verdict;

/// All of them. Any other one that no test has seen is a gap.
pub const UNREACHED: [(Verdict, &str); 2] = [
    (
        Verdict::FlowTableFull,
        "an LRU table evicts the oldest entry rather than refuse a new one",
    ),
    (
        Verdict::NotWritable,
        "the parser has seen every byte that is written, and the packet of a test run is linear and not shared, so \
         that writing needs no memory",
    ),
];

/// Why no test reaches `verdict`, if none does.
pub fn reason(verdict: Verdict) -> Option<&'static str> {
    let mut all = UNREACHED.iter();
    all.find_map(|(other, why)| (*other == verdict).then_some(*why))
}
