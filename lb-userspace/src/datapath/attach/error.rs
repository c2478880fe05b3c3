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
    DatapathError::Pin {
        path: pin.to_owned(),
        source: io::Error::other(error),
    }
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
