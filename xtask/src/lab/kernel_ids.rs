//! Which programs and maps of a process the kernel still has when they should be gone.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result};

use super::bpf::KernelObject;
/// Programs and maps that a process has open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelIds(BTreeSet<(KernelObject, u32)>);

impl KernelIds {
    /// Those of a process.
    ///
    /// # Errors
    /// If it is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let mut ids = BTreeSet::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("no such process")? {
            // One that is closed meanwhile is no matter.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            for line in text.lines() {
                for (name, kind) in [
                    ("prog_id", KernelObject::Program),
                    ("map_id", KernelObject::Map),
                ] {
                    if let Some(id) = line.strip_prefix(name).and_then(|id| id.strip_prefix(':')) {
                        ids.insert((kind, id.trim().parse().context(name)?));
                    }
                }
            }
        }
        Ok(Self(ids))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Those that the kernel still has.
    #[must_use]
    pub fn left(&self) -> Self {
        let is_left = |(kind, id): &(KernelObject, u32)| kind.exists(*id);
        Self(self.0.iter().copied().filter(is_left).collect())
    }
}
