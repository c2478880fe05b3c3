//! What the agent does to its own process, and what it may do at all.

use std::fs;

/// A capability, its bit in /proc/self/status, and what is refused without it.
struct Capability {
    name: &'static str,
    bit: u32,
    /// Another one that has it in it.
    or: Option<u32>,
    without: &'static str,
}

/// include/uapi/linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;

/// What the agent needs, as deploy/ grants it.
const NEEDED: [Capability; 3] = [
    Capability {
        name: "CAP_BPF",
        bit: 39,
        or: Some(CAP_SYS_ADMIN),
        without: "maps and programs cannot be loaded",
    },
    Capability {
        name: "CAP_PERFMON",
        bit: 38,
        or: Some(CAP_SYS_ADMIN),
        without: "the kernel refuses programs that look into packets as ours do",
    },
    Capability {
        name: "CAP_NET_ADMIN",
        bit: 12,
        or: None,
        without: "programs cannot be put on devices and cgroups",
    },
];

/// Tells the kernel's out-of-memory killer how much it is missed (`--oom-score-adj`). A lower score needs
/// CAP_SYS_RESOURCE; without it the agent serves all the same.
pub(super) fn set_oom_score(score: i32) {
    if let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::info!(score, "--oom-score-adj cannot be set: {error}");
    }
}

/// Says which capabilities are missing: the kernel's own word, "operation not permitted", names none.
pub(super) fn tell_missing_capabilities() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (name, without) in missing_capabilities(&status) {
        tracing::error!(
            "{name} is missing: {without}; run as root, or grant it (securityContext.capabilities.add)"
        );
    }
}

/// Those that a process with this /proc/self/status lacks, and what is refused without; none if it does not say.
fn missing_capabilities(status: &str) -> Vec<(&'static str, &'static str)> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let has = |bit: u32| effective.is_none_or(|bits| bits & (1 << bit) != 0);
    NEEDED
        .iter()
        .filter(|needed| !has(needed.bit) && !needed.or.is_some_and(has))
        .map(|needed| (needed.name, needed.without))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_capability_is_named_and_no_other() {
        let missing = |bits: u64| {
            let status = format!("Name:\tduolb\nCapEff:\t{bits:016x}\nCapBnd:\t0\n");
            let names = missing_capabilities(&status).into_iter();
            names.map(|(name, _)| name).collect::<Vec<_>>()
        };
        let all = 1 << 39 | 1 << 38 | 1 << 12;
        assert!(missing(all).is_empty());
        for needed in &NEEDED {
            assert_eq!(missing(all & !(1 << needed.bit)), [needed.name]);
        }
        // Before 5.8 there was one for nearly everything, and there still is.
        assert_eq!(missing(1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert!(missing_capabilities("no such line").is_empty());
    }
}
