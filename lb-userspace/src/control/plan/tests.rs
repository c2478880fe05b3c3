//! The planner's bookkeeping, where the meaning of the maps does not show it: ids and counters.

mod api_server;
mod worlds;

use lb_common::{
    address::{Address, Family, V4, V6},
    tables::{Endpoint, Frontend, FrontendKey, endpoint_id},
};

use super::*;
use crate::{
    control::{
        desired::{DesiredEndpoint, DesiredFamily, DesiredFrontend, List, Network},
        maps::fake::FakeMaps,
        record,
        restore::restore_planner,
    },
    model::{Protocol, Service, ServiceKind, ServicePort},
};

fn empty_planner(services: u32) -> Planner {
    restore_planner(&FakeMaps::new(services, 8, 8)).expect("maps in memory")
}

fn family<A: Address>(key: FrontendKey<A>, addr: A) -> DesiredFamily<A> {
    DesiredFamily {
        endpoints: Arc::new([DesiredEndpoint {
            addr,
            port: 80,
            state: Endpoint::<A>::KNOWN | Endpoint::<A>::SERVING | Endpoint::<A>::CLUSTER,
        }]),
        frontends: vec![DesiredFrontend {
            key,
            list: List::Cluster,
            drop: false,
            flags: 0,
            affinity: 0,
        }],
        sources: Box::default(),
    }
}

