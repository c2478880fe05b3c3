//! The only file that attaches programs: one device at a time, in place of what was there before.
//!
//! tcx links (kernel 6.6) are pinned by ifindex and outlive the agent; a new agent swaps the program
//! within the link, so no packet passes without one. Older kernels have filters of a clsact qdisc, which
//! stay by themselves and are replaced by number.

use std::{error::Error, fs, io};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{
            NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
            qdisc_detach_program,
        },
    },
    util::KernelVersion,
};
use lb_common::tables::Device;

use super::{
    DatapathError,
    devices::{Link, Links, Pattern, Reason, Role, role},
    object,
    pins::Pins,
    tables::DeviceMap,
};

/// How programs are put on devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// tcx links.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

impl Mode {
    /// The best that this kernel has.
    pub fn of_kernel() -> Self {
        let has_tcx =
            KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0));
        if has_tcx { Self::Tcx } else { Self::Clsact }
    }
}

/// The number under which our filters stand in a clsact qdisc, so that a new agent replaces them.
const FILTER: NlOptions = NlOptions {
    priority: 1,
    handle: TcHandle::new(0, 1),
    classid: None,
};

/// A hook: its program, its place, its name in the pin directory.
struct Hook {
    program: &'static str,
    place: TcAttachType,
    suffix: &'static str,
}

const HOOKS: [Hook; 2] = [
    Hook {
        program: "tc_ingress",
        place: TcAttachType::Ingress,
        suffix: "ingress",
    },
    Hook {
        program: "tc_egress",
        place: TcAttachType::Egress,
        suffix: "egress",
    },
];

/// Keeps the programs on the devices they belong on.
pub struct Attacher {
    ebpf: Ebpf,
    devices: DeviceMap,
    pins: Pins,
    patterns: Vec<Pattern>,
    mode: Mode,
    links: Links,
    /// What was done with each device, so that nothing is done or said twice.
    done: std::collections::BTreeMap<u32, Role>,
}

impl Attacher {
    /// Takes over the loaded programs.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn new(
        mut ebpf: Ebpf,
        pins: Pins,
        patterns: Vec<Pattern>,
        mode: Mode,
    ) -> Result<Self, DatapathError> {
        let devices = DeviceMap::take(&mut ebpf)?;
        let (links, done) = Default::default();
        Ok(Self {
            ebpf,
            devices,
            pins,
            patterns,
            mode,
            links,
            done,
        })
    }

    /// A new complete listing: attaches what is missing, forgets what is gone.
    pub fn replace(&mut self, links: Links) {
        for gone in self.devices.ifindexes() {
            if !links.contains_key(&gone) {
                self.remove(gone);
            }
        }
        self.done.retain(|index, _| links.contains_key(index));
        self.links = links;
        self.settle();
    }

    /// A device is there and looks like this.
    pub fn put(&mut self, link: Link) {
        self.links.insert(link.index, link);
        self.settle();
    }

    /// A device is gone.
    pub fn remove(&mut self, index: u32) {
        self.devices.remove(index);
        for hook in &HOOKS {
            // The kernel has detached the program with the device; only the name is left.
            let _ = fs::remove_file(self.pin(index, hook));
        }
        self.done.remove(&index);
        if self.links.remove(&index).is_some() {
            self.settle();
        }
    }

    /// The devices that are served.
    pub fn attached(&self) -> usize {
        self.done
            .values()
            .filter(|role| matches!(role, Role::Attach { .. }))
            .count()
    }

    /// Makes what is done what should be. One device's role depends on others (bridges and their ports),
    /// so all are looked at; only changes are acted on.
    fn settle(&mut self) {
        let wanted: Vec<(u32, Role)> = self
            .links
            .values()
            .map(|link| (link.index, role(link, &self.links, &self.patterns)))
            .filter(|(index, role)| self.done.get(index) != Some(role))
            .collect();
        for (index, role) in wanted {
            let name = self.links[&index].name.clone();
            match role {
                Role::Attach { bridge } => match self.attach(index, &name, bridge) {
                    Ok(()) => {
                        tracing::info!(device = name, ifindex = index, bridge, mode = ?self.mode, "attached");
                    }
                    // It vanishes while it is being attached: netlink says so next.
                    Err(error) if is_gone(&error) => {
                        tracing::debug!(device = name, "gone while being attached");
                        continue;
                    }
                    Err(error) => {
                        tracing::error!(
                            device = name,
                            "cannot attach, traffic by it is not served: {error}"
                        );
                    }
                },
                Role::Skip(reason) => {
                    if self.done.contains_key(&index) {
                        self.detach(index, &name);
                    }
                    if reason == Reason::NoEthernet {
                        tracing::warn!(device = name, "not served: {reason}");
                    } else {
                        tracing::debug!(device = name, "not attached: {reason}");
                    }
                }
            }
            self.done.insert(index, role);
        }
    }

    fn attach(&mut self, index: u32, name: &str, bridge: u32) -> Result<(), DatapathError> {
        // First what the program must know, then the program.
        let mut attached = match self.mode {
            Mode::Tcx => Device::TCX,
            Mode::Clsact => Device::CLSACT,
        };
        if self.mode == Mode::Clsact {
            match qdisc_add_clsact(name) {
                Ok(()) => attached |= Device::QDISC,
                // Another agent's, another program's, or our own of before, which stays our own.
                Err(error) if already_exists(&error) => {
                    attached |= self.devices.attached(index) & Device::QDISC;
                }
                Err(error) => return Err(refused("tc_ingress", error.into())),
            }
        }
        self.devices.put(
            index,
            &Device {
                bridge,
                attached,
                ..Device::default()
            },
        )?;
        for hook in &HOOKS {
            let pin = self.pin(index, hook);
            let program = object::program(&mut self.ebpf, hook.program)?;
            match self.mode {
                Mode::Tcx => attach_tcx(program, hook, name, &pin),
                Mode::Clsact => attach_clsact(program, hook, name),
            }?;
        }
        Ok(())
    }

    fn detach(&mut self, index: u32, name: &str) {
        tracing::info!(device = name, "detached");
        self.devices.remove(index);
        for hook in &HOOKS {
            let _ = fs::remove_file(self.pin(index, hook));
            let _ = qdisc_detach_program(name, hook.place, hook.program);
        }
    }

    fn pin(&self, index: u32, hook: &Hook) -> std::path::PathBuf {
        self.pins.links().join(format!("{index}-{}", hook.suffix))
    }
}

