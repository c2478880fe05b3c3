//! XDP: one pinned link a device, in the driver or in the stack's stead, or none.
//!
//! What stands in the way is no error: TC serves whatever XDP does not. It is kept in [`Device::attached`], so that
//! `duolb status` can tell.

use std::{fs, path::Path};

use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, LinkError},
    xdp::XdpLink,
};
use lb_common::tables::Device;

use super::{
    error::{find_errno, is_dead, is_gone, refused, unpinnable},
    tc::find_pinned,
};
use crate::datapath::{DatapathError, link::OpenLink, object::XDP_PROGRAM};

/// What of [`Device::attached`] is about XDP.
pub(super) const BITS: u32 =
    Device::XDP_NATIVE | Device::XDP_GENERIC | Device::XDP_REFUSED | Device::XDP_BUSY;

/// The suffix of its pins.
pub(super) const SUFFIX: &str = "xdp";

/// Whether a link that was made with these bits is what trying these modes would lead to.
pub(super) fn is_as_wanted(bits: u32, modes: &[u32]) -> bool {
    let first = modes.first().copied().unwrap_or_default();
    let is_wanted = modes.iter().any(|mode| bits & mode != 0);
    is_wanted && (bits & first != 0 || bits & Device::XDP_REFUSED != 0)
}

/// Replaces the program in the link that is pinned already; whether there was one that lives.
pub(super) fn swap(program: &mut Xdp, device: &str, pin: &Path) -> Result<bool, DatapathError> {
    let found = find_pinned::<XdpLink>(pin).map_err(|error| unpinnable(pin, error))?;
    let Some(link) = found else { return Ok(false) };
    match program.attach_to_link(link) {
        Ok(id) => {
            // The pin holds the link; our handle on it may go.
            drop(program.take_link(id));
            Ok(true)
        }
        Err(error) if is_dead(&error) => {
            tracing::debug!(device, "the pinned link of XDP is dead: {error}");
            Ok(false)
        }
        Err(error) => Err(refused(XDP_PROGRAM, error)),
    }
}

/// Takes the program off a device, at once: the kernel takes no other mode's before it is gone.
pub(super) fn detach(pin: &Path) {
    if let Ok(Some(link)) = OpenLink::open(pin) {
        // What is detached already, with its device, is as good.
        let _ = link.detach();
    }
    let _ = fs::remove_file(pin);
}

/// Tries the modes one after the other; what came of it as bits of [`Device::attached`].
///
/// # Errors
/// If the device is gone, or the link cannot be pinned.
pub(super) fn attach(
    program: &mut Xdp,
    index: u32,
    device: &str,
    pin: &Path,
    modes: &[u32],
) -> Result<u32, DatapathError> {
    let mut bits = 0;
    for &mode in modes {
        let (flag, name) = if mode == Device::XDP_NATIVE {
            (XdpMode::Driver, "native")
        } else {
            (XdpMode::Skb, "generic")
        };
        match program.attach_to_if_index(index, flag) {
            Ok(id) => {
                let link = program
                    .take_link(id)
                    .map_err(|error| refused(XDP_PROGRAM, error))?;
                pin_link(link, pin)?;
                return Ok(bits | mode);
            }
            Err(error) if is_gone(&error) => return Err(refused(XDP_PROGRAM, error)),
            Err(error) if is_busy(&error) => {
                tracing::warn!(device, "another XDP program is there, TC serves: {error}");
                return Ok(bits | Device::XDP_BUSY);
            }
            Err(error) => {
                tracing::info!(device, mode = name, "XDP is refused: {}", chain(&error));
                bits |= Device::XDP_REFUSED;
            }
        }
    }
    Ok(bits)
}

fn pin_link(link: XdpLink, pin: &Path) -> Result<(), DatapathError> {
    let link: FdLink = link
        .try_into()
        .map_err(|error: LinkError| unpinnable(pin, error))?;
    link.pin(pin)
        .map(drop)
        .map_err(|error| unpinnable(pin, error))
}

/// Another program is attached, in this mode or in the other one.
fn is_busy(error: &ProgramError) -> bool {
    matches!(
        find_errno(error),
        Some(nix::libc::EBUSY | nix::libc::EEXIST)
    )
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_if_trying_again_would_lead_to_the_same() {
        const NATIVE: u32 = Device::XDP_NATIVE;
        const GENERIC: u32 = Device::XDP_GENERIC;
        const REFUSED: u32 = Device::XDP_REFUSED;
        for (bits, modes, stays) in [
            (NATIVE, &[NATIVE, GENERIC][..], true),
            (GENERIC | REFUSED, &[NATIVE, GENERIC], true),
            // It was told to be generic, and native was never tried.
            (GENERIC, &[NATIVE, GENERIC], false),
            (GENERIC, &[GENERIC], true),
            (NATIVE, &[GENERIC], false),
            (GENERIC | REFUSED, &[NATIVE], false),
            (NATIVE, &[], false),
            (0, &[NATIVE], false),
        ] {
            assert_eq!(is_as_wanted(bits, modes), stays, "{bits} for {modes:?}");
        }
    }
}
