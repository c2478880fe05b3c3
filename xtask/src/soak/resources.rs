//! What agents hold over time: memory, files, and objects in the kernel by their ids.
//!
//! Counts of the whole machine would be others' as well, so ids are read from the agents' own files; at the end each
//! of them must be gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    time::Duration,
};

use serde::Serialize;

use crate::lab::KernelObject;

/// Bytes in a page.
const PAGE: u64 = 4096;
/// How much more memory an agent may have at the end than when a quarter of the time was over.
const MORE_MEMORY: u64 = 12 << 20;
/// How many more files.
const MORE_FILES: usize = 8;

/// Objects of bpf(2) by their ids.
type Objects = BTreeSet<(KernelObject, u32)>;

/// One look at one agent.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// Seconds since the beginning.
    pub(super) at: u64,
    /// The process.
    pub(super) pid: u32,
    /// Resident memory in bytes.
    pub(super) memory: u64,
    /// Open files.
    pub(super) files: usize,
    /// Of these, objects of bpf(2).
    pub(super) objects: usize,
}

/// All looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Resources {
    nodes: BTreeMap<String, Vec<Sample>>,
    ids: Objects,
}

impl Resources {
    /// Looks at an agent. One that has just ended is none.
    pub(super) fn look(&mut self, at: Duration, node: &str, pid: u32) {
        let Ok((memory, files, objects)) = read(pid) else {
            return;
        };
        self.nodes.entry(node.to_owned()).or_default().push(Sample {
            at: at.as_secs(),
            pid,
            memory,
            files,
            objects: objects.len(),
        });
        self.ids.extend(objects);
    }

    /// The last look at each.
    pub(super) fn last(&self) -> impl Iterator<Item = (&str, &Sample)> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|(node, samples)| Some((node.as_str(), samples.last()?)))
    }

    /// For the report: every agent's looks, thinned out.
    pub(super) fn thinned(&self) -> BTreeMap<&str, Vec<&Sample>> {
        let thin = |samples: &'_ Vec<Sample>| samples.len().div_ceil(60).max(1);
        let nodes = self.nodes.iter();
        nodes
            .map(|(node, samples)| {
                (
                    node.as_str(),
                    samples.iter().step_by(thin(samples)).collect(),
                )
            })
            .collect()
    }

    /// What has grown: the end beside the time about a quarter of the whole.
    pub(super) fn grown(&self, whole: Duration) -> Vec<String> {
        let quarter = whole.as_secs() / 4;
        let about = quarter.saturating_sub(quarter / 5)..=quarter + quarter / 5 + 10;
        let mut grown = Vec::new();
        for (node, samples) in &self.nodes {
            let early = || samples.iter().filter(|sample| about.contains(&sample.at));
            let (Some(memory), Some(files), Some(last)) = (
                early().map(|sample| sample.memory).max(),
                early().map(|sample| sample.files).max(),
                samples.last(),
            ) else {
                continue;
            };
            if last.memory > memory + MORE_MEMORY {
                let (now, then) = (last.memory >> 20, memory >> 20);
                grown.push(format!(
                    "{node}: {now} MiB of memory at the end, {then} MiB at a quarter"
                ));
            }
            if last.files > files + MORE_FILES {
                let now = last.files;
                grown.push(format!(
                    "{node}: {now} files at the end, {files} at a quarter"
                ));
            }
        }
        grown
    }

    /// How many objects there were, and those that are still there.
    pub(super) fn left(&self) -> (usize, Vec<String>) {
        let left = self.ids.iter().filter(|(kind, id)| kind.exists(*id));
        let left = left.map(|(kind, id)| format!("{kind:?} {id}"));
        (self.ids.len(), left.collect())
    }
}

/// Memory, files and objects of a process.
fn read(pid: u32) -> io::Result<(u64, usize, Objects)> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    let memory: u64 = pages.unwrap_or(0u64) * PAGE;
    let (mut files, mut objects) = (0, BTreeSet::new());
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        files += 1;
        // A file that has just been closed is none.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        objects.extend(objects_in(&text));
    }
    Ok((memory, files, objects))
}

/// The object that a file is, as its `fdinfo` tells. A link's tells its program's id as well.
fn objects_in(fdinfo: &str) -> Vec<(KernelObject, u32)> {
    let kinds = [
        ("map_id:", KernelObject::Map),
        ("prog_id:", KernelObject::Program),
        ("link_id:", KernelObject::Link),
    ];
    let found = fdinfo.lines().filter_map(|line| {
        let (_, kind) = kinds.iter().find(|(name, _)| line.starts_with(name))?;
        let id = line.split_whitespace().nth(1)?.parse().ok()?;
        Some((*kind, id))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_told_by_their_ids() {
        let link = "pos:\t0\nflags:\t02000002\nlink_type:\ttcx\nlink_id:\t7\nprog_tag:\tabc\nprog_id:\t9\n";
        let expected = [(KernelObject::Link, 7), (KernelObject::Program, 9)];
        assert_eq!(objects_in(link), expected);
        assert!(objects_in("pos:\t0\n").is_empty());
    }

    #[test]
    fn what_grows_is_told() {
        let sample = |at, memory, files| Sample {
            at,
            pid: 1,
            memory,
            files,
            objects: 0,
        };
        let mut resources = Resources::default();
        let samples = vec![sample(25, 20 << 20, 50), sample(100, 25 << 20, 51)];
        resources.nodes.insert("node-1".into(), samples);
        assert!(resources.grown(Duration::from_secs(100)).is_empty());
        let samples = vec![sample(25, 20 << 20, 50), sample(100, 45 << 20, 70)];
        resources.nodes.insert("node-1".into(), samples);
        assert_eq!(resources.grown(Duration::from_secs(100)).len(), 2);
    }
}
