//! What an executor owes a plan: its order, its failures kept apart, its runs in few calls.

use std::io;

use lb_common::{
    address::{V4, V6},
    tables::{Endpoint, Frontend, FrontendKey, ServiceRecord, VipRange, endpoint_id},
};

use super::*;
use crate::control::maps::{FamilyDump, SourceRange, fake::FakeMaps};

/// Maps that refuse to write one record, and count nothing else.
struct Refusing {
    inner: FakeMaps,
    refused: u32,
}

impl<A: Address> FamilyMaps<A> for Refusing
where
    FakeMaps: FamilyMaps<A>,
{
    fn slot_capacity(&self) -> u32 {
        self.inner.slot_capacity()
    }

    fn endpoint_capacity(&self) -> u32 {
        self.inner.endpoint_capacity()
    }

    fn write_slots(&mut self, base: u32, ids: &[u32]) -> Result<(), MapsError> {
        self.inner.write_slots(base, ids)
    }

    fn put_endpoints(&mut self, endpoints: &[Endpoint<A>]) -> Result<(), MapsError> {
        self.inner.put_endpoints(endpoints)
    }

    fn write_ranges(&mut self, ranges: &[VipRange<A>]) -> Result<(), MapsError> {
        self.inner.write_ranges(ranges)
    }

    fn put_frontend(&mut self, key: &FrontendKey<A>, value: &Frontend) -> Result<(), MapsError> {
        self.inner.put_frontend(key, value)
    }

    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), MapsError> {
        self.inner.remove_frontend(key)
    }

    fn source_capacity(&self) -> u32 {
        self.inner.source_capacity()
    }

    fn put_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        self.inner.put_sources(sources)
    }

    fn remove_sources(&mut self, sources: &[SourceRange<A>]) -> Result<(), MapsError> {
        self.inner.remove_sources(sources)
    }

    fn dump(&self) -> Result<FamilyDump<A>, MapsError> {
        self.inner.dump()
    }
}

impl Maps for Refusing {
    fn service_capacity(&self) -> u32 {
        self.inner.service_capacity()
    }

    fn put_service(&mut self, id: u32, record: &ServiceRecord) -> Result<(), MapsError> {
        if id == self.refused {
            let source = io::Error::from(io::ErrorKind::PermissionDenied);
            return Err(MapsError::Io {
                table: Table::Services,
                source,
            });
        }
        self.inner.put_service(id, record)
    }

    fn remove_service(&mut self, id: u32) -> Result<(), MapsError> {
        self.inner.remove_service(id)
    }

    fn reset_traffic(&mut self, id: u32) -> Result<(), MapsError> {
        self.inner.reset_traffic(id)
    }

    fn services(&self) -> Result<Vec<(u32, ServiceRecord)>, MapsError> {
        self.inner.services()
    }
}

fn record() -> ServiceRecord {
    ServiceRecord {
        namespace: [0; 64],
        name: [0; 64],
        port_name: [0; 64],
        cluster_ips: [[0; 16]; 2],
        families: [0; 2],
        port: 0,
        protocol: 0,
        policy: 0,
        kind: 0,
        pad: 0,
    }
}

/// Three services with `count` endpoints each, as a cold start plans them.
fn plan(count: u32) -> Plan {
    let mut plan = Plan::default();
    for id in 0..3 {
        let base = id * count;
        let key = FrontendKey::new(V4(id), 80, 6);
        let value = Frontend {
            slot_base: base,
            slot_count: count,
            service: id,
            flags: 0,
            ..Frontend::default()
        };
        let op = FamilyOp::PutFrontend {
            key,
            value,
            before: None,
        };
        plan.push(id, None, Op::V4(op));
        let ids: Vec<u32> = (base..base + count).map(|at| endpoint_id(at, 1)).collect();
        let endpoint = |id: &u32| Endpoint {
            id: *id,
            ..Endpoint::new(V4(7), 80)
        };
        let endpoints = ids.iter().map(endpoint).collect();
        plan.push(id, None, Op::V4(FamilyOp::WriteSlots { base, ids }));
        plan.push(id, None, Op::V4(FamilyOp::RaiseEndpoints(endpoints)));
        plan.push(id, None, Op::PutService(record().into()));
    }
    plan.ordered()
}

