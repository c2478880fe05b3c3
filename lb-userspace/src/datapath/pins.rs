//! Where everything stands in bpffs, and whose it is.
//!
//! ```text
//!   <bpffs>/v1/            the schema version: maps of another one are never touched
//!     maps/FRONTENDS_V4 …  by the names they have in the object
//!     links/12-ingress …   by ifindex (bpffs takes no dots, which device names may have)
//!     links/cgroup-connect4 …  by the program
//! ```

use std::{
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use lb_common::tables::SCHEMA_VERSION;
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, fstatfs},
};

use super::DatapathError;

/// Where duolb pins unless told otherwise.
pub const DEFAULT_DIR: &str = "/sys/fs/bpf/duolb";

/// A pin directory of this schema version.
#[derive(Clone, Debug)]
pub struct Pins {
    top: PathBuf,
}

/// While it lives, no other agent uses the directory.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<fs::File>,
}

impl Pins {
    /// The pins below `top`, whether or not they exist.
    pub fn new(top: impl Into<PathBuf>) -> Self {
        Self { top: top.into() }
    }

    /// The directory of this schema version.
    pub fn dir(&self) -> PathBuf {
        self.top.join(format!("v{SCHEMA_VERSION}"))
    }

    /// Where the map of that name is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.dir().join("maps").join(name)
    }

    /// Where links are pinned.
    pub fn links(&self) -> PathBuf {
        self.dir().join("links")
    }

    /// Whether a datapath is pinned here.
    pub fn exist(&self) -> bool {
        self.map("AGENT").exists()
    }

    /// Makes the directories, mounting bpffs if there is none.
    ///
    /// # Errors
    /// [`DatapathError::Mount`] or [`DatapathError::Pin`].
    pub fn ensure(&self) -> Result<(), DatapathError> {
        ensure_bpffs(&self.top)?;
        for dir in [self.dir().join("maps"), self.links()] {
            fs::create_dir_all(&dir).map_err(|source| DatapathError::Pin { path: dir, source })?;
        }
        Ok(())
    }

    /// Takes the directory for this process.
    ///
    /// # Errors
    /// [`DatapathError::Locked`] if another process has it.
    pub fn lock(&self) -> Result<Lock, DatapathError> {
        let path = self.dir();
        let file = fs::File::open(&path).map_err(|source| DatapathError::Pin {
            path: path.clone(),
            source,
        })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Lock { _file: file }),
            Err(_) => Err(DatapathError::Locked { path, pid: None }),
        }
    }

    /// Whether an agent is running on this directory.
    pub fn is_locked(&self) -> bool {
        matches!(self.lock(), Err(DatapathError::Locked { .. }))
    }

    /// Removes every pin and the directories, and the mount point's contents of ours only.
    ///
    /// # Errors
    /// [`DatapathError::Pin`].
    pub fn remove(&self) -> Result<(), DatapathError> {
        match fs::remove_dir_all(&self.top) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(DatapathError::Pin {
                path: self.top.clone(),
                source,
            }),
            _ => Ok(()),
        }
    }
}

/// The nearest ancestor of `dir` that exists must be on bpffs; else mounts one at /sys/fs/bpf if that is
/// where `dir` is.
fn ensure_bpffs(dir: &Path) -> Result<(), DatapathError> {
    let existing = dir
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    let is_bpffs = fs::File::open(existing)
        .ok()
        .and_then(|dir| fstatfs(dir.as_fd()).ok())
        .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
    if is_bpffs {
        return Ok(());
    }
    let standard = Path::new("/sys/fs/bpf");
    let path = if dir.starts_with(standard) {
        standard
    } else {
        existing
    };
    let mounted = if dir.starts_with(standard) {
        mount(
            Some("bpf"),
            path,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .map_err(Into::into)
    } else {
        Err(io::Error::other("not below a mounted bpffs"))
    };
    mounted.map_err(|source| DatapathError::Mount {
        path: path.to_owned(),
        source,
    })
}
