//! A child process that one thread waits for and others signal.

use std::{
    process::{Child, ExitStatus},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

/// A child that another thread waits for.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    status: Mutex<Option<ExitStatus>>,
    pub(super) ended: Condvar,
}

impl Process {
    pub(super) fn of(child: &Child) -> Self {
        let pid = i32::try_from(child.id()).expect("process ids are positive and below 2^22");
        Self {
            pid: Pid::from_raw(pid),
            status: Mutex::new(None),
            ended: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits without reaping, so that the process id stays its own until the lock is held.
    pub(super) fn wait(&self, mut child: Child) {
        while waitid(
            Id::Pid(self.pid),
            WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT,
        )
        .is_err()
        {}
        let mut status = self.lock();
        *status = child.wait().ok();
        drop(status);
        self.ended.notify_all();
    }

    pub(super) fn signal(&self, signal: Signal) {
        let status = self.lock();
        if status.is_none() {
            let _ = kill(self.pid, signal); // a zombie takes it as well
        }
    }
}
