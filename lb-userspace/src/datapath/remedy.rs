//! What to do about the kernel's refusals, as the messages say it: who holds the lock, what is wrong with a pin.

use std::{fmt, io};

use jiff::Timestamp;

use super::{pins::Pins, view::View};

/// The agent that has a pin directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// When it started, in seconds since 1970.
    pub started_at: u64,
}

impl Holder {
    /// Who has said so in these pins; `None` if nobody has, yet.
    pub(super) fn of(pins: &Pins) -> Option<Self> {
        let state = View::open(pins.clone()).ok()?.agent().ok()?;
        Some(Self {
            pid: state.pid,
            started_at: state.started_at,
        })
        .filter(|holder| holder.pid != 0)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        let started = i64::try_from(self.started_at).map(Timestamp::from_second);
        match started {
            Ok(Ok(at)) => write!(f, ", since {at}"),
            _ => Ok(()),
        }
    }
}

/// The holder in brackets.
pub(super) fn told(holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!(" ({holder})"),
        None => " (it is only starting, or a clean-up is under way)".to_owned(),
    }
}

/// What to do about a file or directory of bpffs that cannot be made, opened or pinned.
pub(super) fn of_pin(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            " (bpffs is mounted read-only: `mount -o remount,rw` it, or have the container mount it writable)"
        }
        io::ErrorKind::PermissionDenied => {
            " (run as root with CAP_BPF, or name another directory by --bpffs)"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            " (something else is there: remove it, or name another directory by --bpffs)"
        }
        io::ErrorKind::OutOfMemory | io::ErrorKind::StorageFull => {
            " (the kernel is out of memory: raise the limit of the agent's cgroup, or set smaller --max-...)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::DatapathError;

    #[test]
    fn who_holds_the_lock_is_told_with_pid_and_time() {
        let locked = |holder| DatapathError::Locked {
            path: "/sys/fs/bpf/duolb/v1".into(),
            holder,
        };
        let holder = Holder {
            pid: 7,
            started_at: 1_000_000_000,
        };
        assert_eq!(
            locked(Some(holder)).to_string(),
            "/sys/fs/bpf/duolb/v1 belongs to another duolb agent that is running (pid 7, since 2001-09-09T01:46:40Z); \
             stop it first, or name another --bpffs"
        );
        assert!(locked(None).to_string().contains("only starting"));
    }

    #[test]
    fn each_refusal_of_a_pin_has_its_remedy() {
        for (errno, word) in [
            (nix::libc::EROFS, "remount,rw"),
            (nix::libc::EACCES, "CAP_BPF"),
            (nix::libc::EPERM, "CAP_BPF"),
            (nix::libc::EEXIST, "remove it"),
            (nix::libc::ENOTDIR, "remove it"),
            (nix::libc::ENOMEM, "out of memory"),
        ] {
            let error = DatapathError::Pin {
                path: "/sys/fs/bpf/duolb".into(),
                source: io::Error::from_raw_os_error(errno),
            };
            let text = error.to_string();
            assert!(
                text.starts_with("/sys/fs/bpf/duolb: ") && text.contains(word),
                "{text}"
            );
        }
    }
}
