//! Which programs and maps of a process the kernel still has when they should be gone.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result};
use nix::libc;

use super::dummy_xdp::bpf;

const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_int = 14;

/// The beginning of `union bpf_attr` for both.
#[repr(C)]
struct Id {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Programs and maps that a process has open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelIds(BTreeSet<(&'static str, u32)>);

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
                for name in ["prog_id", "map_id"] {
                    if let Some(id) = line.strip_prefix(name).and_then(|id| id.strip_prefix(':')) {
                        ids.insert((name, id.trim().parse().context(name)?));
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
        let is_left = |(kind, id): &(&'static str, u32)| {
            let command = if *kind == "prog_id" {
                BPF_PROG_GET_FD_BY_ID
            } else {
                BPF_MAP_GET_FD_BY_ID
            };
            let attributes = Id {
                id: *id,
                next_id: 0,
                open_flags: 0,
            };
            bpf(command, &attributes).is_ok()
        };
        Self(self.0.iter().copied().filter(is_left).collect())
    }
}
