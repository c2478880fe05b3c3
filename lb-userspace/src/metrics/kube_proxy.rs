//! kube-proxy's metrics under its own names, labels and buckets (pkg/proxy/metrics/metrics.go).
//!
//! kube-proxy has a proxier per family, and its metrics the label `ip_family`. Here one pass writes both
//! families, so both get the same times; what concerns one family alone is told apart.

use std::sync::atomic::AtomicU64;

use lb_common::address::Family as IpFamily;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Label of most of them: `IPv4` or `IPv6`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfFamily {
    ip_family: &'static str,
}

/// Label of what is told by traffic policy: `internal` or `external`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfPolicy {
    traffic_policy: &'static str,
}

/// Label of answers: the HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfCode {
    code: u16,
}

impl From<IpFamily> for OfFamily {
    fn from(family: IpFamily) -> Self {
        Self {
            ip_family: family.name(),
        }
    }
}

impl From<u16> for OfCode {
    fn from(code: u16) -> Self {
        Self { code }
    }
}

type Seconds = Gauge<f64, AtomicU64>;
type Durations = Family<OfFamily, Histogram, fn() -> Histogram>;

/// kube-proxy's metrics; their names are given where they are registered, below.
#[derive(Debug)]
pub struct KubeProxyMetrics {
    sync_duration: Durations,
    full_sync_duration: Durations,
    partial_sync_duration: Durations,
    last_sync: Family<OfFamily, Seconds>,
    last_queued: Family<OfFamily, Seconds>,
    network_programming: Durations,
    /// Changes of slices that are not in the maps yet.
    pub endpoint_changes_pending: Gauge,
    /// Changes of slices.
    pub endpoint_changes: Counter,
    /// Changes of Services that are not in the maps yet.
    pub service_changes_pending: Gauge,
    /// Changes of Services.
    pub service_changes: Counter,
    /// Answers of `/healthz` by status.
    pub healthz: Family<OfCode, Counter>,
    /// Answers of `/livez` by status.
    pub livez: Family<OfCode, Counter>,
    no_local_endpoints: Family<OfPolicy, Gauge>,
}

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

