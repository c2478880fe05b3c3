//! Whatever happens in whatever order, the maps end up meaning what the objects say.

use std::time::Instant;

use duolb::control::{
    maps::{fake::FakeMaps, faulty::FaultyMaps},
    reconcile::Reconciler,
};
use lb_common::{
    address::{Address, Family, V4, V6},
    tables::{Frontend, FrontendKey, ServiceRecord},
};
use proptest::{collection::vec, prelude::*};

use crate::{
    audit::AuditedMaps,
    meaning::Meaning,
    world::{Audited, World, list, restart, sync, world, worlds},
};

/// Takes the agent through `worlds`, calling it after so many events each time; checks each.
fn travel<M: Audited>(maps: M, worlds: &[World], seed: u64, batch: usize) -> Reconciler<M> {
    let mut now = Instant::now();
    let mut agent = Reconciler::new(maps, crate::NODE);
    list(&mut agent, vec![]);
    let mut before = World::default();
    for (world, i) in worlds.iter().zip(1..) {
        let events = before.events_to(world, seed.wrapping_mul(i));
        for events in events.chunks(batch) {
            events.iter().for_each(|event| agent.handle(event.clone()));
            agent.maps_mut().audited().begin_plan();
            agent.sync(now);
        }
        let report = sync(&mut agent, &mut now);
        assert_eq!(report.problems, []);
        assert_eq!(
            Meaning::of(&agent.maps_mut().audited().inner),
            world.meaning()
        );
        check_covered(&agent.maps_mut().audited().inner);
        before = world.clone();
    }
    agent
}

/// Panics if an address outside is in no range: then its connections would not outlive it (rule 53). No Service here
/// has one that is the node's own.
fn check_covered(maps: &FakeMaps) {
    let outside = Frontend::LOAD_BALANCER | Frontend::EXTERNAL_IP;
    for (key, _) in maps
        .v4
        .frontends
        .iter()
        .filter(|(_, value)| value.flags & outside != 0)
    {
        let mut ranges = maps.v4.ranges.iter();
        assert!(ranges.any(|range| range.contains(&key.addr)), "{key:?}");
    }
    for (key, _) in maps
        .v6
        .frontends
        .iter()
        .filter(|(_, value)| value.flags & outside != 0)
    {
        let mut ranges = maps.v6.ranges.iter();
        assert!(ranges.any(|range| range.contains(&key.addr)), "{key:?}");
    }
}

fn audited(strict: bool) -> AuditedMaps {
    AuditedMaps::new(FakeMaps::new(64, 128, 256), strict)
}

/// Maps as a broken agent might leave them.
fn damaged_maps() -> impl Strategy<Value = FakeMaps> {
    let frontends = || vec((1..6u8, 80..82u16, 0..12u32, 0..40u32, 0..12u32), 0..8);
    let records = vec((0..70u32, 0..4usize, any::<bool>()), 0..8);
    (world(), records, frontends(), frontends()).prop_map(|(world, records, v4, v6)| {
        let mut maps = FakeMaps::new(64, 64, 32);
        let services: Vec<_> = world.services.values().collect();
        for (id, service, is_garbage) in records {
            let Some(service) = services.get(service) else {
                continue;
            };
            let port = service.ports.first();
            let mut record: ServiceRecord =
                duolb::control::record::record(service, port).expect("a sound service");
            if is_garbage {
                record.kind = 77;
            }
            maps.services.insert(id, record);
        }
        maps.v4.frontends = v4.into_iter().map(frontend::<V4>).collect();
        maps.v6.frontends = v6.into_iter().map(frontend::<V6>).collect();
        maps
    })
}

fn frontend<A: Address>(
    (vip, port, slot_base, slot_count, service): (u8, u16, u32, u32, u32),
) -> (FrontendKey<A>, Frontend) {
    let ip = match A::FAMILY {
        Family::V4 => [10, 96, 0, vip].into(),
        Family::V6 => [0xfd00, 0, 0, 0, 0, 0, 0, vip.into()].into(),
    };
    let key = FrontendKey::new(A::from_ip(ip).expect("of that family"), port.to_be(), 6);
    (
        key,
        Frontend {
            slot_base,
            slot_count,
            service,
            flags: slot_count & 1,
            ..Frontend::default()
        },
    )
}

