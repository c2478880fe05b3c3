//! bpf(2) as the lab needs it: without a library, because it is two instructions and three questions.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
};

use nix::libc;

/// A kind of object in the kernel that has ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KernelObject {
    /// A map.
    Map,
    /// A program.
    Program,
    /// A link.
    Link,
}

/// The beginning of `union bpf_attr` for `BPF_*_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

impl KernelObject {
    /// Whether there is one with this id. The kernel gives ids in a circle, so that one is not soon used again.
    pub fn exists(self, id: u32) -> bool {
        let command = match self {
            Self::Program => 13,
            Self::Map => 14,
            Self::Link => 30,
        };
        let by_id = ById {
            id,
            next_id: 0,
            open_flags: 0,
        };
        call(command, &by_id).is_ok()
    }
}

/// A command of bpf(2) that answers with a file.
pub(super) fn call<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    let file = ask(command, attributes)?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// A command of bpf(2) that answers with a number, or by what `attributes` point to.
pub(super) fn ask<T>(command: libc::c_int, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: `attributes` is a prefix of the kernel's union for this command, readable for as many bytes as are
    // said; the addresses in it are of constants, or of memory of the caller's as long as he says.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(answer).map_err(io::Error::other)
}
