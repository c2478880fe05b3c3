//! The index by its two promises: which Services an event concerns, and what is left afterwards.

use std::net::IpAddr;

use super::*;
use crate::model::{Conditions, Protocol, ServiceKind, ServicePort, SliceEndpoint, SlicePort};

fn service(name: &str, ip: &str) -> Service {
    Service {
        key: ObjectKey::new("default", name),
        kind: ServiceKind::ClusterIp,
        ip_family_policy: None,
        ip_families: vec![Family::V4],
        cluster_ips: vec![ip.parse().unwrap()],
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: 0,
        }],
        ..Service::default()
    }
}

fn slice(name: &str, service: &str, address: &str) -> EndpointSlice {
    let address: IpAddr = address.parse().unwrap();
    EndpointSlice {
        key: ObjectKey::new("default", name),
        service: service.into(),
        family: Family::of(&address),
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
        }],
        endpoints: vec![SliceEndpoint {
            address,
            conditions: Conditions::default(),
            node: None,
            hints: crate::model::Hints::default(),
        }],
        triggered: None,
    }
}

fn names(dirty: &[Arc<ObjectKey>]) -> Vec<&str> {
    dirty.iter().map(|key| key.name.as_str()).collect()
}

fn listed(events: impl IntoIterator<Item = Event>) -> Index {
    let mut index = Index::default();
    index.apply(Event::Init(Kind::Services));
    for event in events {
        index.apply(event);
    }
    index.apply(Event::InitDone(Kind::ServiceCidrs));
    index
}

#[test]
fn only_the_service_an_event_concerns_is_dirty() {
    let mut index = listed(["a", "b"].map(|name| Event::ApplyService(service(name, "10.96.0.1"))));
    let dirty = index.apply(Event::ApplySlice(slice("b-1", "b", "10.0.0.1")));
    assert_eq!(names(&dirty), ["b"]);
    let dirty = index.apply(Event::DeleteSlice(ObjectKey::new("default", "b-1")));
    assert_eq!(names(&dirty), ["b"]);
    let dirty = index.apply(Event::DeleteService(ObjectKey::new("default", "a")));
    assert_eq!(names(&dirty), ["a"]);
}

#[test]
fn an_object_that_says_the_same_again_makes_nothing_dirty() {
    let mut index = listed([
        Event::ApplyService(service("a", "10.96.0.1")),
        Event::ApplySlice(slice("a-1", "a", "10.0.0.1")),
    ]);
    assert!(
        index
            .apply(Event::ApplyService(service("a", "10.96.0.1")))
            .is_empty()
    );
    assert!(
        index
            .apply(Event::ApplySlice(slice("a-1", "a", "10.0.0.1")))
            .is_empty()
    );
    assert!(
        index
            .apply(Event::DeleteSlice(ObjectKey::new("default", "unheard-of")))
            .is_empty()
    );
}

#[test]
fn a_slice_that_changes_hands_makes_both_services_dirty() {
    let mut index = listed([Event::ApplySlice(slice("s", "a", "10.0.0.1"))]);
    let dirty = index.apply(Event::ApplySlice(slice("s", "b", "10.0.0.1")));
    assert_eq!(names(&dirty), ["a", "b"]);
    let dirty = index.apply(Event::ApplySlice(slice("s", "b", "fd00::1")));
    assert_eq!(names(&dirty), ["b"]);
    let entry = index.find(&ObjectKey::new("default", "b")).unwrap();
    assert!(entry.v4.is_empty() && !entry.v6.is_empty());
}

#[test]
fn what_a_later_listing_does_not_mention_is_gone_when_it_ends() {
    let mut index = listed([
        Event::ApplyService(service("a", "10.96.0.1")),
        Event::ApplyService(service("b", "10.96.0.2")),
        Event::ApplySlice(slice("a-1", "a", "10.0.0.1")),
    ]);
    // The first listing is cut off; the second one counts.
    for event in [
        Event::Init(Kind::Services),
        Event::ApplyService(service("b", "10.96.0.2")),
        Event::Init(Kind::Services),
    ] {
        assert!(index.apply(event).is_empty());
    }
    assert!(
        index
            .apply(Event::ApplyService(service("a", "10.96.0.1")))
            .is_empty()
    );
    assert_eq!(
        names(&index.apply(Event::InitDone(Kind::ServiceCidrs))),
        ["a", "b"]
    );
    assert_eq!(index.services().count(), 1);
    assert!(index.slices.is_empty());
}

#[test]
fn nothing_is_left_of_what_is_gone() {
    let mut index = listed([
        Event::ApplySlice(slice("a-1", "a", "10.0.0.1")),
        Event::ApplyService(service("a", "10.96.0.1")),
    ]);
    index.apply(Event::DeleteService(ObjectKey::new("default", "a")));
    assert!(
        index
            .find_service(&ObjectKey::new("default", "a"))
            .is_none()
    );
    assert_eq!(
        index.entries.len(),
        1,
        "the slice may be there before its Service is"
    );
    index.apply(Event::DeleteSlice(ObjectKey::new("default", "a-1")));
    assert!(index.entries.is_empty() && index.slices.is_empty());
}

#[test]
fn a_claim_is_as_old_as_the_last_change_of_addresses_or_ports() {
    let mut index = listed([Event::ApplyService(service("a", "10.96.0.1"))]);
    let since = |index: &Index| index.find(&ObjectKey::new("default", "a")).unwrap().since;
    assert_eq!(
        since(&index),
        0,
        "what the first listing says is equally old"
    );
    let policy = Service {
        kind: ServiceKind::LoadBalancer,
        ..service("a", "10.96.0.1")
    };
    index.apply(Event::ApplyService(policy));
    assert_eq!(since(&index), 0);
    index.apply(Event::ApplyService(service("a", "10.96.0.9")));
    assert_eq!(since(&index), 1);
}

#[test]
fn nothing_is_complete_before_the_first_listing_is() {
    let mut index = Index::default();
    for event in [
        Event::Init(Kind::Services),
        Event::ApplyService(service("a", "10.96.0.1")),
    ] {
        index.apply(event);
        assert!(!index.is_complete());
    }
    index.apply(Event::InitDone(Kind::ServiceCidrs));
    assert!(index.is_complete());
    index.apply(Event::Init(Kind::Services));
    assert!(
        index.is_complete(),
        "a later listing does not close the gate again"
    );
}