/// Removes our filters from a device of a stopped agent; tcx links go with their pins.
pub fn detach_clsact(name: &str) {
    for hook in &HOOKS {
        let _ = qdisc_detach_program(name, hook.place, hook.program);
    }
}

fn attach_tcx(
    program: &mut SchedClassifier,
    hook: &Hook,
    device: &str,
    pin: &std::path::Path,
) -> Result<(), DatapathError> {
    let refuse = |source: ProgramError| refused(hook.program, source);
    if let Some(link) = find_pinned(pin).map_err(|error| unpinnable(pin, error))? {
        match program.attach_to_link(link) {
            Ok(id) => {
                // The pin holds the link; our handle on it may go.
                drop(program.take_link(id));
                return Ok(());
            }
            // The link of a device that is gone, whose number was given away again.
            Err(error) => {
                tracing::debug!(device, "the pinned link is dead: {error}");
                let _ = fs::remove_file(pin);
            }
        }
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(device, hook.place, order)
        .map_err(refuse)?;
    let link = program.take_link(id).map_err(refuse)?;
    let link: FdLink = link
        .try_into()
        .map_err(|error: LinkError| unpinnable(pin, error))?;
    link.pin(pin)
        .map(drop)
        .map_err(|error| unpinnable(pin, error))
}

fn unpinnable(
    pin: &std::path::Path,
    error: impl Into<Box<dyn Error + Send + Sync>>,
) -> DatapathError {
    DatapathError::Pin {
        path: pin.to_owned(),
        source: io::Error::other(error),
    }
}

fn find_pinned(pin: &std::path::Path) -> Result<Option<SchedClassifierLink>, LinkError> {
    match PinnedLink::from_pin(pin) {
        Ok(link) => FdLink::from(link).try_into().map(Some),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn attach_clsact(
    program: &mut SchedClassifier,
    hook: &Hook,
    device: &str,
) -> Result<(), DatapathError> {
    let refuse = |source: ProgramError| refused(hook.program, source);
    let NlOptions {
        priority,
        handle,
        classid,
    } = FILTER;
    let before = SchedClassifierLink::attached(device, hook.place, priority, handle, classid)
        .map_err(|error| refuse(TcError::IoError(error).into()))?;
    let id = match program.attach_to_link(before) {
        Ok(id) => id,
        Err(_) => program
            .attach_with_options(device, hook.place, TcAttachOptions::Netlink(FILTER))
            .map_err(refuse)?,
    };
    // The filter outlives the agent: its link must not detach it when it is dropped.
    std::mem::forget(program.take_link(id).map_err(refuse)?);
    Ok(())
}

fn refused(name: &'static str, source: ProgramError) -> DatapathError {
    DatapathError::Program {
        name,
        source: Box::new(source),
    }
}

fn already_exists(error: &TcError) -> bool {
    matches!(error, TcError::AlreadyAttached) || find_errno(error) == Some(nix::libc::EEXIST)
}

/// Whether the error says that there is no such device.
fn is_gone(error: &DatapathError) -> bool {
    matches!(
        find_errno(error),
        Some(nix::libc::ENODEV | nix::libc::ENXIO)
    )
}

/// The number of the kernel's error at the bottom of a chain.
fn find_errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(errno) = io.raw_os_error()
        {
            return Some(errno);
        }
        next = error.source();
    }
    None
}
