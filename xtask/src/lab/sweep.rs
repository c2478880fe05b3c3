//! What labs leave on the host if nobody cleans up: names in /run/netns, pins in bpffs, files.
//!
//! All of them carry the maker's process id, so that the next lab can take away what a killed one left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

use super::netns;

/// Where bpffs is, mounted or not.
const BPFFS: &str = "/sys/fs/bpf";
/// What names of namespaces and of directories for files start with.
const NAMESPACE: &str = "duolb-";
/// What names of pin directories start with.
const PINS: &str = "duolb-lab-";

/// The directory of a lab's pins, removed when dropped.
#[derive(Debug)]
pub(super) struct PinDir(PathBuf);

impl PinDir {
    /// That of lab `number` of process `pid`; made by whoever mounts bpffs.
    pub(super) fn of(pid: u32, number: u32) -> Self {
        Self(Path::new(BPFFS).join(format!("{PINS}{pid}-{number}")))
    }

    /// The directory of one agent.
    pub(super) fn join(&self, node: &str) -> PathBuf {
        self.0.join(node)
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // there is none if no agent ran
    }
}

/// Removes what labs of processes that are no more have left.
pub(super) fn stale() {
    for name in names(Path::new(BPFFS)).filter(|name| is_stale(name, PINS)) {
        let _ = fs::remove_dir_all(Path::new(BPFFS).join(name)); // another lab may be faster
    }
    for name in names(Path::new(netns::DIR)).filter(|name| is_stale(name, NAMESPACE)) {
        netns::remove(&name);
    }
    let files = std::env::temp_dir();
    for name in names(&files).filter(|name| is_stale(name, NAMESPACE)) {
        let _ = fs::remove_dir_all(files.join(name)); // as above
    }
}

fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Whether `name` is `<prefix><pid>-...` of a process that is no more.
fn is_stale(name: &str, prefix: &str) -> bool {
    let pid = name
        .strip_prefix(prefix)
        .and_then(|rest| rest.split('-').next()?.parse().ok());
    pid.is_some_and(|pid| pid > 0 && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_processes_are_stale() {
        // The kernel's limit on process ids is 2^22.
        assert!(is_stale("duolb-99999999-0-fabric", NAMESPACE));
        assert!(!is_stale(
            &format!("duolb-{}-0-fabric", std::process::id()),
            NAMESPACE
        ));
        assert!(!is_stale("duolb-lab-99999999-0", NAMESPACE));
        assert!(is_stale("duolb-lab-99999999-0", PINS));
        for other in [
            "cni-99999999-0",
            "duolb-",
            "duolb-x-1",
            "duolb-0-1",
            "duolb--5-1",
        ] {
            assert!(!is_stale(other, NAMESPACE), "{other}");
        }
    }
}