#[test]
fn a_plan_goes_out_in_the_order_that_is_safe() {
    let key = FrontendKey::new(V6([1; 4]), 80, 6);
    let mut plan = plan(1);
    plan.push(9, None, Op::RemoveService);
    plan.push(9, None, Op::V6(FamilyOp::LowerEndpoints(vec![])));
    plan.push(9, None, Op::V6(FamilyOp::RemoveSources(vec![])));
    plan.push(9, None, Op::V6(FamilyOp::PutSources(vec![])));
    plan.push(9, None, Op::V6(FamilyOp::RemoveFrontend { key }));
    plan.push(Step::NO_PORT, None, Op::V4(FamilyOp::WriteRanges(vec![])));
    plan.push(5, None, Op::ResetTraffic);
    let kinds: Vec<u8> = plan
        .ordered()
        .steps()
        .iter()
        .map(|step| step.op.phase().0)
        .collect();
    assert_eq!(
        kinds,
        [0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 5, 5, 6, 7, 8, 9, 10]
    );
}

#[test]
fn like_steps_go_out_as_one_call_and_write_what_they_say() {
    let mut maps = FakeMaps::new(8, 8, 8);
    let plan = plan(2);
    assert_eq!(apply(&mut maps, &plan).done, 12);
    let calls = (
        maps.calls.put_endpoints,
        maps.calls.write_slots,
        maps.calls.put_frontend,
        maps.calls.put_service,
    );
    assert_eq!(calls, (1, 1, 1, 1));
    let expected: Vec<u32> = (0..6).map(|at| endpoint_id(at, 1)).collect();
    assert_eq!(maps.v4.slots, expected);
    let written: Vec<u32> = maps.v4.endpoints.iter().map(|it| it.id).collect();
    assert_eq!(written, expected);
}

#[test]
fn a_failure_stops_its_own_service_and_no_other() {
    let mut maps = Refusing {
        inner: FakeMaps::new(8, 8, 8),
        refused: 1,
    };
    let plan = plan(2);
    let applied = apply(&mut maps, &plan);
    assert_eq!(
        (applied.done, applied.failed.len(), applied.skipped),
        (8, 1, 3)
    );
    assert_eq!(applied.failed[0].0.id, 1);
    let served: Vec<u32> = maps
        .inner
        .v4
        .frontends
        .values()
        .map(|value| value.service)
        .collect();
    assert_eq!(served, [0, 2]);
}

#[test]
fn who_still_has_a_frontend_that_could_not_pass_on_loses_nothing() {
    let mut maps = Refusing {
        inner: FakeMaps::new(8, 8, 8),
        refused: 1,
    };
    let mut plan = Plan::default();
    plan.push(1, None, Op::PutService(record().into()));
    let op = FamilyOp::PutFrontend {
        key: FrontendKey::new(V4(1), 80, 6),
        value: Frontend::default(),
        before: Some(2),
    };
    plan.push(1, None, Op::V4(op));
    plan.push(2, None, Op::V4(FamilyOp::LowerEndpoints(vec![])));
    plan.push(2, None, Op::RemoveService);
    plan.push(3, None, Op::RemoveService);
    let applied = apply(&mut maps, &plan);
    assert_eq!(
        (applied.done, applied.failed.len(), applied.skipped),
        (1, 1, 3)
    );
}

#[test]
fn a_frontend_that_finds_no_room_stops_nothing() {
    let mut maps = FakeMaps::new(8, 2, 8);
    let plan = plan(1);
    let applied = apply(&mut maps, &plan);
    assert_eq!(
        (applied.done, applied.failed.len(), applied.skipped),
        (11, 1, 0)
    );
    assert!(is_rejection(&applied.failed[0].1));
    assert_eq!(maps.v4.frontends.len(), 2);
}
