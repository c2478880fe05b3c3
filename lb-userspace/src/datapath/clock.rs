//! How fast the flow clock ticks, and the secret of the endpoint choice.

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    programs::{TestRun as _, TestRunOptions},
};

use lb_common::flow::{tick_shift, ticks};
use nix::libc;

use super::{DatapathError, object};

/// Tick rates that kernels are built with (kernel/Kconfig.hz).
const RATES: [u32; 4] = [100, 250, 300, 1000];

/// How often the counter is read at most until there is no doubt.
const READINGS: u32 = 8;

/// Jiffies a second: the program `clock` tells the counter twice, and the only rate that this allows is it.
///
/// Whoever reads a counter on a busy machine may stand still before or after it, for longer than it took. So what is
/// known of the time between two readings is a lower and an upper bound; where several rates fit, or none, the counter
/// is read again, over twice the time. A rate that was mistaken would make all flows' times mean something else from
/// one agent to the next.
///
/// # Errors
/// [`DatapathError`] if the program does not load or run.
pub fn find_hz() -> Result<u32, DatapathError> {
    let mut ebpf = object::load_clock()?;
    let (mut time, mut last) = (Duration::from_millis(60), None);
    for _ in 0..READINGS {
        let before = Instant::now();
        let first = jiffies(&mut ebpf)?;
        let started = Instant::now();
        thread::sleep(time);
        let at_least = started.elapsed();
        let count = jiffies(&mut ebpf)?.wrapping_sub(first);
        let at_most = before.elapsed();
        let possible = rates(count, at_least, at_most);
        if let [hz] = possible[..] {
            return Ok(hz);
        }
        last = possible.first().copied().or(last);
        time *= 2;
    }
    Ok(last.unwrap_or(250))
}

/// The rates by which a counter that is read as `count` more may have been counted up in that time.
fn rates(count: u32, at_least: Duration, at_most: Duration) -> Vec<u32> {
    // Between two ticks the counter stands still: one more or less says nothing.
    let slowest = f64::from(count.saturating_sub(1)) / at_most.as_secs_f64();
    let fastest = f64::from(count.saturating_add(1)) / at_least.as_secs_f64();
    let fits = |rate: &u32| (slowest..=fastest).contains(&f64::from(*rate));
    RATES.into_iter().filter(fits).collect()
}

/// Now, on the flow clock of a kernel with that many jiffies a second, without a program: jiffies begin 300 s before
/// their lower half wraps (INITIAL_JIFFIES, include/linux/jiffies.h) and are counted up by the monotonic clock.
pub fn now_ticks(hz: u32) -> u32 {
    let mut uptime = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one timespec, which lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut uptime) };
    let (seconds, hz64) = (uptime.tv_sec.unsigned_abs(), u64::from(hz));
    let jiffies = seconds * hz64 + uptime.tv_nsec.unsigned_abs() * hz64 / 1_000_000_000;
    ticks((1 << 32) - 300 * hz64 + jiffies, tick_shift(hz))
}

/// So many ticks in whole seconds.
pub fn ticks_to_seconds(ticks: u32, hz: u32) -> u64 {
    (u64::from(ticks) << tick_shift(hz)) / u64::from(hz.max(1))
}

fn jiffies(ebpf: &mut Ebpf) -> Result<u32, DatapathError> {
    let options = TestRunOptions {
        data_in: Some(&[0; 64]),
        ..TestRunOptions::new()
    };
    object::program(ebpf, "clock")?
        .test_run(options)
        .map(|result| result.return_value)
        .map_err(|source| DatapathError::Program {
            name: "clock",
            source: Box::new(source),
        })
}

/// A number that nobody outside knows and that stays the same until the next boot, so that a restarted
/// agent's programs choose as its predecessor's did.
pub fn boot_seed() -> u64 {
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if boot.is_empty() {
        return RandomState::new().hash_one(0);
    }
    // FNV-1a; the boot id is random and not readable over the network.
    boot.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_only_if_no_other_is_possible() {
        let told = |count, at_least, at_most| {
            rates(
                count,
                Duration::from_millis(at_least),
                Duration::from_millis(at_most),
            )
        };
        for rate in RATES {
            assert_eq!(told(rate * 60 / 1000, 60, 61), [rate]);
        }
        // 100 ms went by beside a reading, of which only the counter knows.
        assert_eq!(told(40, 60, 160), [250, 300]);
        assert!(told(90, 60, 61).is_empty(), "no kernel's rate");
    }

    #[test]
    fn the_flow_clock_is_told_without_a_program_as_the_kernel_has_it() {
        let Ok(mut ebpf) = object::load_clock() else {
            eprintln!("skipped: loading BPF programs takes root");
            return;
        };
        let hz = find_hz().unwrap();
        let before = now_ticks(hz);
        let kernel = jiffies(&mut ebpf).unwrap() >> tick_shift(hz);
        let after = now_ticks(hz);
        // The program returns the lower half.
        let mask = u32::MAX >> tick_shift(hz);
        let behind = kernel.wrapping_sub(before & mask) & mask;
        let took = after.wrapping_sub(before);
        assert!(
            behind <= took + 1 || behind == mask,
            "{before} {kernel} {after}"
        );
    }
}
