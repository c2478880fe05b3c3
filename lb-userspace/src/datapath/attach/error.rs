//! What the kernel's refusals mean.

use std::{error::Error, io, path::Path};

use aya::programs::ProgramError;

use crate::datapath::DatapathError;

pub(super) fn refused(name: &'static str, source: ProgramError) -> DatapathError {
    DatapathError::Program {
        name,
        source: Box::new(source),
    }
}

pub(super) fn unpinnable(
    pin: &Path,
    error: impl Into<Box<dyn Error + Send + Sync>>,
) -> DatapathError {
    let error: Box<dyn Error + Send + Sync> = error.into();
    let source = match find_errno(error.as_ref()) {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error),
    };
    DatapathError::Pin {
        path: pin.to_owned(),
        source,
    }
}

/// Whether the error says that a link is no longer attached to anything: its device or cgroup is gone. Any other
/// refusal leaves what the link has in force, and its pin has to stay.
pub(super) fn is_dead(error: &(dyn Error + 'static)) -> bool {
    find_errno(error) == Some(nix::libc::ENOLINK)
}

/// Whether the error says that there is no such device.
pub(super) fn is_gone(error: &(dyn Error + 'static)) -> bool {
    matches!(
        find_errno(error),
        Some(nix::libc::ENODEV | nix::libc::ENXIO)
    )
}

/// The number of the kernel's error at the bottom of a chain.
pub(in crate::datapath) fn find_errno(error: &(dyn Error + 'static)) -> Option<i32> {
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
