//! Where a run takes place, as /proc tells.

use std::{fs, thread};

use anyhow::{Context as _, Result};

use super::report::Machine;

/// What TCP in the bench's namespaces is to go by: the kernel's own default, or what every kernel allows. Others pace, or probe
/// what a link holds, and a veth's figures are then more theirs than the way's.
const CONGESTION: [&str; 2] = ["cubic", "reno"];

/// The first of `CONGESTION` that other namespaces may choose, else what the machine goes by.
///
/// # Errors
/// If /proc does not say.
pub fn congestion() -> Result<String> {
    let read = |name: &str| {
        let file = format!("/proc/sys/net/ipv4/{name}");
        fs::read_to_string(&file).context(file)
    };
    let allowed = read("tcp_allowed_congestion_control")?;
    Ok(choose(&allowed, read("tcp_congestion_control")?.trim()))
}

fn choose(allowed: &str, own: &str) -> String {
    let is_allowed = |name: &&str| allowed.split_whitespace().any(|other| other == *name);
    let wanted = CONGESTION.into_iter().find(is_allowed);
    wanted.unwrap_or(own).to_owned()
}

/// This machine.
///
/// # Errors
/// If /proc does not say.
pub fn this() -> Result<Machine> {
    let read = |file: &str| fs::read_to_string(file).with_context(|| file.to_owned());
    Ok(Machine {
        processor: field(&read("/proc/cpuinfo")?, "model name")
            .unwrap_or("unknown")
            .to_owned(),
        processors: thread::available_parallelism().map_or(1, usize::from),
        kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        memory: memory(&read("/proc/meminfo")?),
        load: read("/proc/loadavg")?
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned(),
        congestion: congestion()?,
    })
}

/// Behind `name` and a colon.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.trim() == name)
        .map(|(_, value)| value.trim())
}

/// Bytes, of the kibibytes that /proc/meminfo has.
fn memory(meminfo: &str) -> u64 {
    let total = field(meminfo, "MemTotal").and_then(|total| total.split(' ').next());
    total.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_goes_by_the_kernels_default_where_that_is_allowed() {
        assert_eq!(choose("reno bbr cubic\n", "bbr"), "cubic");
        assert_eq!(choose("reno bbr\n", "bbr"), "reno");
        assert_eq!(choose("bbr\n", "bbr"), "bbr");
    }

    #[test]
    fn fields_are_found_by_name() {
        assert_eq!(
            memory("MemTotal:       24000 kB\nMemFree: 1 kB\n"),
            24_000 * 1024
        );
        assert_eq!(
            field("model name\t: A B\nflags\t: c\n", "model name"),
            Some("A B")
        );
    }
}
