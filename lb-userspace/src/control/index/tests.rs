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

/// An index on the node "here" that has been told all of `events` in listings of all kinds.
fn listed(events: impl IntoIterator<Item = Event>) -> Index {
    let mut index = Index::new("here");
    relist(&mut index, events);
    index
}

/// The Services that listings of all kinds concern.
fn relist(index: &mut Index, events: impl IntoIterator<Item = Event>) -> Vec<Arc<ObjectKey>> {
    let opened = Kind::ALL.map(Event::Init).into_iter();
    let closed = Kind::ALL.map(Event::InitDone);
    let events = opened.chain(events).chain(closed);
    events.flat_map(|event| index.apply(event)).collect()
}

fn node(name: &str, zone: Option<&str>) -> Event {
    Event::ApplyNode(Node {
        name: name.into(),
        zone: zone.map(str::to_owned),
        ..Node::default()
    })
}

fn cidr(name: &str, cidrs: &[&str]) -> Event {
    Event::ApplyServiceCidr(ServiceCidr {
        name: name.into(),
        cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
    })
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
    // Only what was listed is pruned: of slices nothing is known but what was said before.
    let dirty = index.apply(Event::InitDone(Kind::Services));
    assert_eq!(names(&dirty), ["b"]);
    assert_eq!(index.services().count(), 1);
    assert!(!index.slices.is_empty());
    index.apply(Event::Init(Kind::Slices));
    let dirty = index.apply(Event::InitDone(Kind::Slices));
    assert_eq!(names(&dirty), ["a"]);
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
fn nothing_is_complete_before_each_kind_has_been_listed_rule_5() {
    for last in Kind::ALL {
        let mut index = Index::new("here");
        index.apply(Event::Init(Kind::Services));
        index.apply(Event::ApplyService(service("a", "10.96.0.1")));
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != last) {
            index.apply(Event::InitDone(kind));
            assert!(!index.is_complete(), "{last:?} is missing");
        }
        index.apply(Event::InitDone(last));
        assert!(index.is_complete());
        index.apply(Event::Init(Kind::Services));
        let open = "a later listing does not close the gate again";
        assert!(index.is_complete(), "{open}");
    }
}

#[test]
fn a_new_zone_of_our_node_concerns_every_service_and_nothing_else_does_rule_4() {
    let services = ["a", "b"].map(|name| Event::ApplyService(service(name, "10.96.0.1")));
    let mut index = listed(services);
    let mut dirty = |event| index.apply(event).len();
    assert_eq!(dirty(node("elsewhere", Some("z"))), 0, "another node");
    assert_eq!(dirty(node("here", None)), 0, "it had no zone before");
    assert_eq!(dirty(node("here", Some("z"))), 2);
    assert_eq!(dirty(node("here", Some("z"))), 0);
    assert_eq!(dirty(Event::DeleteNode("elsewhere".into())), 0);
    let leaving = Event::ApplyNode(Node {
        name: "here".into(),
        zone: Some("z".into()),
        is_leaving: true,
        ..Node::default()
    });
    assert_eq!(dirty(leaving), 0, "only the zone counts");
    assert!(index.node().is_some_and(|node| node.is_leaving));
    assert_eq!(index.apply(Event::DeleteNode("here".into())).len(), 2);
    assert_eq!(index.node(), None);
}

#[test]
fn a_node_that_a_listing_leaves_out_is_gone() {
    let services = ["a", "b"].map(|name| Event::ApplyService(service(name, "10.96.0.1")));
    let mut index = listed(services);
    index.apply(node("here", Some("z")));
    index.apply(Event::Init(Kind::Nodes));
    index.apply(node("here", Some("z")));
    assert_eq!(index.apply(Event::InitDone(Kind::Nodes)).len(), 0);
    assert!(index.node().is_some());
    index.apply(Event::Init(Kind::Nodes));
    assert_eq!(index.apply(Event::InitDone(Kind::Nodes)).len(), 2);
    assert!(index.node().is_none());
}

