//! What Prometheus' clients commonly tell of their process (`process_*`), from /proc.

use std::fmt;

use procfs::process::{LimitValue, Process};
use prometheus_client::{
    collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Reads /proc/self when asked.
#[derive(Debug, Default)]
pub(super) struct Collector;

/// What is told.
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_fds: usize,
    max_fds: u64,
    /// Since 1970.
    start_seconds: f64,
}

fn read() -> procfs::ProcResult<Usage> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let hz = seconds(procfs::ticks_per_second());
    // Ticks since boot; clocks show the time of the boot in whole seconds.
    let boot = seconds(procfs::boot_time_secs()?);
    Ok(Usage {
        cpu_seconds: seconds(stat.utime + stat.stime) / hz,
        resident_bytes: stat.rss * procfs::page_size(),
        virtual_bytes: stat.vsize,
        open_fds: process.fd_count()?,
        max_fds: match process.limits()?.max_open_files.soft_limit {
            LimitValue::Value(limit) => limit,
            LimitValue::Unlimited => u64::MAX,
        },
        start_seconds: boot + seconds(stat.starttime) / hz,
    })
}

#[expect(clippy::cast_precision_loss, reason = "a metric, not an amount")]
fn seconds(value: u64) -> f64 {
    value as f64
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let usage = match read() {
            Ok(usage) => usage,
            Err(error) => {
                tracing::debug!("metrics: /proc/self: {error}");
                return Ok(());
            }
        };
        let cpu = ConstCounter::new(usage.cpu_seconds);
        let help = "CPU time spent, user and system.";
        let name = "process_cpu_seconds";
        cpu.encode(encoder.encode_descriptor(name, help, None, cpu.metric_type())?)?;
        let gauges = [
            (
                "process_resident_memory_bytes",
                "Memory that is in RAM.",
                seconds(usage.resident_bytes),
            ),
            (
                "process_virtual_memory_bytes",
                "Memory that has addresses.",
                seconds(usage.virtual_bytes),
            ),
            (
                "process_open_fds",
                "Open file descriptors.",
                seconds(usage.open_fds as u64),
            ),
            (
                "process_max_fds",
                "File descriptors there can be.",
                seconds(usage.max_fds),
            ),
            (
                "process_start_time_seconds",
                "When the process started, since 1970.",
                usage.start_seconds,
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