/// A dual-stack service with one endpoint in each family.
fn change(name: &str, vip: u8, port_name: &str) -> Change {
    let port = ServicePort {
        name: port_name.into(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: 0,
    };
    let service = Service {
        key: ObjectKey::new("default", name),
        kind: ServiceKind::ClusterIp,
        ip_family_policy: None,
        ip_families: vec![Family::V4, Family::V6],
        cluster_ips: vec![
            [10, 96, 0, vip].into(),
            [0xfd00, 0, 0, 0, 0, 0, 0, vip.into()].into(),
        ],
        ports: vec![],
        ..Service::default()
    };
    let record = record::record(&service, Some(&port)).expect("it fits");
    let port = DesiredPort {
        record: record.into(),
        v4: record::find_frontend(&record).map(|key| family(key, V4(1))),
        v6: record::find_frontend(&record).map(|key| family(key, V6([1; 4]))),
    };
    let desired = DesiredService {
        since: 0,
        ports: vec![port],
        lacks_local: Default::default(),
    };
    Change {
        service: Arc::new(service.key),
        desired: Some(desired),
    }
}

fn gone(name: &str) -> Change {
    Change {
        service: Arc::new(ObjectKey::new("default", name)),
        desired: None,
    }
}

fn ids(plan: &Plan, wanted: impl Fn(&Op) -> bool) -> Vec<u32> {
    plan.steps()
        .iter()
        .filter(|step| wanted(&step.op))
        .map(|step| step.id)
        .collect()
}

fn is_put(op: &Op) -> bool {
    matches!(op, Op::PutService(_))
}

fn is_reset(op: &Op) -> bool {
    matches!(op, Op::ResetTraffic)
}

#[test]
fn both_families_of_a_service_port_share_its_id() {
    let plan = empty_planner(8).plan(
        [change("a", 1, "http")],
        Occasion::Change,
        &Surroundings::default(),
    );
    let values = plan.steps().iter().filter_map(|step| match &step.op {
        Op::V4(FamilyOp::PutFrontend { value, .. }) => Some(*value),
        Op::V6(FamilyOp::PutFrontend { value, .. }) => Some(*value),
        _ => None,
    });
    assert_eq!(
        values.map(|value| value.service).collect::<Vec<_>>(),
        [0, 0]
    );
}

#[test]
fn a_service_keeps_its_id_whatever_else_comes_and_goes() {
    let mut planner = empty_planner(8);
    planner.plan(
        [change("a", 1, "http"), change("b", 2, "http")],
        Occasion::Change,
        &Surroundings::default(),
    );
    planner.plan([gone("a")], Occasion::Change, &Surroundings::default());
    let plan = planner.plan(
        [change("b", 3, "http")],
        Occasion::Change,
        &Surroundings::default(),
    );
    assert_eq!(ids(&plan, is_put), [1]);
}

#[test]
fn a_freed_id_is_given_out_again_two_plans_later_with_its_counters_reset() {
    let mut planner = empty_planner(8);
    planner.plan(
        [change("a", 1, "http")],
        Occasion::Change,
        &Surroundings::default(),
    );
    planner.plan([gone("a")], Occasion::Change, &Surroundings::default());
    let plan = planner.plan(
        [change("b", 1, "http")],
        Occasion::Change,
        &Surroundings::default(),
    );
    assert_eq!(
        (ids(&plan, is_put), ids(&plan, is_reset)),
        (vec![1], vec![])
    );
    let plan = planner.plan(
        [change("c", 2, "http")],
        Occasion::Change,
        &Surroundings::default(),
    );
    assert_eq!(
        (ids(&plan, is_put), ids(&plan, is_reset)),
        (vec![0], vec![0])
    );
}

#[test]
fn a_renamed_port_is_another_service_port_with_counters_of_its_own() {
    let mut planner = empty_planner(8);
    planner.plan(
        [change("a", 1, "http")],
        Occasion::Change,
        &Surroundings::default(),
    );
    let plan = planner.plan(
        [change("a", 1, "web")],
        Occasion::Change,
        &Surroundings::default(),
    );
    assert_eq!(ids(&plan, is_put), [1]);
    assert_eq!(ids(&plan, |op| matches!(op, Op::RemoveService)), [0]);
    // Its endpoints are another's, too, though they have the same addresses.
    let new = plan.steps().iter().find_map(|step| match &step.op {
        Op::V4(FamilyOp::RaiseEndpoints(endpoints)) => Some(endpoints.clone()),
        _ => None,
    });
    let new = new.expect("endpoints with ids of their own");
    assert_eq!(
        (new.len(), new[0].service, new[0].id),
        (1, 1, endpoint_id(1, 1))
    );
}

#[test]
fn a_planner_that_is_told_the_same_again_has_nothing_to_do() {
    let mut planner = empty_planner(8);
    let changes = [change("a", 1, "http"), change("b", 2, "http")];
    assert!(
        !planner
            .plan(
                changes.clone(),
                Occasion::Complete,
                &Surroundings::default()
            )
            .steps()
            .is_empty()
    );
    assert_eq!(
        planner
            .plan(changes, Occasion::Complete, &Surroundings::default())
            .steps(),
        []
    );
}

#[test]
fn external_addresses_are_in_ranges_and_the_nodes_own_are_not() {
    let mut change = change("a", 1, "http");
    let external = |last, flags| DesiredFrontend {
        key: FrontendKey::new(V4(u32::from_ne_bytes([203, 0, 113, last])), 80, 6),
        list: List::Cluster,
        drop: false,
        flags,
        affinity: 0,
    };
    let family = change.desired.as_mut().unwrap().ports[0].v4.as_mut();
    family.unwrap().frontends.extend([
        external(1, Frontend::LOAD_BALANCER),
        external(64, Frontend::EXTERNAL_IP),
        external(130, Frontend::NODE_PORT),
        external(3, Frontend::EXTERNAL_IP),
    ]);
    let own = [64, 130].map(|last| [203, 0, 113, last].into());
    let surroundings = Surroundings {
        cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        own: own.to_vec(),
    };
    let plan = empty_planner(8).plan([change], Occasion::Complete, &surroundings);
    let written = plan.steps().iter().find_map(|step| match &step.op {
        Op::V4(FamilyOp::WriteRanges(ranges)) => Some(ranges.clone()),
        _ => None,
    });
    let written = written.unwrap().into_iter();
    let written: Vec<_> = written
        .map(|range| {
            (
                range.addr.to_ip().to_string(),
                range.mask.to_ip().to_string(),
            )
        })
        .collect();
    let expected = [
        ("10.96.0.0", "255.255.0.0"),
        ("203.0.113.0", "255.255.255.252"),
    ];
    let expected = expected.map(|(addr, mask)| (addr.to_owned(), mask.to_owned()));
    assert_eq!(written, expected);
}
