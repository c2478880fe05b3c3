//! Rules 86 to 88, as far as they are about what is counted.

use std::sync::{Arc, Mutex};

use super::*;
use crate::{
    health::Health,
    metrics::{Reading, Snapshot},
    model::{EndpointSlice, ObjectKey, Service},
};

#[derive(Debug)]
struct Nothing;

impl Reading for Nothing {
    fn read(&self) -> anyhow::Result<Snapshot> {
        Ok(Snapshot::default())
    }
}

struct World {
    observer: Observer,
    start: Moment,
}

impl World {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new(Box::new(Nothing)));
        let health = Arc::new(Mutex::new(Health::new(true)));
        let start = Moment {
            at: std::time::Instant::now(),
            wall: UNIX_EPOCH + Duration::from_secs(1000),
        };
        Self {
            observer: Observer::new(metrics, health, start.wall),
            start,
        }
    }

    fn at(&self, second: u64) -> Moment {
        let passed = Duration::from_secs(second);
        Moment {
            at: self.start.at + passed,
            wall: self.start.wall + passed,
        }
    }

    fn take_in(&mut self, second: u64, event: Event) {
        let now = self.at(second);
        self.observer.take_in(&event, now);
    }

    fn conclude(&mut self, second: u64, report: SyncReport) {
        let (now, took) = (self.at(second), Duration::from_millis(3));
        self.observer.conclude(&report, took, [0, 0], now);
    }

    fn says(&self, line: &str) -> bool {
        let text = self.observer.metrics.encode();
        text.lines().any(|found| found == line)
    }
}

fn done(ops: usize) -> SyncReport {
    SyncReport {
        ops,
        in_sync: true,
        ..SyncReport::default()
    }
}

/// A slice changed so many seconds after the agent started.
fn slice(triggered: Option<i64>) -> Event {
    let milliseconds = |second: i64| u64::try_from((1000 + second) * 1000).unwrap();
    Event::ApplySlice(EndpointSlice {
        key: ObjectKey::new("default", "web-1"),
        service: "web".into(),
        family: Family::V6,
        ports: Vec::new(),
        endpoints: Vec::new(),
        triggered: triggered.map(milliseconds),
    })
}

const PROGRAMMED: &str = "kubeproxy_network_programming_duration_seconds";

#[test]
fn rule_88_a_slice_changed_since_the_start_counts_from_its_trigger_to_the_maps() {
    let mut world = World::new();
    world.take_in(5, slice(Some(4)));
    assert!(world.says(&format!("{PROGRAMMED}_count{{ip_family=\"IPv6\"}} 0")));
    world.conclude(7, done(1));
    assert!(world.says(&format!("{PROGRAMMED}_count{{ip_family=\"IPv6\"}} 1")));
    assert!(world.says(&format!("{PROGRAMMED}_sum{{ip_family=\"IPv6\"}} 3.0")));
    assert!(world.says(&format!("{PROGRAMMED}_count{{ip_family=\"IPv4\"}} 0")));
    world.conclude(9, done(1));
    assert!(world.says(&format!("{PROGRAMMED}_count{{ip_family=\"IPv6\"}} 1")));
}

#[test]
fn rule_88_what_changed_before_the_start_and_what_a_listing_says_does_not_count() {
    let mut world = World::new();
    world.take_in(1, slice(Some(-1)));
    world.take_in(1, slice(None));
    world.take_in(2, Event::Init(Kind::Slices));
    world.take_in(2, slice(Some(1)));
    world.take_in(2, Event::InitDone(Kind::Slices));
    world.conclude(3, done(1));
    assert!(world.says(&format!("{PROGRAMMED}_count{{ip_family=\"IPv6\"}} 0")));
    world.take_in(4, slice(Some(3)));
    world.conclude(4, done(1));
    assert!(world.says(&format!("{PROGRAMMED}_count{{ip_family=\"IPv6\"}} 1")));
}

#[test]
fn rule_88_a_slice_counts_only_once_its_change_is_in_the_maps() {
    let mut world = World::new();
    world.take_in(1, slice(Some(1)));
    world.conclude(2, SyncReport::default());
    assert!(world.says(&format!("{PROGRAMMED}_count{{ip_family=\"IPv6\"}} 0")));
    world.conclude(11, done(1));
    assert!(world.says(&format!("{PROGRAMMED}_sum{{ip_family=\"IPv6\"}} 10.0")));
}

