//! The control plane's own metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Label of problems: what they are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfKind {
    /// `object`: its source says something that cannot be served; `map`: the kernel's maps cannot hold it.
    kind: &'static str,
}

/// Label of what is running.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVersion {
    version: &'static str,
}

/// The control plane's metrics; their names are given where they are registered, below.
#[derive(Debug)]
pub struct OwnMetrics {
    /// 1 if the maps say what the sources say.
    pub in_sync: Gauge,
    problems: Family<OfKind, Gauge>,
    /// Operations on maps.
    pub operations: Counter,
    /// Entries of maps that were not what they should have been, when they were read back.
    pub read_back_mismatches: Counter,
    /// When maps were last read back, in seconds since 1970.
    pub read_back: Gauge<f64, AtomicU64>,
    /// Devices with the programs.
    pub devices: Gauge,
}

impl OwnMetrics {
    /// Registers them in `registry`, which puts `duolb_` before their names (and `_total` behind those of
    /// counters).
    pub(super) fn new(registry: &mut Registry) -> Self {
        // Of the classic format's types, a gauge that is 1 is what tells facts.
        let build = Family::<OfVersion, Gauge>::default();
        let version = env!("CARGO_PKG_VERSION");
        build.get_or_create(&OfVersion { version }).set(1);
        registry.register("build_info", "What is running", build);
        let metrics = Self {
            in_sync: Gauge::default(),
            problems: Family::default(),
            operations: Counter::default(),
            read_back_mismatches: Counter::default(),
            read_back: Gauge::default(),
            devices: Gauge::default(),
        };
        registry.register(
            "in_sync",
            "1 if the maps say what the sources say, as far as there is room",
            metrics.in_sync.clone(),
        );
        registry.register(
            "problems",
            "Things that are not served as their objects say; the log names them",
            metrics.problems.clone(),
        );
        registry.register(
            "map_operations",
            "Operations of the control plane on maps",
            metrics.operations.clone(),
        );
        registry.register(
            "read_back_mismatches",
            "Entries of maps that were not what they should have been; they have been repaired",
            metrics.read_back_mismatches.clone(),
        );
        registry.register(
            "read_back_timestamp_seconds",
            "When the maps were last read back and compared",
            metrics.read_back.clone(),
        );
        registry.register(
            "devices_attached",
            "Network devices with the programs",
            metrics.devices.clone(),
        );
        metrics.set_problems(0, 0);
        metrics
    }

    /// So many problems are known with `objects` and with `maps`.
    pub fn set_problems(&self, objects: usize, maps: usize) {
        for (kind, count) in [("object", objects), ("map", maps)] {
            self.problems
                .get_or_create(&OfKind { kind })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
