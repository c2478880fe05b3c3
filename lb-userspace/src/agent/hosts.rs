//! The node's own processes: served where the kernel lets us, else said to be left out.

use std::{io, path::Path};

use crate::datapath::{DatapathError, Object, cgroup, netns, pins::Pins, sockets::Sockets};

/// The network namespace that the agent is in; 0, which none has, if the kernel does not say.
pub(super) fn netns_cookie() -> u64 {
    netns::cookie().unwrap_or_else(|error| {
        tracing::warn!(
            "the node's own processes are not served: the kernel does not say which they are: {error}"
        );
        0
    })
}

/// What is done for them while the agent runs.
pub(super) struct Hosts {
    /// `None` if nothing is or can be done.
    sockets: Option<Sockets>,
    /// Where the datapath is pinned, if they are served.
    pins: Option<Pins>,
}

impl Hosts {
    /// Has them served from the cgroup at `root`, or from the root of all. If that cannot be, everybody else is.
    pub(super) fn serve(
        ebpf: &mut Object,
        pins: &Pins,
        root: Option<&Path>,
        resets_tcp: bool,
    ) -> Self {
        let mut attach = || {
            let root = cgroup::attach(ebpf, pins, root)?;
            Ok::<_, DatapathError>((root, Sockets::open(pins, resets_tcp)?))
        };
        // Nobody asks again before the next start: what was refused for want of memory is worth a second try.
        let attached = attach().or_else(|error| {
            tracing::debug!("once more, the node's own processes: {error}");
            attach()
        });
        let sockets = match attached {
            Ok((root, sockets)) => {
                tracing::info!(cgroup = %root.display(), "the node's own processes are served");
                Some(sockets)
            }
            Err(error) => {
                tracing::warn!("the node's own processes are not served: {error}");
                None
            }
        };
        let pins = sockets.is_some().then(|| pins.clone());
        Self { sockets, pins }
    }

    /// Has them served by other programs on the same maps.
    ///
    /// # Errors
    /// [`DatapathError`]: the kernel's refusal.
    pub(super) fn exchange(
        &self,
        ebpf: &mut Object,
        root: Option<&Path>,
    ) -> Result<(), DatapathError> {
        match &self.pins {
            Some(pins) => cgroup::attach(ebpf, pins, root).map(drop),
            None => Ok(()),
        }
    }

    /// Nobody is served.
    pub(super) fn none() -> Self {
        Self {
            sockets: None,
            pins: None,
        }
    }

    /// An endpoint has left, or a frontend: no socket of theirs stays connected to it.
    pub(super) fn release(&mut self) {
        let Some(sockets) = &self.sockets else {
            return;
        };
        match sockets.release() {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "destroyed sockets whose endpoint has left"),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(
                    "the kernel destroys no sockets (CONFIG_INET_DIAG_DESTROY): connected UDP sockets of the \
                     node's own processes stay with endpoints that have left"
                );
                self.sockets = None;
            }
            Err(error) => tracing::warn!("cannot destroy sockets whose endpoint has left: {error}"),
        }
    }
}
