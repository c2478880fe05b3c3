//! Half a minute of `cargo xtask soak`, so that it goes on to work; with a seed of its own each time, which is told.

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

#[test]
fn half_a_minute_of_everything_at_once_ends_well() -> Result<()> {
    if !xtask::lab::is_possible(module_path!()) {
        return Ok(());
    }
    let duolb = env::var_os("DUOLB_BIN").context("DUOLB_BIN is not set: use cargo xtask test")?;
    let dir = tempfile::tempdir()?;
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let report = dir.path().join("report.json");
    xtask::soak::soak(duolb.as_ref(), Duration::from_secs(30), seed, &report)
}
