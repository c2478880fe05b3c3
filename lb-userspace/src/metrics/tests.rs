//! Names, labels and types, against the text they are to come out as.

use lb_common::{
    address::Family,
    flow::stats::{Churn, FlowStats},
    tables::Traffic,
    verdict::Verdict,
};

use super::*;
use crate::datapath::view::MapView;

#[derive(Debug)]
struct Fixed;

impl Reading for Fixed {
    fn read(&self) -> anyhow::Result<Snapshot> {
        let traffic = Traffic {
            flows: 1,
            packets_in: 2,
            bytes_in: 3,
            packets_out: 4,
            bytes_out: 5,
        };
        Ok(Snapshot {
            verdicts: vec![(Verdict::Dnat, 7), (Verdict::Fragment, 8)],
            traffic: vec![ServiceTraffic {
                namespace: "shop".into(),
                service: "web".into(),
                port: ("80".into(), "TCP".into()),
                family: Family::V6,
                traffic,
            }],
            maps: vec![
                MapView {
                    name: "FRONTENDS_V4",
                    used: Some(3),
                    size: 10,
                },
                MapView {
                    name: "SLOTS_V4",
                    used: None,
                    size: 20,
                },
            ],
            flows: vec![(
                Family::V4,
                FlowStats {
                    flows: [1, 2, 3, 4, 5, 6],
                    expired: 7,
                    evicted: 8,
                    ..FlowStats::default()
                },
                Churn {
                    inserted: 9,
                    removed: 10,
                },
            )],
        })
    }
}

#[derive(Debug)]
struct Unreadable;

impl Reading for Unreadable {
    fn read(&self) -> anyhow::Result<Snapshot> {
        anyhow::bail!("map VERDICTS: no such file")
    }
}

/// Without buckets, which would be hundreds of lines, and with numbers of the process left out. The series of a
/// metric have no order; here they are sorted.
fn summary(metrics: &Metrics) -> Vec<String> {
    let text = metrics.encode();
    let lines = text.lines().filter(|line| !line.contains("_bucket{"));
    let mut summary: Vec<_> = lines
        .map(|line| match line.split_once(' ') {
            Some((name, _)) if name.starts_with("process_") => format!("{name} N"),
            _ => line.to_owned(),
        })
        .collect();
    for series in summary.split_mut(|line| line.starts_with('#')) {
        series.sort();
    }
    summary
}

#[test]
fn everything_comes_out_as_the_golden_text_has_it() {
    let metrics = Metrics::new(Box::new(Fixed));
    metrics.kube_proxy.healthz.get_or_create(&200.into()).inc();
    metrics.kube_proxy.livez.get_or_create(&503.into()).inc();
    metrics.kube_proxy.queued(Family::V4, 1.5);
    metrics.kube_proxy.synced(2.5, 0.25, true);
    let services = [("default", "web"), ("default", "db"), ("default", "web")];
    metrics.own.set_service_problems(services.into_iter());
    let golden = include_str!("tests/golden.txt").replace("@VERSION@", env!("CARGO_PKG_VERSION"));
    let summary = summary(&metrics);
    for (number, (found, expected)) in summary.iter().zip(golden.lines()).enumerate() {
        assert_eq!(found, expected, "line {}", number + 1);
    }
    assert_eq!(summary.len(), golden.lines().count());
}

/// semantics.md, "Names to keep".
const KEPT: &[&str] = &[
    "sync_proxy_rules_duration_seconds histogram",
    "sync_full_proxy_rules_duration_seconds histogram",
    "sync_partial_proxy_rules_duration_seconds histogram",
    "sync_proxy_rules_last_timestamp_seconds gauge",
    "sync_proxy_rules_last_queued_timestamp_seconds gauge",
    "network_programming_duration_seconds histogram",
    "sync_proxy_rules_endpoint_changes_pending gauge",
    "sync_proxy_rules_endpoint_changes_total counter",
    "sync_proxy_rules_service_changes_pending gauge",
    "sync_proxy_rules_service_changes_total counter",
    "proxy_healthz_total counter",
    "proxy_livez_total counter",
    "sync_proxy_rules_no_local_endpoints_total gauge",
    "conntrack_reconciler_sync_duration_seconds histogram",
    "conntrack_reconciler_deleted_entries_total counter",
];

#[test]
fn kube_proxys_names_and_types_are_kept() {
    let metrics = Metrics::new(Box::new(Fixed));
    metrics.kube_proxy.healthz.get_or_create(&200.into()).inc();
    metrics.kube_proxy.livez.get_or_create(&200.into()).inc();
    metrics.kube_proxy.queued(Family::V4, 1.0);
    metrics.kube_proxy.synced(1.0, 1.0, false);
    let text = metrics.encode();
    for kept in KEPT {
        let line = format!("# TYPE kubeproxy_{kept}");
        assert_eq!(
            text.lines().filter(|found| *found == line).count(),
            1,
            "{kept}\n{text}"
        );
    }
}

#[test]
fn every_sample_is_announced_by_help_and_type_and_no_series_comes_twice() {
    let text = Metrics::new(Box::new(Fixed)).encode();
    let mut announced = std::collections::BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').unwrap().0;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, help);
            assert_eq!(
                announced.insert(name, kind),
                None,
                "{name} is announced twice"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(seen.insert(series), "{series} comes twice");
            let name = series.split_once('{').map_or(series, |(name, _)| name);
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|base| announced.get(base) == Some(&"histogram"));
            assert!(announced.contains_key(base.unwrap_or(name)), "{line}");
        }
    }
}

#[test]
fn kube_proxys_buckets_are_kept() {
    let text = Metrics::new(Box::new(Fixed)).encode();
    let bounds = |name: &str| -> Vec<f64> {
        let prefix = format!("{name}_bucket{{le=\"");
        let of_v4 = text
            .lines()
            .filter(|line| line.contains("IPv4") && !line.contains("+Inf"));
        of_v4
            .filter_map(|line| line.strip_prefix(&prefix)?.split('"').next()?.parse().ok())
            .collect()
    };
    let sync = bounds("kubeproxy_sync_proxy_rules_duration_seconds");
    assert_eq!(
        (sync.len(), sync[0], sync[14]),
        (15, 0.001, 16.384),
        "{sync:?}"
    );
    let programming = bounds("kubeproxy_network_programming_duration_seconds");
    assert_eq!(programming.len(), 2 + 59 + 12 + 7, "{programming:?}");
    assert_eq!(programming[..4], [0.25, 0.5, 1.0, 2.0]);
    assert_eq!(programming.last(), Some(&300.0));
}

#[test]
fn what_cannot_be_read_leaves_the_rest() {
    let text = Metrics::new(Box::new(Unreadable)).encode();
    assert!(text.contains("duolb_in_sync 0") && !text.contains("duolb_verdicts"));
}

#[test]
fn the_process_tells_of_itself() {
    let text = Metrics::new(Box::new(Fixed)).encode();
    let value = |name: &str| -> f64 {
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let age = now.unwrap().as_secs_f64() - value("process_start_time_seconds");
    assert!((-2.0..36_000.0).contains(&age), "{age}");
}
