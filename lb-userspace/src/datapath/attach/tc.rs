//! TC: tcx links, or filters of a clsact qdisc.

use std::{error::Error, fs, io, path::Path};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, LinkError, PinnedLink},
    tc::{
        NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
        qdisc_detach_program,
    },
};
use lb_common::tables::Device;

use super::{
    Mode,
    error::{find_errno, is_dead, refused, unpinnable},
    filters,
};
use crate::datapath::{DatapathError, devices::LinkLayer};

/// The number that our filters have at their priority in a clsact qdisc, so that a new agent replaces them.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// A hook: its programs, its place, its name in the pin directory.
pub(super) struct Hook {
    /// For frames with an Ethernet header.
    ethernet: &'static str,
    /// For frames without.
    ip: &'static str,
    place: TcAttachType,
    pub(super) suffix: &'static str,
}

pub(super) const HOOKS: [Hook; 2] = [
    Hook {
        ethernet: "tc_ingress",
        ip: "tc_ingress_l3",
        place: TcAttachType::Ingress,
        suffix: "ingress",
    },
    Hook {
        ethernet: "tc_egress",
        ip: "tc_egress_l3",
        place: TcAttachType::Egress,
        suffix: "egress",
    },
];

impl Hook {
    pub(super) const fn program(&self, layer: LinkLayer) -> &'static str {
        match layer {
            LinkLayer::Ip => self.ip,
            LinkLayer::Ethernet | LinkLayer::Other => self.ethernet,
        }
    }
}

/// Makes room for filters; whether the qdisc is our own, which it also is if `was_ours`.
pub(super) fn ensure_qdisc(device: &str, was_ours: bool) -> Result<u32, DatapathError> {
    match qdisc_add_clsact(device) {
        Ok(()) => Ok(Device::QDISC),
        // Another agent's, another program's, or our own of before, which stays our own.
        Err(error) if already_exists(&error) => Ok(if was_ours { Device::QDISC } else { 0 }),
        Err(error) => Err(refused("tc_ingress", error.into())),
    }
}

/// Puts a program on a device, in place of what was there before.
pub(super) fn attach(
    program: &mut SchedClassifier,
    name: &'static str,
    hook: &Hook,
    device: &str,
    mode: Mode,
    pin: &Path,
) -> Result<(), DatapathError> {
    let refuse = |source: ProgramError| refused(name, source);
    match mode {
        Mode::Tcx => attach_tcx(program, hook, device, pin, refuse),
        Mode::Clsact => attach_clsact(program, hook, device, refuse),
    }
}

/// Removes our filters from a device; tcx links go with their pins.
pub fn detach_clsact(name: &str) {
    for hook in &HOOKS {
        for program in [hook.ethernet, hook.ip] {
            let _ = qdisc_detach_program(name, hook.place, program);
        }
    }
}

fn attach_tcx(
    program: &mut SchedClassifier,
    hook: &Hook,
    device: &str,
    pin: &Path,
    refuse: impl Fn(ProgramError) -> DatapathError,
) -> Result<(), DatapathError> {
    if let Some(link) = find_pinned(pin).map_err(|error| unpinnable(pin, error))? {
        match program.attach_to_link(link) {
            Ok(id) => {
                // The pin holds the link; our handle on it may go.
                drop(program.take_link(id));
                return Ok(());
            }
            // The link of a device that is gone, whose number was given away again.
            Err(error) if is_dead(&error) => {
                tracing::debug!(device, "the pinned link is dead: {error}");
                let _ = fs::remove_file(pin);
            }
            Err(error) => return Err(refuse(error)),
        }
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(device, hook.place, order)
        .map_err(&refuse)?;
    let link = program.take_link(id).map_err(&refuse)?;
    let link: FdLink = link
        .try_into()
        .map_err(|error: LinkError| unpinnable(pin, error))?;
    link.pin(pin)
        .map(drop)
        .map_err(|error| unpinnable(pin, error))
}

/// The pinned link of that path, if there is one.
pub(super) fn find_pinned<L: TryFrom<FdLink, Error = LinkError>>(
    pin: &Path,
) -> Result<Option<L>, LinkError> {
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
    refuse: impl Fn(ProgramError) -> DatapathError,
) -> Result<(), DatapathError> {
    let failed = |error| refuse(TcError::IoError(error).into());
    let priority = filters::priority(device, hook.place, &[hook.ethernet, hook.ip]);
    let options = NlOptions {
        priority: priority.map_err(failed)?,
        handle: HANDLE,
        classid: None,
    };
    let before = SchedClassifierLink::attached(device, hook.place, options.priority, HANDLE, None)
        .map_err(failed)?;
    let id = match program.attach_to_link(before) {
        Ok(id) => id,
        Err(_) => program
            .attach_with_options(device, hook.place, TcAttachOptions::Netlink(options))
            .map_err(&refuse)?,
    };
    // The filter outlives the agent: its link must not detach it when it is dropped.
    std::mem::forget(program.take_link(id).map_err(&refuse)?);
    Ok(())
}

fn already_exists(error: &(dyn Error + 'static)) -> bool {
    matches!(
        error.downcast_ref::<TcError>(),
        Some(TcError::AlreadyAttached)
    ) || find_errno(error) == Some(nix::libc::EEXIST)
}
