//! Faults: whatever fails, no packet goes wrong, what was served goes on being served, and the user is told.
//!
//! Real agents in the lab, with real traffic through what they left in the kernel, while maps are full, system calls
//! fail, file systems are missing, others use the same devices, disks are full and signals come at the wrong moment.

mod disk;
mod flood;
mod foreign;
mod full;
mod node;
mod signals;
mod surroundings;
mod syscalls;
mod two;

#[expect(dead_code, reason = "these tests have a lab of their own")]
#[path = "../lifecycle/manifests.rs"]
mod manifests;
#[path = "../lifecycle/stream.rs"]
mod stream;

/// Skips the test with a line if namespaces cannot be made.
macro_rules! needs_root {
    () => {
        if !xtask::lab::is_possible(module_path!()) {
            return Ok(());
        }
    };
}
pub(crate) use needs_root;
