//! The control plane's own metrics.

use std::{collections::BTreeMap, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Label of problems: what they are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfKind {
    /// `object`: its source says something that cannot be served; `map`: the kernel's maps cannot hold it; `device`:
    /// the programs cannot be put on it.
    kind: &'static str,
}

/// Labels of a Service with problems.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfService {
    namespace: String,
    service: String,
}

/// Services that problems are told of by name: series cost memory in Prometheus for as long as it keeps them.
const MOST_SERVICES: usize = 100;

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
    service_problems: Family<OfService, Gauge>,
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
            service_problems: Family::default(),
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
            "service_problems",
            "Things that are not served as the Service says, by Service; of the first 100 Services with any",
            metrics.service_problems.clone(),
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
        metrics.set_problems(0, 0, 0);
        metrics
    }

    /// So many problems are known with `objects`, with `maps` and with `devices`.
    pub fn set_problems(&self, objects: usize, maps: usize, devices: usize) {
        for (kind, count) in [("object", objects), ("map", maps), ("device", devices)] {
            self.problems
                .get_or_create(&OfKind { kind })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// These Services, by namespace and name, have problems, each as often as it comes.
    pub fn set_service_problems<'a>(&self, services: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut counts = BTreeMap::<_, i64>::new();
        for service in services {
            *counts.entry(service).or_default() += 1;
        }
        // What has none any more has no series either.
        self.service_problems.clear();
        for ((namespace, service), count) in counts.into_iter().take(MOST_SERVICES) {
            let labels = OfService {
                namespace: namespace.to_owned(),
                service: service.to_owned(),
            };
            self.service_problems.get_or_create(&labels).set(count);
        }
    }
}
