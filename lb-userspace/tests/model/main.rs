//! The datapath against a reference that is written straight from the rules: random Services, endpoints that come
//! and go, packets of every kind, time that passes.
//!
//! ```text
//!   step ──> world ──> reconciler ──> maps ──┐
//!     │        └─> rules ─> reference         ├─ play: the same verdict, the same bytes?
//!     └── packet ────────────┴─> programs ────┘
//! ```
//!
//! The maps are filled by the real planner, the programs run by `BPF_PROG_TEST_RUN`, each packet by the whole way:
//! in by one device, out by another. The reference shares no code with either. Where the rules leave freedom, which
//! endpoint and which port, it takes what the datapath chose if that was allowed, and holds it to it from then on.
//!
//! `DUOLB_MODEL_SEED` and `DUOLB_MODEL_STEPS` set the seed and the length of a run; a run that fails prints the
//! seed and the few steps that are left of it. Needs root; without, it says so and passes.

mod answers;
mod cast;
#[path = "../programs/coverage.rs"]
mod coverage;
mod datapath;
mod errors;
mod flow;
#[expect(
    dead_code,
    unused_imports,
    reason = "lb-common's tests use it too, and other parts of it"
)]
#[path = "../../../lb-common/tests/packets/packet/mod.rs"]
mod packet;
mod play;
mod reference;
mod rules;
mod seen;
mod shrink;
#[path = "../programs/state.rs"]
mod state;
mod step;
mod want;
mod world;

use std::{env, time::Instant};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};

use crate::{datapath::Datapath, play::Play};

/// Steps after which all is forgotten: what fails is shrunk from no more than these.
const EPISODE: usize = 1_000;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: {text:?}")))
}

#[test]
fn whatever_happens_every_packet_becomes_what_the_rules_say() {
    let seed = number("DUOLB_MODEL_SEED").unwrap_or(0xd001b);
    let steps = number("DUOLB_MODEL_STEPS").unwrap_or(100_000);
    let Some(mut datapath) = Datapath::load() else {
        return;
    };
    let start = Instant::now();
    let mut seen = seen::Seen::default();
    for episode in 0..steps.div_ceil(EPISODE as u64) {
        let mut rng = SmallRng::seed_from_u64(seed.wrapping_add(episode));
        let has_xdp = rng.random_ratio(1, 4);
        let script = step::script(&mut rng, EPISODE);
        let result = Play::new(&mut datapath, has_xdp).all(&script);
        match result {
            Ok(more) => seen.add(&more),
            Err(why) => {
                let script = script.into_iter().take(why.at + 1).collect();
                let (script, why) = shrink::run(&mut datapath, has_xdp, script, why);
                let lines: Vec<_> = script.iter().map(|step| format!("  {step}")).collect();
                panic!(
                    "DUOLB_MODEL_SEED={} (XDP: {has_xdp}), shrunk to:\n{}\n{why}",
                    seed.wrapping_add(episode),
                    lines.join("\n")
                );
            }
        }
    }
    println!(
        "seed {seed}, {steps} steps in {:.1?}: {seen}",
        start.elapsed()
    );
    assert!(
        steps < 20_000 || seen.is_broad(),
        "the mix reaches what it is for: {seen}"
    );
}
