//! What is believed of damaged maps and what is not.

use lb_common::{
    address::V4,
    tables::{Endpoint, Frontend, FrontendKey, endpoint_generation, endpoint_id},
};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    control::{
        maps::{SourceRange, fake::FakeMaps},
        plan::{Occasion, Surroundings},
        record::record,
    },
    model::{Protocol, Service, ServicePort},
};

/// Maps with the service port 0 in them and nothing else.
fn maps() -> FakeMaps {
    let port = ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        node_port: 0,
    };
    let service = Service {
        key: ObjectKey::new("default", "web"),
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        ..Service::default()
    };
    let mut maps = FakeMaps::new(8, 8, 8);
    maps.services
        .insert(0, record(&service, Some(&port)).unwrap());
    maps
}

fn endpoint(id: u32, service: u32, state: u16) -> Endpoint<V4> {
    Endpoint {
        id,
        service,
        addr: V4(id),
        port: 80,
        state,
    }
}

#[test]
fn endpoints_that_are_gone_or_nobodys_are_free_and_remember_their_generation() {
    let mut maps = maps();
    maps.v4.endpoint_capacity = 4;
    maps.v4.endpoints = vec![
        endpoint(endpoint_id(0, 9), 0, 0),
        endpoint(endpoint_id(1, 4), 0, 1),
        endpoint(endpoint_id(2, 5), 3, 1),
        endpoint(endpoint_id(7, 6), 0, 1),
    ];
    let mut planner =
        restore_family::<V4>(&maps, &sort_records(maps.services().unwrap(), 8).0).unwrap();
    assert_eq!(*planner.backings[&0].ids, [endpoint_id(1, 4)]);
    assert_eq!(planner.pools.endpoints.find_id(), Some(endpoint_id(0, 10)));
    assert_eq!(planner.pools.endpoints.find_id(), None, "the others rest");
    planner.pools.endpoints.advance();
    planner.pools.endpoints.advance();
    let mut later: Vec<_> = [0; 2]
        .map(|_| planner.pools.endpoints.find_id().unwrap())
        .into();
    later.sort_unstable();
    assert_eq!(later, [endpoint_id(2, 6), endpoint_id(3, 7)]);
    // What is damaged is written over by the first complete plan.
    let plan =
        restore_planner(&maps)
            .unwrap()
            .plan([], Occasion::Complete, &Surroundings::default());
    let lowered = plan.steps().iter().find_map(|step| match &step.op {
        Op::V4(FamilyOp::LowerEndpoints(endpoints)) => Some(endpoints.clone()),
        _ => None,
    });
    let lowered: Vec<_> = lowered
        .unwrap()
        .iter()
        .map(|it| (it.id, it.state))
        .collect();
    assert_eq!(lowered, [(endpoint_id(2, 5), 0), (endpoint_id(3, 6), 0)]);
}

#[test]
fn slots_that_lead_to_another_ports_endpoints_are_not_believed() {
    let mut maps = maps();
    let known = Endpoint::<V4>::KNOWN | Endpoint::<V4>::CLUSTER;
    maps.v4.endpoints = vec![
        endpoint(endpoint_id(0, 1), 0, known),
        endpoint(endpoint_id(1, 1), 0, known),
        endpoint(endpoint_id(2, 1), 5, known),
    ];
    let value = Frontend {
        slot_count: 2,
        ..Frontend::default()
    };
    let key = FrontendKey::new(V4(1), 80, 6);
    maps.v4.frontends.insert(key, value);
    let ports = sort_records(maps.services().unwrap(), 8).0;
    for (slots, believed, stale) in [
        ([endpoint_id(1, 1), endpoint_id(0, 1)], true, false),
        ([endpoint_id(1, 1), endpoint_id(2, 1)], false, false),
        ([endpoint_id(1, 1), endpoint_id(0, 2)], false, false),
        ([endpoint_id(1, 1), endpoint_id(1, 1)], true, true),
    ] {
        maps.v4.slots = slots.to_vec();
        let planner = restore_family::<V4>(&maps, &ports).unwrap();
        let backing = &planner.backings[&0];
        assert_eq!(backing.lists.cluster.is_some(), believed, "{slots:x?}");
        assert_eq!(
            (backing.is_stale, planner.touched_ids.contains(&0)),
            (stale, stale || !believed)
        );
    }
}

proptest! {
    #[test]
    fn no_damage_makes_it_panic_and_a_complete_plan_ends_it(
        ids in vec((any::<u32>(), 0..3u32, 0..16u16, 0..6u32), 0..8),
        slots in vec(any::<u32>(), 0..12),
        frontends in vec((0..4u32, any::<u32>(), 0..9u32, 0..3u32, 0..64u32), 0..5),
        sources in vec((0..3u32, any::<u32>(), 0..80u32), 0..5),
        ranges in vec(any::<(u32, u32, u32)>(), 0..8),
        small: bool,
    ) {
        let mut maps = maps();
        let endpoints = ids.into_iter().map(|(id, service, state, index)| {
            let id = if small { endpoint_id(index, endpoint_generation(id)) } else { id };
            Endpoint { addr: V4(index), ..endpoint(id, service, state) }
        });
        maps.v4.endpoints = endpoints.collect();
        maps.v4.slots = slots.into_iter().map(|id| if small { endpoint_id(id % 8, 1) } else { id }).collect();
        maps.v4.slots.truncate(8);
        for (vip, slot_base, slot_count, service, flags) in frontends {
            let slot_base = if small { slot_base % 10 } else { slot_base };
            let (inner_base, inner_count) = (slot_base / 2, slot_count);
            let value = Frontend { slot_base, slot_count, service, flags, inner_base, inner_count, ..Frontend::default() };
            maps.v4.frontends.insert(FrontendKey::new(V4(vip), 80, 6), value);
        }
        maps.v4.ranges = ranges.into_iter().map(|(addr, mask, flags)| lb_common::tables::VipRange {
            addr: V4(addr), mask: V4(mask), flags,
        }).collect();
        maps.v4.sources = sources.into_iter().map(|(service, addr, prefix)| SourceRange {
            source: lb_common::tables::Source { service, addr: V4(addr) }, prefix,
        }).collect();
        let mut planner = restore_planner(&maps).unwrap();
        let gone = crate::control::plan::Change {
            service: Arc::new(ObjectKey::new("default", "web")),
            desired: None,
        };
        let plan = planner.plan([gone], Occasion::Complete, &Surroundings::default());
        prop_assert!(crate::control::apply::apply(&mut maps, &plan).failed.is_empty());
        prop_assert!(maps.v4.frontends.is_empty() && maps.services.is_empty());
        prop_assert!(maps.v4.sources.is_empty());
        prop_assert!(maps.v4.endpoints.iter().all(|endpoint| endpoint.state == 0));
        let indices = (0..).zip(&maps.v4.endpoints);
        for (index, endpoint) in indices.filter(|(_, endpoint)| endpoint.id != 0) {
            prop_assert_eq!(lb_common::tables::endpoint_index(endpoint.id), index);
        }
    }
}
