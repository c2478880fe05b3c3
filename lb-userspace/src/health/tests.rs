//! Rules 85 and 86.

use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;
use crate::model::{EndpointSlice, Node, ObjectKey, Service};

struct World {
    health: Health,
    start: Instant,
}

impl World {
    fn new() -> Self {
        let mut world = Self::of(Health::new(false));
        world.queue(0, node(false));
        world
    }

    fn of(health: Health) -> Self {
        Self {
            health,
            start: Instant::now(),
        }
    }

    fn at(&self, second: u64) -> Moment {
        let passed = Duration::from_secs(second);
        Moment {
            at: self.start + passed,
            wall: UNIX_EPOCH + passed,
        }
    }

    fn queue(&mut self, second: u64, event: Event) {
        let now = self.at(second);
        self.health.queue(&event, now);
    }

    fn update(&mut self, second: u64) {
        let now = self.at(second);
        self.health.update(now);
    }

    fn healthz(&self, second: u64) -> bool {
        self.health.healthz(self.at(second)).ok
    }

    fn livez(&self, second: u64) -> bool {
        self.health.livez(self.at(second)).ok
    }
}

fn node(is_leaving: bool) -> Event {
    Event::ApplyNode(Node {
        is_leaving,
        ..Node::default()
    })
}

fn service() -> Event {
    Event::ApplyService(Service::default())
}

fn slice(family: Family) -> Event {
    Event::ApplySlice(EndpointSlice {
        key: ObjectKey::new("default", "web-1"),
        service: "web".into(),
        family,
        ports: Vec::new(),
        endpoints: Vec::new(),
        triggered: None,
    })
}

#[test]
fn rule_86_a_starting_proxy_is_healthy_however_long_it_takes() {
    let mut world = World::new();
    world.queue(1, service());
    assert!(world.livez(3600) && world.healthz(3600));
}

#[test]
fn rule_86_a_change_may_wait_for_less_than_a_minute() {
    let mut world = World::new();
    world.update(1);
    world.queue(10, service());
    assert!(world.livez(69));
    assert!(!world.livez(70) && !world.healthz(70));
    world.update(71);
    assert!(world.livez(71) && world.healthz(3600));
}

#[test]
fn rule_86_the_oldest_change_counts() {
    let mut world = World::new();
    world.update(1);
    world.queue(10, service());
    world.queue(60, service());
    assert!(!world.livez(70));
}

#[test]
fn rule_86_each_family_is_judged_by_itself() {
    let mut world = World::new();
    world.update(1);
    world.queue(10, slice(Family::V6));
    let answer = serde_json::to_value(world.health.livez(world.at(80))).unwrap();
    assert_eq!(answer["healthy"], false);
    assert_eq!(answer["status"]["IPv4"]["healthy"], true);
    assert_eq!(answer["status"]["IPv6"]["healthy"], false);
}

#[test]
fn rule_85_a_node_that_leaves_gets_no_traffic_but_its_proxy_lives() {
    let mut world = World::new();
    world.update(1);
    world.queue(2, node(true));
    world.update(2);
    assert!(!world.healthz(3) && world.livez(3));
    world.queue(4, node(false));
    assert!(world.healthz(5));
    world.queue(6, Event::DeleteNode("n".into()));
    assert!(!world.healthz(7) && world.livez(7));
}

#[test]
fn rule_86_without_a_node_object_the_node_gets_no_traffic() {
    let mut world = World::of(Health::new(false));
    world.update(1);
    assert!(!world.healthz(2) && world.livez(2));
    world.queue(3, Event::Init(Kind::Nodes));
    world.queue(3, Event::InitDone(Kind::Nodes));
    assert!(!world.healthz(4));
}

#[test]
fn a_listing_without_the_node_means_that_it_is_gone() {
    let mut world = World::new();
    world.queue(1, Event::Init(Kind::Nodes));
    assert!(world.healthz(1));
    world.queue(2, Event::InitDone(Kind::Nodes));
    assert!(!world.healthz(2));
}

#[test]
fn manifests_need_no_node_but_one_that_is_there_counts() {
    let mut world = World::of(Health::new(true));
    assert!(!world.healthz(0), "not listed yet");
    world.queue(1, Event::Init(Kind::Nodes));
    world.queue(1, Event::InitDone(Kind::Nodes));
    assert!(world.healthz(1));
    world.queue(2, node(true));
    assert!(!world.healthz(2));
}

#[test]
fn answers_are_spelled_as_kube_proxy_spells_them() {
    let mut world = World::new();
    let answer = serde_json::to_string(&world.health.livez(world.at(5))).unwrap();
    let expected = r#"{"lastUpdated":"1970-01-01T00:00:05Z","currentTime":"1970-01-01T00:00:05Z","healthy":true}"#;
    assert_eq!(answer, expected);

    world.update(1);
    world.queue(2, slice(Family::V4));
    let answer = serde_json::to_string(&world.health.healthz(world.at(100))).unwrap();
    let expected = concat!(
        r#"{"lastUpdated":"1970-01-01T00:00:01Z","currentTime":"1970-01-01T00:01:40Z","nodeEligible":true,"#,
        r#""healthy":false,"status":{"IPv4":{"lastUpdated":"1970-01-01T00:00:01Z","healthy":false},"#,
        r#""IPv6":{"lastUpdated":"1970-01-01T00:00:01Z","healthy":true}}}"#
    );
    assert_eq!(answer, expected);

    let never = World::of(Health::new(false));
    let answer = serde_json::to_value(never.health.healthz(never.at(5))).unwrap();
    assert_eq!(answer["lastUpdated"], "0001-01-01T00:00:00Z");
    assert_eq!(answer["nodeEligible"], false);
}