#[test]
fn service_ranges_are_canonical_sorted_and_named_once() {
    let shown = |index: &Index| {
        let nets = index.service_cidrs().into_iter();
        nets.map(|net| net.to_string()).collect::<Vec<_>>()
    };
    let mut index = listed([
        cidr("more", &["fd00:2::/112", "10.97.0.0/16"]),
        cidr("kubernetes", &["10.96.3.4/16", "10.97.0.0/16"]),
    ]);
    assert_eq!(
        shown(&index),
        ["10.96.0.0/16", "10.97.0.0/16", "fd00:2::/112"]
    );
    index.apply(Event::DeleteServiceCidr("more".into()));
    assert_eq!(shown(&index), ["10.96.0.0/16", "10.97.0.0/16"]);
    index.apply(Event::Init(Kind::ServiceCidrs));
    index.apply(cidr("other", &["10.98.0.0/16"]));
    index.apply(Event::InitDone(Kind::ServiceCidrs));
    assert_eq!(shown(&index), ["10.98.0.0/16"]);
}

#[test]
fn endpoints_are_local_only_if_both_names_are_there_and_equal_rule_16() {
    for (ours, on, is_local) in [
        ("here", Some("here"), true),
        ("here", Some("there"), false),
        ("here", None, false),
        ("", Some(""), false),
        ("", None, false),
    ] {
        let mut index = Index::new(ours);
        let mut slice = slice("a-1", "a", "10.0.0.1");
        slice.endpoints[0].node = on.map(str::to_owned);
        index.apply(Event::ApplySlice(slice));
        let entry = index.find(&ObjectKey::new("default", "a")).unwrap();
        let known = entry.v4.iter().next().unwrap();
        let known = known.endpoints(index.zones()).next().unwrap();
        assert_eq!(known.is_local, is_local, "{ours:?} {on:?}");
    }
}

#[test]
fn the_nodes_addresses_concern_services_with_node_ports_or_source_ranges_and_only_if_they_differ() {
    let with = |name: &str, ip: &str, change: fn(&mut Service)| {
        let mut service = service(name, ip);
        change(&mut service);
        Event::ApplyService(service)
    };
    let mut index = listed([
        Event::ApplyService(service("plain", "10.96.0.1")),
        with("ports", "10.96.0.2", |it| it.ports[0].node_port = 30080),
        with("ranges", "10.96.0.3", |it| {
            it.source_ranges = vec!["10.0.0.0/8".parse().unwrap()]
        }),
    ]);
    let own = |ips: &[&str]| {
        let address = |ip: &&str| crate::model::NodeAddress {
            ip: ip.parse().unwrap(),
        };
        Event::NodeAddresses(ips.iter().map(address).collect())
    };
    let here = |ip: &str| {
        Event::ApplyNode(Node {
            name: "here".into(),
            addresses: vec![ip.parse().unwrap()],
            ..Node::default()
        })
    };
    let mut dirty = |event| {
        let mut keys = index.apply(event);
        keys.sort();
        names(&keys).join(" ")
    };
    assert_eq!(dirty(own(&["192.168.0.1", "192.168.0.2"])), "ports ranges");
    assert_eq!(
        dirty(own(&["192.168.0.2", "192.168.0.1", "127.0.0.1"])),
        "",
        "they are the same"
    );
    assert_eq!(dirty(here("192.168.0.1")), "ports ranges");
    // Clients on the node have the primary address, whatever others there are.
    assert_eq!(dirty(own(&["192.168.0.1", "192.168.0.3"])), "ports");
    assert_eq!(dirty(own(&["192.168.0.1", "192.168.0.3", "fe80::1"])), "");
    assert_eq!(
        index.node_ports(Family::V4).served,
        ["192.168.0.1".parse::<IpAddr>().unwrap()]
    );
    assert_eq!(index.node_ports(Family::V4).host_only.len(), 2);
}
