//! One path over and over, for a profiler to look at.

use std::time::Instant;

use duolb::datapath::object::Sizes;
use serde_json::{Value, json};

use super::{
    paths::{FLOWS, open, paths_of_tc},
    stand::Stand,
};
use crate::{
    kernel::{Kernel, SMALL},
    packet::both,
};

/// Runs one path for so many seconds.
pub fn repeat(seconds: u32, name: &str) -> Value {
    let sizes = Sizes {
        flows: FLOWS,
        ..SMALL
    };
    for net in both() {
        let Some(mut kernel) = Kernel::load_sized(sizes) else {
            return json!({"rows": []});
        };
        let mut stand = Stand::load(FLOWS);
        for mut path in paths_of_tc(&mut kernel, &net) {
            if name != format!("{} {}", net.name, path.what) {
                continue;
            }
            open(&mut kernel, &net);
            let start = Instant::now();
            while start.elapsed().as_secs() < seconds.into() {
                path.time(&mut kernel, &mut stand);
            }
            return json!({"rows": []});
        }
    }
    json!({"error": format!("no path {name:?}")})
}
