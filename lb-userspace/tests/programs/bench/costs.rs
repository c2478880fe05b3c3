//! What the programs ask of the kernel, for the report; `ratchet` holds it against what is committed.

use std::time::Instant;

use duolb::datapath::{
    cgroup,
    object::{IP_PROGRAMS, PROGRAMS, XDP_PROGRAM},
};
use serde_json::{Value, json};

use crate::{cost::load_anew, kernel::Kernel};

/// Of every program: verified instructions, bytes of machine code, milliseconds to load.
pub fn costs() -> Vec<Value> {
    let Some(mut kernel) = Kernel::load() else {
        return vec![];
    };
    let programs = PROGRAMS.iter().chain(IP_PROGRAMS).chain([&XDP_PROGRAM]);
    let programs = programs.chain(cgroup::PROGRAMS);
    let cost = |name: &&'static str| {
        let start = Instant::now();
        let info = load_anew(kernel.object.program_mut(name).unwrap()).ok()?;
        let took = start.elapsed().as_millis();
        let verified = info.verified_instruction_count();
        let took = u64::try_from(took).unwrap();
        Some(json!({"name": name, "values": [verified, info.size_jitted(), took]}))
    };
    programs.filter_map(cost).collect()
}