/// Changes one entry behind the agent's back; whether there was one.
fn spoil(maps: &mut FakeMaps, kind: u8, at: &prop::sample::Index) -> bool {
    let any = |len: usize| (len > 0).then(|| at.index(len));
    let spoiled = match kind {
        0 => any(maps.services.len()).map(|at| {
            let id = *maps.services.keys().nth(at).expect("that many");
            maps.services.remove(&id);
        }),
        1 => any(maps.v4.frontends.len()).map(|at| {
            let key = *maps.v4.frontends.keys().nth(at).expect("that many");
            maps.v4.frontends.remove(&key);
        }),
        2 => any(maps.v4.frontends.len()).map(|at| {
            let value = maps.v4.frontends.values_mut().nth(at).expect("that many");
            value.slot_count += 1;
        }),
        3 => maps
            .v6
            .endpoints
            .iter_mut()
            .find(|endpoint| endpoint.state != 0)
            .map(|endpoint| endpoint.addr.0[3] ^= 0x0100_0000),
        4 => maps
            .v4
            .endpoints
            .iter_mut()
            .rfind(|endpoint| endpoint.state != 0)
            .map(|endpoint| endpoint.state = 0),
        5 => any(maps.v4.sources.len()).map(|at| {
            let source = *maps.v4.sources.iter().nth(at).expect("that many");
            maps.v4.sources.remove(&source);
        }),
        _ => {
            let used: Vec<_> = maps.v4.frontends.values().collect();
            let used = used.iter().find(|value| value.slot_count > 0);
            used.map(|value| maps.v4.slots[value.slot_base as usize] ^= 1)
        }
    };
    spoiled.is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_order_of_events_in_any_batches_leads_to_the_same_meaning(
        worlds in worlds(1..8), seed: u64, batch in 1..8usize,
    ) {
        travel(audited(true), &worlds, seed, batch);
    }

    #[test]
    fn maps_that_fail_end_up_right_all_the_same(
        worlds in worlds(1..4), seed: u64, batch in 1..8usize, rate in 1..100u8,
    ) {
        travel(FaultyMaps::new(audited(false), rate, seed), &worlds, seed, batch);
    }

    #[test]
    fn an_agent_that_is_killed_at_any_moment_leaves_ways_that_are_right_and_its_successor_ends_up_right(
        worlds in worlds(2..4), seed: u64, writes in 0..40usize,
    ) {
        let maps = restart(travel(audited(true), &worlds[..1], seed, 3)).into_maps();
        let mut agent = Reconciler::new(FaultyMaps::new(maps, 0, seed), crate::NODE);
        agent.maps_mut().writes_left = writes;
        list(&mut agent, worlds[1].objects(seed));
        // The audit looks at every single write.
        agent.sync(Instant::now());
        agent.maps_mut().writes_left = usize::MAX;
        let mut agent = restart(agent);
        let last = &worlds[worlds.len() - 1];
        list(&mut agent, last.objects(!seed));
        let report = sync(&mut agent, &mut Instant::now());
        prop_assert_eq!(report.problems, []);
        prop_assert_eq!(Meaning::of(&agent.maps().inner.inner), last.meaning());
    }

    #[test]
    fn maps_that_somebody_else_has_changed_are_found_and_made_right(
        world in world(), seed: u64, at: prop::sample::Index, kind in 0..7u8,
    ) {
        // No audit of the writes: damaged maps lead astray till they are right again.
        let mut agent = Reconciler::new(FakeMaps::new(64, 128, 256), crate::NODE);
        list(&mut agent, world.objects(seed));
        let mut now = Instant::now();
        prop_assert!(agent.sync(now).in_sync);
        prop_assert_eq!(agent.verify(now).unwrap(), 0);
        if spoil(agent.maps_mut(), kind, &at) {
            prop_assert!(agent.verify(now).unwrap() > 0);
            for _ in 0..4 {
                let report = agent.sync(now);
                prop_assert!(report.in_sync);
                now = report.next_retry.unwrap_or(now);
            }
            prop_assert_eq!(Meaning::of(agent.maps()), world.meaning());
        }
        prop_assert_eq!(agent.verify(now).unwrap(), 0);
    }

    #[test]
    fn a_restart_into_an_unchanged_world_writes_nothing(
        worlds in worlds(1..4), seed: u64, batch in 1..8usize,
    ) {
        let mut agent = restart(travel(audited(true), &worlds, seed, batch));
        agent.maps_mut().inner.take_calls();
        list(&mut agent, worlds[worlds.len() - 1].objects(!seed));
        let report = sync(&mut agent, &mut Instant::now());
        prop_assert_eq!(report.ops, 0);
        prop_assert_eq!(agent.maps().inner.calls.total(), 0);
    }

    #[test]
    fn a_restart_into_another_world_leaves_nothing_of_the_old_one(
        worlds in worlds(1..4), other in world(), seed: u64,
    ) {
        let mut agent = restart(travel(audited(true), &worlds, seed, 3));
        list(&mut agent, other.objects(seed));
        sync(&mut agent, &mut Instant::now());
        prop_assert_eq!(Meaning::of(&agent.maps().inner), other.meaning());
    }

    #[test]
    fn a_relist_has_the_effect_of_the_events_it_replaces(
        worlds in worlds(2..4), seed: u64,
    ) {
        let mut agent = Reconciler::new(audited(true), crate::NODE);
        let mut now = Instant::now();
        for world in &worlds {
            list(&mut agent, world.objects(seed));
            sync(&mut agent, &mut now);
            prop_assert_eq!(Meaning::of(&agent.maps().inner), world.meaning());
        }
    }

    #[test]
    fn damaged_maps_are_made_right(maps in damaged_maps(), world in world(), seed: u64) {
        // No audit of the writes: there is no telling what a damaged range belongs to.
        let mut agent = Reconciler::new(maps, crate::NODE);
        list(&mut agent, world.objects(seed));
        let mut now = Instant::now();
        for _ in 0..4 {
            let report = agent.sync(now);
            prop_assert!(report.in_sync, "nothing fails here");
            now = report.next_retry.unwrap_or(now);
        }
        let report = agent.sync(now);
        let room = report.problems.is_empty();
        prop_assert!(room, "it does not find the room that there is: {:?}", report.problems);
        prop_assert_eq!(Meaning::of(agent.maps()), world.meaning());
    }

    #[test]
    fn what_finds_no_room_is_reported_and_the_rest_is_served(
        worlds in worlds(1..4), seed: u64,
        ids in 1..8u32, frontends in 1..6usize, slots in 1..8u32,
    ) {
        let mut agent = Reconciler::new(AuditedMaps::new(FakeMaps::new(ids, frontends, slots), true), crate::NODE);
        let mut now = Instant::now();
        for world in &worlds {
            list(&mut agent, world.objects(seed));
            let report = sync(&mut agent, &mut now);
            let (actual, wanted) = (Meaning::of(&agent.maps().inner), world.meaning());
            for (frontend, target) in &wanted.frontends {
                if actual.frontends.get(frontend) != Some(target) {
                    let service = &target.0[..target.0.find(':').expect("a port")];
                    let told = report.problems.iter().any(|problem| {
                        problem.service.as_ref().is_some_and(|key| key.to_string() == service)
                    });
                    prop_assert!(told, "{} is not as wanted: {:?}", frontend, report.problems);
                }
            }
            // Nothing is there that nobody wants, nor for another than who wants it.
            for (frontend, (port, _)) in &actual.frontends {
                let wanted = wanted.frontends.get(frontend).map(|(port, _)| port);
                prop_assert_eq!(Some(port), wanted, "{} is not wanted for this", frontend);
            }
        }
    }
}
