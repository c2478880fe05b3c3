//! Follows the directory: the only part of this source that waits, reads the disk and logs problems.
//!
//! The kernel announces changes (inotify); a look at all modification times twice a second catches what
//! it does not: files behind links, network file systems, a directory that was replaced. Either way the
//! files are read once they have been left alone for a moment, so that one that is being written is not
//! taken over half.

use std::{io, path::PathBuf, time::Duration};

use tokio::{
    sync::{Notify, mpsc, watch},
    task::{JoinError, spawn_blocking},
    time::{Instant, timeout, timeout_at},
};

use super::{
    bell::Bell,
    cidrs::ServiceCidrs,
    directory::Directory,
    resolve::Assigned,
    state::{Manifests, Update},
};
use crate::source::Event;
use crate::source::objects::problem::{Fault, Problem};

/// How often modification times are looked at.
const POLL: Duration = Duration::from_millis(500);
/// How long files must be left alone before they are read.
const QUIET: Duration = Duration::from_millis(75);
/// How long a directory that is never left alone is waited for.
const PATIENCE: Duration = Duration::from_millis(400);

/// What the source has to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of manifests (`--manifests`).
    pub directory: PathBuf,
    /// Name of the node the agent runs on: of the Nodes, only that one counts (rule 4).
    pub node: String,
    /// The Service ranges (`--service-cluster-ip-range`).
    pub service_cidrs: ServiceCidrs,
}

/// Why the source cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be listed at the start.
    #[error("manifests directory {}: {source}", directory.display())]
    Directory {
        /// As it was given.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Reading panicked: a bug.
    #[error("reading the manifests failed: {0}")]
    Panicked(#[from] JoinError),
}

/// Sends all that the directory says to `events`, then every change, until the receiver is gone or the
/// future is dropped. What is wrong is logged when it appears, and all of it is kept in `problems`.
///
/// # Errors
/// [`Error::Directory`] if the directory cannot be listed at the start; later that is only logged, and
/// what was said last stays in force.
pub async fn run(
    options: Options,
    restored: Vec<Assigned>,
    events: mpsc::Sender<Event>,
    problems: watch::Sender<Vec<Problem>>,
) -> Result<(), Error> {
    let Options {
        directory: path,
        node,
        service_cidrs,
    } = options;
    let mut files = Files {
        directory: Directory::new(&path),
        manifests: Manifests::new(&path, &node, service_cidrs, restored),
        bell: Bell::new(&path),
    };
    let rings = files.bell.rings();
    let mut known = Vec::new();
    let mut first = true;
    loop {
        let (back, outcome) = spawn_blocking(move || files.read(first)).await?;
        files = back;
        match outcome {
            Ok(Some(update)) => {
                report(&problems, &update.problems);
                known = update.problems;
                for event in update.events {
                    if events.send(event).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(None) => report(&problems, &known),
            Err(source) if first => {
                return Err(Error::Directory {
                    directory: path,
                    source,
                });
            }
            Err(error) => {
                let gone = Problem::of_file(
                    path.display().to_string(),
                    Fault::Unreadable(error.to_string()),
                );
                report(&problems, &[&known[..], &[gone]].concat());
            }
        }
        first = false;
        files = tokio::select! {
            () = events.closed() => return Ok(()),
            files = wait(files, &rings) => files?,
        };
    }
}

/// Waits until files have changed, or may have, and are left alone again.
async fn wait(mut files: Files, rings: &Notify) -> Result<Files, Error> {
    while timeout(POLL, rings.notified()).await.is_err() {
        let (back, changed) = spawn_blocking(move || files.look()).await?;
        files = back;
        if changed {
            break;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline
        && timeout_at(deadline.min(Instant::now() + QUIET), rings.notified())
            .await
            .is_ok()
    {}
    Ok(files)
}

/// Publishes what is wrong now and logs what was not wrong before.
fn report(problems: &watch::Sender<Vec<Problem>>, now: &[Problem]) {
    problems.send_if_modified(|before| {
        for problem in now.iter().filter(|problem| !before.contains(problem)) {
            tracing::warn!("{problem}");
        }
        let modified = before != now;
        if modified {
            *before = now.to_vec();
        }
        modified
    });
}

/// What goes along to the threads that may block.
struct Files {
    directory: Directory,
    manifests: Manifests,
    bell: Bell,
}

impl Files {
    /// Reads what has changed. `None` if nothing has, unless this is the `first` time.
    fn read(mut self, first: bool) -> (Self, io::Result<Option<Update>>) {
        // Watched before it is read, so that no change falls between the two.
        self.bell.follow();
        let changes = self.directory.read_changes();
        let update = changes
            .map(|changes| (first || !changes.is_empty()).then(|| self.manifests.update(changes)));
        (self, update)
    }

    /// Whether there is something to read, or to complain of.
    fn look(self) -> (Self, bool) {
        let changed = self.directory.has_changed().unwrap_or(true);
        (self, changed)
    }
}
