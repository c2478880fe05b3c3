//! What is done with arbitrary bytes, one module a target: each ends, and what it must hold is asserted.
//!
//! `fuzz_targets/` lets libFuzzer loose on these (`cargo xtask fuzz`); lb-userspace's test `fuzz` includes this very
//! file, replays the corpus and runs a bounded number of mutants, so that a find that became a seed is looked at
//! with every `cargo test`. The corpus is written by `cargo test -p lb-userspace --test fuzz -- --ignored`.

pub mod config;
pub mod icmp;
pub mod manifests;
pub mod parse;
pub mod plan;
pub mod reject;
pub mod translate;

#[path = "../../lb-common/tests/packets/packet/mod.rs"]
pub mod packet;

/// A target.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, by the name of their corpus.
pub const TARGETS: [Target; 7] = [
    ("parse", parse::run),
    ("translate", translate::run),
    ("icmp", icmp::run),
    ("reject", reject::run),
    ("manifests", manifests::run),
    ("config", config::run),
    ("plan", plan::run),
];
