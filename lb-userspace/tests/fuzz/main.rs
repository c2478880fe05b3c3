//! The bodies of the fuzz targets (`fuzz/`), without a fuzzer: the corpus again, and a bounded number of mutants of it.
//!
//! So that what fuzzing once found stays found on every machine, with the stable compiler. `cargo xtask fuzz` lets
//! libFuzzer go on from the same corpus.

#[expect(
    dead_code,
    reason = "a library, of which the packets have more than this needs"
)]
#[path = "../../../fuzz/src/lib.rs"]
mod bodies;
mod corpus;
mod mutate;

use std::panic;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::bodies::TARGETS;

/// How many mutants each target gets: what all together take a few seconds.
fn mutants(target: &str) -> usize {
    match target {
        "manifests" => 2_000,
        "config" => 4_000,
        "plan" => 500,
        _ => 60_000,
    }
}

/// Runs a target on some input, which is shown if it fails.
fn check(name: &str, run: fn(&[u8]), from: &str, input: &[u8]) {
    if let Err(why) = panic::catch_unwind(|| run(input)) {
        eprintln!("target {name}, from {from}: \"{}\"", input.escape_ascii());
        panic::resume_unwind(why);
    }
}

#[test]
fn every_seed_of_the_corpus_passes() {
    for (name, run) in TARGETS {
        let seeds = corpus::read(name);
        assert!(!seeds.is_empty(), "{name} has a corpus");
        for (file, input) in &seeds {
            check(name, run, file, input);
        }
    }
}

#[test]
fn mutants_of_the_corpus_pass() {
    for (name, run) in TARGETS {
        let seeds = corpus::read(name);
        let mut rng = SmallRng::seed_from_u64(0xd001b);
        let mut input = Vec::new();
        for _ in 0..mutants(name) {
            let (file, seed) = &seeds[rng.random_range(0..seeds.len())];
            let (_, other) = &seeds[rng.random_range(0..seeds.len())];
            mutate::run(&mut rng, seed, other, &mut input);
            check(name, run, file, &input);
        }
    }
}

#[test]
fn the_corpus_is_what_the_generator_makes_and_what_was_found() {
    for (name, _) in TARGETS {
        let there = corpus::read(name);
        for (file, input) in corpus::generate(name) {
            assert!(
                there.contains(&(file.clone(), input)),
                "fuzz/corpus/{name}/{file}: write it with `cargo test -p lb-userspace --test fuzz -- --ignored`"
            );
        }
    }
}

#[test]
#[ignore = "writes the seeds of the corpus anew"]
fn write_the_corpus() {
    for (name, _) in TARGETS {
        corpus::write(name);
    }
}
