//! The rules that need more than one node to be seen, with real sockets: policies, topology, affinity,
//! addresses that nobody serves, endpoints that leave.
//!
//! Three nodes in two zones, an agent on each, and objects as `kubectl get -o json` prints them. Names
//! of tests quote the rules. `tables` runs the cases that `lb-userspace/tests/rules` holds for the planner; the
//! other modules test what cannot be said there: time, open flows, whoever completes checksums.

mod addresses;
mod affinity;
mod capabilities;
#[path = "../../../lb-userspace/tests/rules/cases/mod.rs"]
mod cases;
mod cluster;
#[path = "../cluster/http.rs"]
mod http;
mod leaving;
mod node_ports;
mod objects;
mod operating;
mod policies;
mod tables;

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
