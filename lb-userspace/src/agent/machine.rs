//! What the machine has: CPU cores, memory, and what of it the agent may use.

use std::{fs, path::Path, thread};

use crate::conntrack::sizing::Machine;

/// Where cgroups are looked for, and what a limit is called: version 2, version 1.
const LIMITS: [(&str, &str); 2] = [
    ("/sys/fs/cgroup", "memory.max"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
];

/// The machine that this process runs on. What cannot be read is unknown, not an error.
pub(super) fn find() -> Machine {
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    Machine {
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        memory: fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| parse_memory(&text)),
        limit: limit(),
    }
}

/// `MemTotal` in bytes.
fn parse_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The least of the limits of this process's cgroup and those above it.
fn limit() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = LIMITS.iter().flat_map(|(root, file)| {
        paths(&own).flat_map(move |path| {
            let below = Path::new(path.trim_start_matches('/'));
            below.ancestors().filter_map(move |dir| {
                let text = fs::read_to_string(Path::new(root).join(dir).join(file)).ok()?;
                parse_limit(&text)
            })
        })
    });
    limits.min()
}

/// The paths that memory is limited by, as `/proc/self/cgroup` tells them.
fn paths(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let is_ours = controllers.is_empty() || controllers.split(',').any(|name| name == "memory");
        parts.next().filter(|_| is_ours)
    })
}

/// `max` is none; version 1 says so by a number that no machine has.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < 1 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_memory_are_read_as_the_kernel_writes_them() {
        let meminfo = "MemTotal:       24612604 kB\nMemFree:         1 kB\n";
        assert_eq!(parse_memory(meminfo), Some(24_612_604 * 1024));
        assert_eq!(parse_limit("268435456\n"), Some(268_435_456));
        assert_eq!(parse_limit("max\n"), None);
        assert_eq!(parse_limit("9223372036854771712\n"), None);
        let cgroup = "12:cpu,cpuacct:/a\n4:memory:/kubepods/pod1\n0::/system.slice/x\n";
        let found: Vec<_> = paths(cgroup).collect();
        assert_eq!(found, ["/kubepods/pod1", "/system.slice/x"]);
    }
}
