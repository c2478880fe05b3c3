//! Serves the node's own processes: puts the programs for their sockets on the root of the cgroups.
//!
//! Links, pinned as `links/cgroup-<program>`, outlive the agent as those of devices do; a new agent exchanges the
//! program within the link. A kernel or a container that does not let us leaves these processes without service
//! and nobody else.

mod root;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSockAddr, links::FdLink},
};

use self::root::CgroupRoot;
use super::{DatapathError, link::OpenLink, object, pins::Pins};

/// The programs, those that tell a process whom it talks to before those that change it: what is done by halves
/// never shows an endpoint where a VIP is expected.
pub const PROGRAMS: &[&str] = &[
    "getpeername4",
    "getpeername6",
    "recvmsg4",
    "recvmsg6",
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
];

/// Has the node's processes served from the cgroup at `asked`, or from the root of all; gives that directory.
///
/// # Errors
/// [`DatapathError`]: there is none, or the kernel's refusal.
pub fn attach(
    ebpf: &mut Ebpf,
    pins: &Pins,
    asked: Option<&Path>,
) -> Result<PathBuf, DatapathError> {
    let root = CgroupRoot::find(asked).map_err(DatapathError::Cgroup)?;
    // All or none: by one alone, a process would be told of endpoints that it has never heard of.
    for name in PROGRAMS {
        let program = object::find::<CgroupSockAddr>(ebpf, name)?;
        if program.fd().is_err() {
            object::try_to_load(|| program.load())
                .map_err(|source| object::failed(name, source))?;
        }
    }
    for name in PROGRAMS {
        ensure_link(object::find(ebpf, name)?, name, &pin(pins, name), &root)?;
    }
    if !root.is_top() {
        tracing::warn!(
            cgroup = %root.path.display(),
            "this is not the root of all cgroups: the node's processes outside of it are not served; mount the \
             host's, and name it by --cgroup-root"
        );
    }
    Ok(root.path)
}

/// Whether the node's processes are served.
pub fn is_attached(pins: &Pins) -> bool {
    PROGRAMS.iter().all(|name| pin(pins, name).exists())
}

fn pin(pins: &Pins, name: &str) -> PathBuf {
    pins.links().join(format!("cgroup-{name}"))
}

/// Puts the program into the pinned link if that is on the same cgroup, else makes a link and pins it in the other
/// one's stead.
fn ensure_link(
    program: &mut CgroupSockAddr,
    name: &'static str,
    pin: &Path,
    root: &CgroupRoot,
) -> Result<(), DatapathError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| DatapathError::Pin { path, source }
    };
    let refused = |source| object::failed(name, source);
    // Of a link whose cgroup is gone the kernel says 0.
    if let Some(link) = OpenLink::open(pin).map_err(at(pin))?
        && link.cgroup().map_err(at(pin))? == root.number
    {
        let fd = program.fd().map_err(refused)?;
        return link.update(std::os::fd::AsFd::as_fd(fd)).map_err(at(pin));
    }
    let id = program
        .attach(&root.file, CgroupAttachMode::Single)
        .map_err(refused)?;
    let link = program.take_link(id).map_err(refused)?;
    let fresh = pin.with_file_name(format!("cgroup-{name}-new"));
    // Left by an agent that was killed just here.
    let _ = fs::remove_file(&fresh);
    FdLink::try_from(link)
        .map_err(io::Error::other)
        .and_then(|link| link.pin(&fresh).map_err(io::Error::other))
        .map_err(at(&fresh))?;
    fs::rename(&fresh, pin).map_err(at(pin))
}
