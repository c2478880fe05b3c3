//! The agent's own way to the API server survives that its endpoints are taken away (rule 94).

use super::*;
use crate::control::apply::apply;

/// The Service with one endpoint at that address, or with none.
fn api_server(name: &str, addr: Option<u32>) -> Change {
    let mut change = change(name, 1, "https");
    let port = &mut change.desired.as_mut().unwrap().ports[0];
    let family = port.v4.as_mut().unwrap();
    family.endpoints = addr.map_or(Arc::new([]), |addr| {
        Arc::new([DesiredEndpoint {
            addr: V4(addr),
            ..family.endpoints[0]
        }])
    });
    change
}

/// Applies the change; the addresses that can be reached after it.
fn reached(
    planner: &mut Planner,
    maps: &mut FakeMaps,
    change: Change,
    occasion: Occasion,
) -> Vec<u32> {
    let plan = planner.plan([change], occasion, &Surroundings::default());
    assert!(apply(maps, &plan).failed.is_empty());
    let slots = maps.v4.frontends.values();
    let slots = slots.flat_map(|value| value.slot_base..value.slot_base + value.slot_count);
    let ids = slots.map(|slot| maps.v4.slots[slot as usize]);
    let endpoints = ids.map(|id| maps.v4.endpoints[lb_common::tables::endpoint_index(id) as usize]);
    endpoints
        .inspect(|endpoint| assert_ne!(endpoint.state, 0))
        .map(|endpoint| endpoint.addr.0)
        .collect()
}

#[test]
fn the_last_endpoints_of_the_api_server_stay_till_others_come_and_also_after_a_restart() {
    let mut maps = FakeMaps::new(8, 8, 8);
    let mut planner = restore_planner(&maps).unwrap();
    let go = |planner: &mut Planner, maps: &mut FakeMaps, addr| {
        let change = api_server("kubernetes", addr);
        reached(planner, maps, change, Occasion::Change)
    };
    assert_eq!(go(&mut planner, &mut maps, Some(7)), [7]);
    assert_eq!(go(&mut planner, &mut maps, None), [7]);
    planner = restore_planner(&maps).unwrap();
    let change = api_server("kubernetes", None);
    let after = reached(&mut planner, &mut maps, change, Occasion::Complete);
    assert_eq!(after, [7]);
    assert_eq!(go(&mut planner, &mut maps, Some(8)), [8]);
    let plan = planner.plan(
        [gone("kubernetes")],
        Occasion::Change,
        &Surroundings::default(),
    );
    apply(&mut maps, &plan);
    assert!(maps.v4.frontends.is_empty(), "a Service that is deleted is");
}

#[test]
fn any_other_service_loses_its_last_endpoint_when_it_is_taken_away() {
    let mut maps = FakeMaps::new(8, 8, 8);
    let mut planner = restore_planner(&maps).unwrap();
    for (addr, expected) in [(Some(7), vec![7]), (None, vec![])] {
        let change = api_server("web", addr);
        let after = reached(&mut planner, &mut maps, change, Occasion::Change);
        assert_eq!(after, expected);
    }
}
