//! The node's own processes: served where the kernel lets us, else said to be left out.

use std::path::Path;

use crate::datapath::{Object, cgroup, netns, pins::Pins};

/// The network namespace that the agent is in; 0, which none has, if the kernel does not say.
pub(super) fn netns_cookie() -> u64 {
    netns::cookie().unwrap_or_else(|error| {
        tracing::warn!(
            "the node's own processes are not served: the kernel does not say which they are: {error}"
        );
        0
    })
}

/// Has them served from the cgroup at `root`, or from the root of all. If that cannot be, everybody else is.
pub(super) fn serve(ebpf: &mut Object, pins: &Pins, root: Option<&Path>) {
    match cgroup::attach(ebpf, pins, root) {
        Ok(root) => tracing::info!(cgroup = %root.display(), "the node's own processes are served"),
        Err(error) => tracing::warn!("the node's own processes are not served: {error}"),
    }
}