#[test]
fn changes_are_pending_until_they_are_in_the_maps() {
    let mut world = World::new();
    world.take_in(1, Event::ApplyService(Service::default()));
    world.take_in(1, Event::DeleteService(ObjectKey::default()));
    world.take_in(2, slice(None));
    world.conclude(2, SyncReport::default());
    assert!(world.says("kubeproxy_sync_proxy_rules_service_changes_pending 2"));
    assert!(world.says("kubeproxy_sync_proxy_rules_endpoint_changes_pending 1"));
    assert!(world.says("duolb_in_sync 0"));
    world.conclude(3, done(4));
    assert!(world.says("kubeproxy_sync_proxy_rules_service_changes_pending 0"));
    assert!(world.says("kubeproxy_sync_proxy_rules_service_changes_total 2"));
    assert!(world.says("kubeproxy_sync_proxy_rules_endpoint_changes_pending 0"));
    assert!(world.says("kubeproxy_sync_proxy_rules_endpoint_changes_total 1"));
    assert!(world.says("duolb_in_sync 1") && world.says("duolb_map_operations_total 4"));
    let queued = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds";
    assert!(world.says(&format!("{queued}{{ip_family=\"IPv4\"}} 1001.0")));
    assert!(world.says(&format!("{queued}{{ip_family=\"IPv6\"}} 1002.0")));
}

#[test]
fn the_first_sync_and_one_after_a_failure_are_full_and_idle_ones_are_none() {
    let mut world = World::new();
    let count = |world: &World, kind: &str, count: u32| {
        let name = format!("kubeproxy_sync_{kind}proxy_rules_duration_seconds_count");
        world.says(&format!("{name}{{ip_family=\"IPv4\"}} {count}"))
    };
    world.conclude(1, done(0));
    assert!(count(&world, "full_", 1) && count(&world, "partial_", 0));
    world.conclude(2, done(0));
    assert!(count(&world, "", 1), "nothing was done");
    world.take_in(3, slice(None));
    world.conclude(3, done(1));
    assert!(count(&world, "full_", 1) && count(&world, "partial_", 1));
    world.conclude(4, SyncReport::default());
    world.conclude(5, done(1));
    assert!(count(&world, "full_", 2) && count(&world, "", 3));
}

#[test]
fn rule_87_services_without_local_endpoints_are_told_by_policy() {
    let mut world = World::new();
    let report = SyncReport {
        lacking_local: [2, 3],
        ..done(0)
    };
    world.conclude(1, report);
    let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
    assert!(world.says(&format!("{name}{{traffic_policy=\"internal\"}} 2")));
    assert!(world.says(&format!("{name}{{traffic_policy=\"external\"}} 3")));
}

#[test]
fn rule_86_a_change_that_does_not_get_into_the_maps_makes_unhealthy() {
    let mut world = World::new();
    world.conclude(1, done(0));
    world.take_in(2, slice(None));
    world.conclude(3, SyncReport::default());
    let ok = |world: &World, second| {
        let now = world.at(second);
        with_health(&world.observer.health, |health| health.livez(now).ok)
    };
    assert!(ok(&world, 61) && !ok(&world, 62));
    world.conclude(63, done(1));
    assert!(ok(&world, 63));
}

/// Whoever sets the clock (chrony after a long sleep, a VM that was moved) makes no node unhealthy and no duration
/// negative: what is compared never goes back, and the wall clock is only shown.
#[test]
fn a_clock_that_is_set_forwards_or_back_changes_no_health_and_makes_no_duration_negative() {
    for jump in [-900_i64, 900, 500_000_000] {
        let mut world = World::new();
        let set = |world: &World, second: u64| {
            let moment = world.at(second);
            let wall = i64::try_from(1000 + second).unwrap() + jump;
            let wall = UNIX_EPOCH + Duration::from_secs(wall.unsigned_abs());
            Moment { wall, ..moment }
        };
        world.conclude(1, done(0));
        world.take_in(2, slice(Some(2)));
        let ok = |world: &World, second| {
            let now = set(world, second);
            with_health(&world.observer.health, |health| health.livez(now).ok)
        };
        // Sixty seconds are sixty seconds, whatever the clock on the wall did meanwhile.
        assert!(ok(&world, 61) && !ok(&world, 62), "{jump}");
        let now = set(&world, 63);
        let took = Duration::from_millis(3);
        world.observer.conclude(&done(1), took, [0, 0], now);
        assert!(ok(&world, 63), "{jump}");
        let count = format!("{PROGRAMMED}_count{{ip_family=\"IPv6\"}} 1");
        assert!(world.says(&count), "{jump}");
        let sum = (61 + jump).max(0);
        let sum = format!("{PROGRAMMED}_sum{{ip_family=\"IPv6\"}} {sum}.0");
        assert!(world.says(&sum), "{jump}");
    }
}
