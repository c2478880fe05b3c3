//! How long tests wait: what is right on an ordinary machine, times how much slower this one is said to be.
//!
//! A processor done in software (`cargo xtask vm`) is ten times slower than the one that it is done on. What a test
//! must see within a second is then seen within ten; what it must *not* see is waited for as long.

use std::{env, sync::LazyLock, time::Duration};

/// The variable with the factor, a whole number; 1 if it is not there.
pub const VARIABLE: &str = "DUOLB_TEST_SLOWNESS";

/// The factor.
pub fn slowness() -> u32 {
    static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
        let text = env::var(VARIABLE).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
    });
    *SLOWNESS
}

/// What an ordinary machine does in `time` may take this long here.
pub fn stretched(time: Duration) -> Duration {
    time * slowness()
}
