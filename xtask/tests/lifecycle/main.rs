//! An agent's life under traffic: endpoints that come and go, kill -9, restart, bad manifests, clean-up.
//!
//! Real agents in the lab, real sockets; what they serve is written by the tests, file by file.

mod changes;
mod cleanup;
mod families;
mod load;
mod manifests;
mod problems;
mod refusals;
mod restarts;
mod stream;
mod upgrade;

/// Skips the test with a line if namespaces cannot be made.
macro_rules! needs_root {
    () => {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: the lab needs root; use cargo xtask test");
            return Ok(());
        }
    };
}
pub(crate) use needs_root;

/// Fails unless `holds` does within `seconds`.
pub(crate) fn eventually(
    lab: &xtask::lab::Lab,
    seconds: u64,
    what: &str,
    mut holds: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let held = lab.wait_until(std::time::Duration::from_secs(seconds), || Ok(holds()))?;
    anyhow::ensure!(held, "{what}: not within {seconds} s");
    Ok(())
}
