//! Where everything stands in bpffs, and whose it is.
//!
//! ```text
//!   <bpffs>/
//!     links/12-ingress …       by ifindex (bpffs takes no dots, which device names may have): of no version, so that
//!     links/cgroup-connect4 …  any agent exchanges the programs within them
//!     v4/                      the schema version
//!       maps/FRONTENDS_V4 …    by the names they have in the object
//!       next, former           while maps are being exchanged, see `generations`
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

use super::{DatapathError, generations::versions};

/// Where duolb pins unless told otherwise.
pub const DEFAULT_DIR: &str = "/sys/fs/bpf/duolb";

/// A pin directory of this schema version.
#[derive(Clone, Debug)]
pub struct Pins {
    top: PathBuf,
}

/// While it lives, no other agent uses the directory, of whatever version.
#[derive(Debug)]
pub struct Lock {
    _files: Vec<Flock<fs::File>>,
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

    /// The directory of all versions.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Where this version's maps are pinned that are in force.
    pub fn maps(&self) -> PathBuf {
        self.dir().join("maps")
    }

    /// Where maps are pinned that are being filled.
    pub(super) fn next(&self) -> PathBuf {
        self.dir().join("next")
    }

    /// Where the map of that name is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where links are pinned.
    pub fn links(&self) -> PathBuf {
        self.top.join("links")
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
        for dir in [self.maps(), self.links()] {
            fs::create_dir_all(&dir).map_err(|source| DatapathError::Pin { path: dir, source })?;
        }
        Ok(())
    }

    /// Takes the directory for this process, and that of each version, which is all that agents before schema 5 take.
    ///
    /// # Errors
    /// [`DatapathError::Locked`] if another process has it.
    pub fn lock(&self) -> Result<Lock, DatapathError> {
        let mut dirs = vec![self.top.clone()];
        dirs.extend(versions(&self.top)?.into_iter().map(|(_, dir)| dir));
        let locks = dirs.into_iter().map(lock);
        Ok(Lock {
            _files: locks.collect::<Result<_, _>>()?,
        })
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

fn lock(path: PathBuf) -> Result<Flock<fs::File>, DatapathError> {
    let file = fs::File::open(&path).map_err(|source| DatapathError::Pin {
        path: path.clone(),
        source,
    })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| DatapathError::Locked { path, pid: None })
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
