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
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use lb_common::tables::SCHEMA_VERSION;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{DatapathError, generations::versions, remedy::Holder, tables::forget_agent};

/// Where duolb pins unless told otherwise.
pub const DEFAULT_DIR: &str = "/sys/fs/bpf/duolb";

/// How often the lock is tried to be got, and how long is waited in between: reading commands hold it for less.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(30);

/// A pin directory of this schema version.
#[derive(Clone, Debug)]
pub struct Pins {
    top: PathBuf,
}

/// While it lives, no other agent uses the directory, of whatever version.
#[derive(Debug)]
pub struct Lock {
    _files: Vec<fs::File>,
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

    /// Takes the directory for this process, and forgets what the agent before it said of itself, so that nobody takes
    /// the predecessor's word for this one's: at no moment is the directory taken and the word still there.
    ///
    /// So it takes that of each version, which is all that agents before this one take.
    ///
    /// # Errors
    /// [`DatapathError::Locked`] if another process has it.
    pub fn lock(&self) -> Result<Lock, DatapathError> {
        let mut dirs = vec![self.top.clone()];
        dirs.extend(versions(&self.top)?.into_iter().map(|(_, dir)| dir));
        let files = dirs.into_iter().map(|dir| self.lock_dir(dir));
        Ok(Lock {
            _files: files.collect::<Result<_, _>>()?,
        })
    }

    fn lock_dir(&self, path: PathBuf) -> Result<fs::File, DatapathError> {
        let at = |source| DatapathError::Pin {
            path: path.clone(),
            source,
        };
        for tries in 1.. {
            match self.try_lock(&path) {
                Ok(file) if is_at(&file, &path) => return Ok(file),
                // Whoever had the lock before has removed the directory: what is pinned in it now, nobody finds.
                Ok(_) => {
                    return Err(at(io::Error::other(
                        "removed by a clean-up just now; try again",
                    )));
                }
                // Perhaps somebody only looks whether it is taken.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < LOCK_TRIES => {
                    thread::sleep(LOCK_PAUSE);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(at(error)),
            }
        }
        Err(DatapathError::Locked {
            holder: Holder::of(self),
            path,
        })
    }

    // The locks of std are those of flock(2), and are given back when the file is closed.
    fn try_lock(&self, path: &Path) -> io::Result<fs::File> {
        let file = fs::File::open(path)?;
        file.try_lock_shared()?;
        forget_agent(self);
        file.try_lock()?;
        Ok(file)
    }

    /// Whether an agent is running on this directory.
    pub fn is_locked(&self) -> bool {
        // Shared, so that two who ask do not take each other for an agent.
        let asked = fs::File::open(self.dir()).map(|file| file.try_lock_shared());
        matches!(asked, Ok(Err(fs::TryLockError::WouldBlock)))
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

/// Whether the open file is what the path leads to.
fn is_at(file: &fs::File, path: &Path) -> bool {
    let number = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(file), Ok(path)) => number(file) == number(path),
        _ => false,
    }
}

/// The nearest ancestor of `dir` that exists must be on bpffs; else mounts one at /sys/fs/bpf if that is
/// where `dir` is.
fn ensure_bpffs(dir: &Path) -> Result<(), DatapathError> {
    let existing = dir
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    // Asked by path: what is pinned there is not opened like a file, and a second bpffs mounted over the first one
    // would hide everybody's pins.
    let is_bpffs = statfs(existing).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
    if is_bpffs {
        return Ok(());
    }
    let standard = Path::new("/sys/fs/bpf");
    if !dir.starts_with(standard) {
        return Err(DatapathError::NotBpffs {
            path: dir.to_owned(),
        });
    }
    mount(
        Some("bpf"),
        standard,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .map_err(|error| DatapathError::Mount {
        path: standard.to_owned(),
        source: error.into(),
    })
}