impl KubeProxyMetrics {
    /// Registers them in `registry`, which puts `kubeproxy_` before their names (and `_total` behind those
    /// of counters).
    pub(super) fn new(registry: &mut Registry) -> Self {
        let mut durations = |name, help, buckets: fn() -> Histogram| {
            let all = Durations::new_with_constructor(buckets);
            for family in FAMILIES {
                drop(all.get_or_create(&family.into()));
            }
            registry.register(name, help, all.clone());
            all
        };
        let sync_duration = durations(
            "sync_proxy_rules_duration_seconds",
            "How long it took to bring the maps up to date",
            sync_buckets,
        );
        let full_sync_duration = durations(
            "sync_full_proxy_rules_duration_seconds",
            "How long it took to bring the maps up to date, when they were compared as a whole",
            sync_buckets,
        );
        let partial_sync_duration = durations(
            "sync_partial_proxy_rules_duration_seconds",
            "How long it took to bring the maps up to date, when only what had changed was looked at",
            sync_buckets,
        );
        let network_programming = durations(
            "network_programming_duration_seconds",
            "Time from a change of endpoints, as its EndpointSlice tells it, till the maps were up to date",
            network_programming_buckets,
        );
        // Here stale flows are recognised when their next packet comes (rules 73-77): there is nothing that
        // would reconcile or delete. Both metrics are there so that alerts about them stay quiet, not broken.
        durations(
            "conntrack_reconciler_sync_duration_seconds",
            "No reconciler runs: stale flows are recognised by their next packet",
            sync_buckets,
        );
        let deleted = Family::<OfFamily, Counter>::default();
        for family in FAMILIES {
            drop(deleted.get_or_create(&family.into()));
        }
        registry.register(
            "conntrack_reconciler_deleted_entries",
            "No reconciler runs: stale flows are recognised by their next packet",
            deleted,
        );
        let (last_sync, last_queued) = Default::default();
        let (healthz, livez, no_local_endpoints) = Default::default();
        let metrics = Self {
            sync_duration,
            full_sync_duration,
            partial_sync_duration,
            last_sync,
            last_queued,
            network_programming,
            endpoint_changes_pending: Gauge::default(),
            endpoint_changes: Counter::default(),
            service_changes_pending: Gauge::default(),
            service_changes: Counter::default(),
            healthz,
            livez,
            no_local_endpoints,
        };
        metrics.register(registry);
        metrics.set_no_local_endpoints(0, 0);
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register(
            "sync_proxy_rules_last_timestamp_seconds",
            "When the maps were last brought up to date",
            self.last_sync.clone(),
        );
        registry.register(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "When a change was last taken in",
            self.last_queued.clone(),
        );
        registry.register(
            "sync_proxy_rules_endpoint_changes_pending",
            "Changes of EndpointSlices that are not in the maps yet",
            self.endpoint_changes_pending.clone(),
        );
        registry.register(
            "sync_proxy_rules_endpoint_changes",
            "Changes of EndpointSlices",
            self.endpoint_changes.clone(),
        );
        registry.register(
            "sync_proxy_rules_service_changes_pending",
            "Changes of Services that are not in the maps yet",
            self.service_changes_pending.clone(),
        );
        registry.register(
            "sync_proxy_rules_service_changes",
            "Changes of Services",
            self.service_changes.clone(),
        );
        registry.register(
            "proxy_healthz",
            "Answers of /healthz by HTTP status",
            self.healthz.clone(),
        );
        registry.register(
            "proxy_livez",
            "Answers of /livez by HTTP status",
            self.livez.clone(),
        );
        // A gauge in spite of its name, there as here.
        registry.register(
            "sync_proxy_rules_no_local_endpoints_total",
            "Services with endpoints, but none on this node for a traffic policy that is Local",
            self.no_local_endpoints.clone(),
        );
    }

    /// A change of `family` was taken in at `now`, in seconds since 1970.
    pub fn queued(&self, family: IpFamily, now: f64) {
        self.last_queued.get_or_create(&family.into()).set(now);
    }

    /// The maps were brought up to date at `now` (seconds since 1970), which took `seconds`; `is_full`:
    /// they were compared as a whole.
    pub fn synced(&self, now: f64, seconds: f64, is_full: bool) {
        let kind = if is_full {
            &self.full_sync_duration
        } else {
            &self.partial_sync_duration
        };
        for family in FAMILIES.map(OfFamily::from) {
            self.sync_duration.get_or_create(&family).observe(seconds);
            kind.get_or_create(&family).observe(seconds);
            self.last_sync.get_or_create(&family).set(now);
        }
    }

    /// A change of endpoints got into the maps after so many `seconds` (rule 88).
    pub fn programmed(&self, family: IpFamily, seconds: f64) {
        self.network_programming
            .get_or_create(&family.into())
            .observe(seconds);
    }

    /// So many Services have endpoints, but none here, though their internal or external policy is
    /// Local (rule 87).
    pub fn set_no_local_endpoints(&self, internal: usize, external: usize) {
        for (traffic_policy, count) in [("internal", internal), ("external", external)] {
            self.no_local_endpoints
                .get_or_create(&OfPolicy { traffic_policy })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// 1 ms, 2 ms, 4 ms, … 16.384 s.
fn sync_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// 0.25 and 0.5 s, every second up to 59 s, every 5 s up to 115 s, every 30 s up to 5 min.
fn network_programming_buckets() -> Histogram {
    let seconds = |range: std::ops::RangeInclusive<u32>, step| range.step_by(step).map(f64::from);
    let buckets = [0.25, 0.5].into_iter();
    Histogram::new(
        buckets
            .chain(seconds(1..=59, 1))
            .chain(seconds(60..=115, 5))
            .chain(seconds(120..=300, 30)),
    )
}
