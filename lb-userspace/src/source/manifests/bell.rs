//! Rings when the kernel says that something in a directory has changed.
//!
//! A watch belongs to an inode: when another directory takes the path (a rename, a link that is turned),
//! it has to be set anew, or the bell stays silent for ever. Where no watch can be had (the limit of
//! inotify watches is reached), the poll in `watch` does alone.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

/// Device, inode and birthday of a directory.
type Identity = (u64, u64, Option<SystemTime>);

/// A directory being watched.
#[derive(Debug)]
pub(super) struct Bell {
    path: PathBuf,
    rings: Arc<Notify>,
    /// The watcher, and which directory it watches.
    watching: Option<(RecommendedWatcher, Identity)>,
    /// Whether it was said that watching does not work.
    complained: bool,
}

impl Bell {
    /// A bell for the directory `path`, which is not watched before [`follow`](Self::follow).
    pub(super) fn new(path: &Path) -> Self {
        let rings = Arc::new(Notify::new());
        Self {
            path: path.to_owned(),
            rings,
            watching: None,
            complained: false,
        }
    }

    /// Notified of every change.
    pub(super) fn rings(&self) -> Arc<Notify> {
        self.rings.clone()
    }

    /// Watches the directory that is at the path now.
    pub(super) fn follow(&mut self) {
        let Ok(metadata) = fs::metadata(&self.path) else {
            self.watching = None;
            return;
        };
        // A new directory may get the inode of one that was removed, but not its birthday.
        let identity = (metadata.dev(), metadata.ino(), metadata.created().ok());
        if self
            .watching
            .as_ref()
            .is_some_and(|(_, watched)| *watched == identity)
        {
            return;
        }
        match self.watch() {
            Ok(watcher) => self.watching = Some((watcher, identity)),
            Err(error) => {
                self.watching = None;
                if !self.complained {
                    let path = self.path.display();
                    tracing::warn!(
                        "manifests directory {path}: cannot be watched, only polled: {error}"
                    );
                }
                self.complained = true;
            }
        }
    }

    fn watch(&self) -> notify::Result<RecommendedWatcher> {
        let rings = self.rings.clone();
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Reading the files is no change of them.
                let reading = |kind: EventKind| {
                    kind.is_access()
                        && kind != EventKind::Access(AccessKind::Close(AccessMode::Write))
                };
                if !event.is_ok_and(|event| reading(event.kind)) {
                    rings.notify_one();
                }
            })?;
        watcher.watch(&self.path, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Whether it rings soon, once what rang before is forgotten.
    async fn rings(bell: &Bell, change: impl FnOnce()) -> bool {
        let rung = || async {
            timeout(Duration::from_millis(250), bell.rings.notified())
                .await
                .is_ok()
        };
        while rung().await {}
        change();
        rung().await
    }

    #[tokio::test]
    async fn it_rings_for_changes_and_not_for_reading() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        let mut bell = Bell::new(dir.path());
        bell.follow();
        assert!(rings(&bell, || fs::write(&file, "a").unwrap()).await);
        assert!(!rings(&bell, || drop(fs::read(&file).unwrap())).await);
        assert!(rings(&bell, || fs::remove_file(&file).unwrap()).await);
    }

    #[tokio::test]
    async fn it_follows_the_directory_that_takes_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manifests");
        fs::create_dir(&path).unwrap();
        let mut bell = Bell::new(&path);
        bell.follow();
        fs::rename(&path, dir.path().join("aside")).unwrap();
        fs::create_dir(&path).unwrap();
        bell.follow();
        assert!(rings(&bell, || fs::write(path.join("a.yaml"), "a").unwrap()).await);
        assert!(
            !rings(&bell, || fs::write(dir.path().join("aside/a.yaml"), "a")
                .unwrap())
            .await
        );
    }
}
