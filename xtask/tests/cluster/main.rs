//! The whole agent against an API server, with real traffic: what it serves, what it says when the server is
//! away, refuses it or talks of another certificate, and that none of this touches what is in force.
//!
//! The API server is the double of `lb-userspace/tests/kube`, outside of the cluster's nodes and reached over
//! their network, as a real one. There the source is tested event by event; here it is the binary, its programs
//! and its maps.

mod away;
mod cluster;
#[expect(
    dead_code,
    reason = "shared with the tests of the source, which use all of it"
)]
#[path = "../../../lb-userspace/tests/kube/double/mod.rs"]
mod double;
#[expect(
    dead_code,
    reason = "shared with the tests of the rules, which look at headers, too"
)]
mod http;
#[path = "../../../lb-userspace/tests/kube/objects.rs"]
mod objects;
mod refused;
mod scale;
mod server;
mod serving;
mod starting;
#[path = "../lifecycle/stream.rs"]
mod stream;
#[expect(
    dead_code,
    reason = "shared with the tests of the rules, which use all of it"
)]
#[path = "../rules/objects.rs"]
mod workload;

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
