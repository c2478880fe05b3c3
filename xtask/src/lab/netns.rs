//! One network namespace: made by name, entered by threads, removed when dropped.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MntFlags, umount2},
    sched::{CloneFlags, setns},
};

use super::ip;

/// Where `ip netns` keeps its names.
pub(super) const DIR: &str = "/run/netns";

/// A network namespace of ours.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: Arc<File>,
}

impl Netns {
    /// Makes namespaces, all at once because starting `ip` is what takes the time.
    pub(super) fn create(names: &[String]) -> Result<Vec<Self>> {
        let lines: Vec<String> = names
            .iter()
            .map(|name| format!("netns add {name}"))
            .collect();
        let made = ip::batch(None, &lines);
        // Whatever was made is owned before the error is looked at.
        let opened = names.iter().map(|name| {
            let file = File::open(path(name)).with_context(|| format!("namespace {name}"))?;
            Ok(Self {
                name: name.clone(),
                file: Arc::new(file),
            })
        });
        let opened: Vec<Result<Self>> = opened.collect();
        made?;
        opened.into_iter().collect()
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What enters the namespace from another thread.
    pub(super) fn door(&self) -> Door {
        Door(Arc::clone(&self.file))
    }

    /// Runs `work` on a new thread inside and returns what it returns; a panic of it goes on here.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let door = self.door();
        thread::scope(|scope| {
            let inside = scope.spawn(move || door.enter().map(|()| work()));
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .with_context(|| format!("namespace {}", self.name))
    }

    /// Sets sysctls: paths below /proc/sys with slashes, and values.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| {
            settings.iter().try_for_each(|(name, value)| {
                fs::write(format!("/proc/sys/{name}"), value)
                    .with_context(|| format!("sysctl {name}={value}"))
            })
        })?
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// The right to enter a namespace, for threads that outlive the borrow.
#[derive(Clone, Debug)]
pub(super) struct Door(Arc<File>);

impl Door {
    /// Moves the calling thread, and what it spawns from now on, into the namespace.
    pub(super) fn enter(&self) -> Result<()> {
        setns(&*self.0, CloneFlags::CLONE_NEWNET).context("setns")
    }
}

fn path(name: &str) -> PathBuf {
    [DIR, name].iter().collect()
}

/// Takes the name away; the kernel removes the rest once the last socket in it is closed.
pub(super) fn remove(name: &str) {
    let path = path(name);
    let _ = umount2(&path, MntFlags::MNT_DETACH); // gone already, or never mounted
    let _ = fs::remove_file(&path);
}
