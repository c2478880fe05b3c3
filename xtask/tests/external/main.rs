//! Traffic that is not a pod calling a ClusterIP: every kind of client to every kind of frontend, with real
//! sockets, through TC and through XDP.
//!
//! ```text
//!   cells       who calls what how   \
//!   reference   what the rules say    > table: expected beside seen (xtask's lab has it)
//!   play        what happens         /
//! ```
//!
//! Rule numbers are those of docs/semantics.md.

mod addresses;
mod cells;
mod cluster;
mod composition;
mod crowd;
mod firewall;
mod fragments;
mod ground;
mod jumbo;
mod load;
mod path_mtu;
mod play;
mod ports;
mod restarts;
mod services;
mod sources;
#[path = "../lifecycle/stream.rs"]
mod stream;
mod table;
mod tunnels;
mod uplinks;

/// Skips the test with a line if namespaces cannot be made.
macro_rules! needs_root {
    () => {
        if !xtask::lab::is_possible(module_path!()) {
            return Ok(());
        }
    };
}
pub(crate) use needs_root;
pub(crate) use xtask::lab::reference;
