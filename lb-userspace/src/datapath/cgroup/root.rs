//! Where the root of the cgroups is: the one place from which programs see every process of the node.
//!
//! There may be more than one file system of the kind: beside the old hierarchies it is often at
//! `/sys/fs/cgroup/unified`; and a container has its own part of it at `/sys/fs/cgroup`, from where it sees
//! itself alone, unless the host's is mounted as well.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

/// Inode of the root of all cgroups (kernfs numbers from 1).
const TOP: u64 = 1;

/// A directory of cgroups, open.
#[derive(Debug)]
pub(super) struct CgroupRoot {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Its inode: the number of its cgroup.
    pub(super) number: u64,
}

impl CgroupRoot {
    /// The directory that was asked for, or what is mounted below it; else the best that is mounted anywhere.
    ///
    /// # Errors
    /// The directory's; without one, that there is none.
    pub(super) fn find(asked: Option<&Path>) -> io::Result<Self> {
        if let Some(root) = asked.map(Self::open).transpose()?
            && root.is_of_cgroups()?
        {
            return Ok(root);
        }
        let asked = asked.unwrap_or(Path::new("/"));
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mut found = None;
        for path in mount_points(&mounts).filter(|path| path.starts_with(asked)) {
            match Self::open(&path) {
                Ok(root) if root.is_top() => return Ok(root),
                Ok(root) => found = found.or(Some(root)),
                Err(error) => tracing::debug!("{}: {error}", path.display()),
            }
        }
        found.ok_or_else(|| {
            io::Error::other(format!(
                "no cgroup v2 file system is mounted below {}; `mount -t cgroup2 none DIR` one and name it by --cgroup-root",
                asked.display()
            ))
        })
    }

    fn open(path: &Path) -> io::Result<Self> {
        let at =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::open(path).map_err(at)?;
        let number = file.metadata().map_err(at)?.ino();
        Ok(Self {
            path: path.to_owned(),
            file,
            number,
        })
    }

    fn is_of_cgroups(&self) -> io::Result<bool> {
        let stat = fstatfs(self.file.as_fd())?;
        Ok(stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
    }

    /// Whether it is the root of all cgroups, and not only of those that a container sees.
    pub(super) fn is_top(&self) -> bool {
        self.number == TOP
    }
}

/// The mount points of cgroup v2 in a table of mounts.
fn mount_points(mounts: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(unescaped(path)))
    })
}

/// Blanks are written as octal numbers there.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_those_of_version_2_wherever_they_are() {
        let mounts = "\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
none /run/my\\040cgroups cgroup2 rw 0 0
";
        let found: Vec<_> = mount_points(mounts).collect();
        let expected = ["/sys/fs/cgroup/unified", "/run/my cgroups"].map(PathBuf::from);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_root_that_was_asked_for_and_is_not_there_is_named() {
        let error = CgroupRoot::find(Some(Path::new("/no/such/dir"))).unwrap_err();
        assert!(error.to_string().contains("/no/such/dir"), "{error}");
    }

    #[test]
    fn what_is_no_cgroup_and_has_none_below_it_is_none() {
        let error = CgroupRoot::find(Some(Path::new("/proc/self"))).unwrap_err();
        assert!(error.to_string().contains("below /proc/self"), "{error}");
    }
}
