//! A pinned link: whose cgroup's it is, another program for it, and its end: calls of `bpf(2)` that aya does not have,
//! or not for links of cgroups.
//!
//! Within a link, the kernel exchanges the program at once (since Linux 5.7, commit 0c991ebc8c69 "bpf: Implement
//! bpf_prog replacement for an active bpf_cgroup_link"): no call of a process meets none of them, or both.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::libc;

/// `bpf_cmd` of linux/bpf.h.
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// Where `cgroup.cgroup_id` stands in `struct bpf_link_info`, in words of 64 bits.
const CGROUP_ID: usize = 2;

/// The parts of `union bpf_attr` that the commands use.
#[repr(C)]
struct Get {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct Info {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

#[repr(C)]
struct Update {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
struct Detach {
    link_fd: u32,
}

const _: () = assert!(size_of::<Get>() == 16 && size_of::<Info>() == 16);
const _: () = assert!(size_of::<Update>() == 16);

/// A link, open.
pub(in crate::datapath) struct OpenLink(OwnedFd);

impl OpenLink {
    /// Opens what is pinned at `pin`; `None` if nothing is.
    ///
    /// # Errors
    /// The kernel's.
    pub(in crate::datapath) fn open(pin: &Path) -> io::Result<Option<Self>> {
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let mut attr = Get {
            pathname: path.as_ptr() as u64,
            bpf_fd: 0,
            file_flags: 0,
        };
        // SAFETY: the path is a string that ends with a zero byte and lives through the call, which only reads it.
        match unsafe { bpf(BPF_OBJ_GET, &mut attr) } {
            // SAFETY: the kernel has just opened this descriptor for us.
            Ok(fd) => Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(fd) }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Number of the cgroup that it is attached to: the inode of its directory. 0 if that is gone.
    ///
    /// # Errors
    /// The kernel's.
    pub(in crate::datapath) fn cgroup(&self) -> io::Result<u64> {
        // More than any kernel's, so that it is filled in whole; the kernel wants what it does not know to be zero.
        let mut info = [0_u64; 32];
        let mut attr = Info {
            bpf_fd: number(self.0.as_raw_fd())?,
            info_len: u32::try_from(size_of_val(&info)).map_err(io::Error::other)?,
            info: info.as_mut_ptr() as u64,
        };
        // SAFETY: `info` is as long as `info_len` says, may hold any bytes, and lives through the call.
        unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) }?;
        Ok(info[CGROUP_ID])
    }

    /// Puts another program in place of the one it has.
    ///
    /// # Errors
    /// The kernel's: the cgroup is gone, or the program is of another kind.
    pub(in crate::datapath) fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut attr = Update {
            link_fd: number(self.0.as_raw_fd())?,
            new_prog_fd: number(program.as_raw_fd())?,
            flags: 0,
            old_prog_fd: 0,
        };
        // SAFETY: the command takes descriptors and no pointers; both are open.
        unsafe { bpf(BPF_LINK_UPDATE, &mut attr) }.map(drop)
    }

    /// Takes it off what it is attached to, at once; without its pin alone it stays until the kernel gets round to it.
    ///
    /// # Errors
    /// The kernel's.
    pub(in crate::datapath) fn detach(&self) -> io::Result<()> {
        let mut attr = Detach {
            link_fd: number(self.0.as_raw_fd())?,
        };
        // SAFETY: the command takes a descriptor and no pointer; it is open.
        unsafe { bpf(BPF_LINK_DETACH, &mut attr) }.map(drop)
    }
}

fn number(fd: RawFd) -> io::Result<u32> {
    u32::try_from(fd).map_err(io::Error::other)
}

/// The system call; gives what it returns.
///
/// # Safety
/// `T` is laid out as the part of `union bpf_attr` that the command reads, and what it points to is valid for the
/// call.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: the attribute is as long as it is said to be and lives through the call; the caller vouches for what
    // it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        RawFd::try_from(result).map_err(io::Error::other)
    }
}
