//! The directory on disk: which files count, and which have changed since the last look.
//!
//! A look costs one `stat` a file; only files whose modification time, size or inode differ are read.
//! Symbolic links are followed, so that a mounted ConfigMap, which swaps a link to a whole directory,
//! shows as a change of every file. Hidden files are skipped: editors' and ConfigMaps' own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::file::Content;

/// Largest file that is read, in bytes: beyond any cluster's manifests.
const SIZE_LIMIT: u64 = 256 << 20;

/// A directory and what its files looked like last.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    seen: BTreeMap<String, Fingerprint>,
}

/// What tells a file from its earlier self without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Directory {
    /// The directory at `path`, nothing of which has been seen.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen: BTreeMap::new(),
        }
    }

    /// Whether any file differs from what it looked like at the last [`read_changes`](Self::read_changes).
    pub(super) fn has_changed(&self) -> io::Result<bool> {
        Ok(self.look()? != self.seen)
    }

    /// The contents of all files that have changed since the last time.
    pub(super) fn read_changes(&mut self) -> io::Result<BTreeMap<String, Content>> {
        let now = self.look()?;
        let names: BTreeSet<&String> = now.keys().chain(self.seen.keys()).collect();
        let changed = names
            .into_iter()
            .filter(|name| now.get(*name) != self.seen.get(*name));
        let mut changes = BTreeMap::new();
        for name in changed {
            changes.insert(
                name.clone(),
                match now.get(name) {
                    Some(print) if print.size > SIZE_LIMIT => {
                        Content::Unreadable(format!("{} bytes are too many", print.size))
                    }
                    Some(_) => read(&self.path.join(name)),
                    None => Content::Gone,
                },
            );
        }
        self.seen = now;
        Ok(changes)
    }

    /// What the files look like now.
    fn look(&self) -> io::Result<BTreeMap<String, Fingerprint>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if !is_manifest(&name) {
                continue;
            }
            // One that vanishes meanwhile, or a link to nothing, is a file that is not there.
            let Ok(metadata) = fs::metadata(entry.path()) else {
                continue;
            };
            if metadata.is_file() {
                files.insert(
                    name,
                    Fingerprint {
                        device: metadata.dev(),
                        inode: metadata.ino(),
                        size: metadata.size(),
                        modified: (metadata.mtime(), metadata.mtime_nsec()),
                        changed: (metadata.ctime(), metadata.ctime_nsec()),
                    },
                );
            }
        }
        Ok(files)
    }
}

/// Whether a file of this name is read.
fn is_manifest(name: &str) -> bool {
    let extension = Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str());
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn read(path: &Path) -> Content {
    match fs::read(path) {
        Ok(bytes) => Content::Bytes(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Content::Gone,
        Err(error) => Content::Unreadable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_manifests_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let mut directory = Directory::new(dir.path());
        let names = |changes: BTreeMap<String, Content>| changes.into_keys().collect::<Vec<_>>();
        for name in [
            "a.yaml", "b.yml", "c.json", "d.txt", ".e.yaml", "f.yaml~", "yaml",
        ] {
            write(name, "");
        }
        fs::create_dir(dir.path().join("g.yaml")).unwrap();
        assert_eq!(
            names(directory.read_changes().unwrap()),
            ["a.yaml", "b.yml", "c.json"]
        );
        assert!(!directory.has_changed().unwrap());

        write("b.yml", "kind: X");
        fs::remove_file(dir.path().join("c.json")).unwrap();
        fs::rename(dir.path().join("d.txt"), dir.path().join("a.yaml")).unwrap();
        assert!(directory.has_changed().unwrap());
        let changes = directory.read_changes().unwrap();
        assert_eq!(changes["b.yml"], Content::Bytes(b"kind: X".to_vec()));
        assert_eq!(changes["c.json"], Content::Gone);
        assert_eq!(names(changes), ["a.yaml", "b.yml", "c.json"]);
    }
}
