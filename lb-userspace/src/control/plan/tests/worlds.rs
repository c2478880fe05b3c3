//! Service ports with every kind of frontend and endpoint, planned at random, cut off anywhere, restored.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::{
    address::V4,
    tables::{Endpoint, Frontend, endpoint_generation, endpoint_index},
};
use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::control::{
    apply::apply,
    maps::{FamilyMaps as _, Maps as _, faulty::FaultyMaps},
};

const KNOWN: u16 = Endpoint::<V4>::KNOWN;
const CLUSTER: u16 = Endpoint::<V4>::CLUSTER;
const LOCAL: u16 = Endpoint::<V4>::LOCAL;

/// A service port: endpoints by number with their state, and which frontends it has.
#[derive(Clone, Debug)]
struct Wish {
    endpoints: BTreeMap<u8, u16>,
    /// Of the cluster IP, of a node port, of a load balancer's address, and the mark of the VIP.
    lists: [Option<List>; 3],
    mark: bool,
    affinity: u32,
    /// Networks that clients of the load balancer's address must be in.
    sources: BTreeSet<u8>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let state = (0..16u16).prop_map(|bits| KNOWN | bits << 1);
    let lists = vec![List::Cluster, List::Local, List::Split];
    let list = option::of(prop::sample::select(lists));
    (
        prop::collection::btree_map(0..9u8, state, 0..7),
        [list.clone(), list.clone(), list],
        any::<bool>(),
        0..3u32,
        prop::collection::btree_set(0..4u8, 0..3),
    )
        .prop_map(|(endpoints, lists, mark, affinity, sources)| Wish {
            endpoints,
            lists,
            mark,
            affinity,
            sources,
        })
}

/// What each of three Services wishes in turn; `None`: it does not exist.
fn worlds() -> impl Strategy<Value = Vec<Vec<Option<Wish>>>> {
    vec(vec(option::weighted(0.8, wish()), 3), 2..6)
}

fn key(service: usize, frontend: usize) -> FrontendKey<V4> {
    let (service, frontend) = (
        u8::try_from(service).unwrap(),
        u8::try_from(frontend).unwrap(),
    );
    let addr = V4(u32::from_ne_bytes([10, 96, frontend, service]));
    FrontendKey::new(addr, 80u16.to_be(), 6)
}

fn mark(service: usize) -> FrontendKey<V4> {
    FrontendKey::mark(key(service, 0).addr)
}

fn address(number: u8) -> V4 {
    V4(u32::from_ne_bytes([10, 0, 0, number]))
}

fn make_change(service: usize, wish: Option<&Wish>) -> Change {
    let mut change = change(&format!("s{service}"), 1, "http");
    let Some(wish) = wish else {
        change.desired = None;
        return change;
    };
    let endpoints = wish
        .endpoints
        .iter()
        .map(|(number, state)| DesiredEndpoint {
            addr: address(*number),
            port: 80,
            state: *state,
        });
    let frontend = |key: FrontendKey<V4>, list| DesiredFrontend {
        key,
        list,
        drop: list == List::Local,
        flags: match wish.sources.is_empty() {
            false if key == self::key(service, BALANCER) => RESTRICTED,
            _ => 0,
        },
        affinity: wish.affinity,
    };
    let lists = wish.lists.iter().enumerate();
    let frontends = lists
        .filter_map(|(at, list)| Some(frontend(key(service, at), (*list)?)))
        .chain(wish.mark.then(|| frontend(mark(service), List::None)));
    let family = DesiredFamily {
        endpoints: endpoints.collect(),
        frontends: frontends.collect(),
        sources: wish.sources.iter().map(|it| network(*it)).collect(),
    };
    let port = &mut change.desired.as_mut().unwrap().ports[0];
    (port.v4, port.v6) = (Some(family), None);
    change
}

/// Which of a wish's frontends is the load balancer's.
const BALANCER: usize = 2;
const RESTRICTED: u32 = Frontend::LOAD_BALANCER | Frontend::SOURCE_RANGES;

fn network(number: u8) -> Network<V4> {
    Network {
        addr: V4(u32::from_ne_bytes([172, 16, number, 0])),
        prefix: 24,
    }
}

fn changes(world: &[Option<Wish>]) -> Vec<Change> {
    let wishes = world.iter().enumerate();
    wishes
        .map(|(service, wish)| make_change(service, wish.as_ref()))
        .collect()
}

/// The endpoints that a frontend leads to, and those for clients inside.
type Ways = (BTreeSet<V4>, BTreeSet<V4>);

/// Panics unless each frontend leads to endpoints of its service port that are in its list, and if it asks who may
/// use it, there is somebody; the endpoints it leads to.
fn check_ways(maps: &FakeMaps) -> BTreeMap<FrontendKey<V4>, Ways> {
    let mut owners: BTreeMap<u32, u32> = BTreeMap::new();
    let frontends = maps.v4.frontends.iter();
    let lead = |(key, value): (&FrontendKey<V4>, &Frontend)| {
        let is_local = value.flags & (Frontend::LOCAL | Frontend::SPLIT) != 0;
        let bit = if is_local { LOCAL } else { CLUSTER };
        assert!(value.slot_count == 0 || value.flags & Frontend::VIP == 0);
        assert!(value.inner_count == 0 || value.flags & Frontend::SPLIT != 0);
        let mut sources = maps.v4.sources.iter();
        let is_admitted = value.flags & Frontend::SOURCE_RANGES == 0
            || sources.any(|range| range.source.service == value.service);
        assert!(is_admitted, "{key:?} admits nobody");
        let mut endpoints = |base: u32, count: u32, bit: u16| {
            (base..base + count)
                .map(|slot| {
                    let owner = *owners.entry(slot).or_insert(value.service);
                    assert_eq!(owner, value.service, "{key:?} shares slot {slot}");
                    let id = maps.v4.slots[slot as usize];
                    let endpoint = maps.v4.endpoints[endpoint_index(id) as usize];
                    assert_eq!((endpoint.id, endpoint.service), (id, value.service));
                    assert_ne!(endpoint.state & bit, 0, "{key:?} leads to {endpoint:?}");
                    endpoint.addr
                })
                .collect()
        };
        let outer = endpoints(value.slot_base, value.slot_count, bit);
        let inner = endpoints(value.inner_base, value.inner_count, CLUSTER);
        (*key, (outer, inner))
    };
    frontends.map(lead).collect()
}

/// Panics unless the maps say what `world` wishes.
fn check(maps: &FakeMaps, world: &[Option<Wish>]) {
    let ways = check_ways(maps);
    let mut expected = BTreeMap::new();
    let mut live = 0;
    for (service, wish) in world.iter().enumerate() {
        let Some(wish) = wish else { continue };
        live += wish.endpoints.len();
        let members = |bit: u16| {
            let all = wish
                .endpoints
                .iter()
                .filter(|(_, state)| **state & bit != 0);
            all.map(|(number, _)| address(*number)).collect()
        };
        for (at, list) in wish.lists.iter().enumerate() {
            if let Some(list) = list {
                let ways = match list {
                    List::Cluster => (members(CLUSTER), BTreeSet::new()),
                    List::Local => (members(LOCAL), BTreeSet::new()),
                    List::Split => (members(LOCAL), members(CLUSTER)),
                    List::None => Ways::default(),
                };
                let lengths = [ways.0.len(), ways.1.len()];
                expected.insert(key(service, at), ways);
                let value = maps.v4.frontends[&key(service, at)];
                assert_eq!(value.affinity, wish.affinity);
                let is_dropped = value.flags & Frontend::DROP != 0;
                assert_eq!(is_dropped, *list == List::Local);
                let slots = [value.slot_count, value.inner_count];
                assert_eq!(
                    slots.map(|count| count as usize),
                    lengths,
                    "each stands once"
                );
                let is_restricted = at == BALANCER && !wish.sources.is_empty();
                let flags = value.flags & RESTRICTED;
                assert_eq!(flags, if is_restricted { RESTRICTED } else { 0 });
            }
        }
        if wish.mark {
            expected.insert(mark(service), Ways::default());
            assert_eq!(maps.v4.frontends[&mark(service)].flags, Frontend::VIP);
        }
    }
    assert_eq!(ways, expected);
    let states = maps.v4.endpoints.iter().filter(|it| it.state != 0);
    let states: Vec<_> = states.map(|it| (it.addr, it.state)).collect();
    assert_eq!(states.len(), live, "no endpoint is left over or missing");
    let wished = world.iter().flatten().flat_map(|wish| &wish.endpoints);
    for (number, state) in wished {
        assert!(states.contains(&(address(*number), *state)));
    }
    let sources = world.iter().flatten().map(|wish| wish.sources.len());
    assert_eq!(maps.v4.sources.len(), sources.sum::<usize>());
    for range in &maps.v4.sources {
        let name = &maps.services[&range.source.service].name;
        let wish = world
            .iter()
            .zip(b'0'..)
            .find(|(_, number)| name[1] == *number);
        let wish = wish.and_then(|(wish, _)| wish.as_ref()).expect("it exists");
        let mut networks = wish.sources.iter().map(|it| network(*it).addr);
        assert!(networks.any(|addr| addr == range.source.addr));
        assert_eq!(range.prefix, 32 + 24);
    }
    let marks = maps.v4.frontends.keys().filter(|key| key.proto == 0);
    for key in marks {
        let is_covered = maps
            .v4
            .ranges
            .iter()
            .any(|range| key.addr.0 & range.mask.0 == range.addr.0);
        assert!(is_covered, "no range for {:?}", key.addr);
    }
}

/// The live endpoints by what they stand for.
fn ids(maps: &FakeMaps) -> BTreeMap<(u32, V4), u32> {
    let live = maps.v4.endpoints.iter().filter(|it| it.state != 0);
    live.map(|it| ((it.service, it.addr), it.id)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_plan_leads_from_any_world_to_any_other_and_ids_stay_with_what_they_stand_for(
        worlds in worlds(), restarts: Vec<bool>,
    ) {
        let mut maps = FakeMaps::new(8, 64, 128);
        let mut planner = restore_planner(&maps).unwrap();
        for (at, world) in worlds.iter().enumerate() {
            let before = (ids(&maps), maps.v4.endpoints.clone());
            let plan = planner.plan(changes(world), Occasion::Complete, &Surroundings::default());
            let applied = apply(&mut maps, &plan);
            prop_assert!(applied.failed.is_empty(), "{:?}", applied.failed);
            prop_assert!(!planner.is_waiting());
            check(&maps, world);
            for (meaning, id) in ids(&maps) {
                if let Some(known) = before.0.get(&meaning) {
                    prop_assert_eq!(*known, id);
                } else if let Some(old) = before.1.get(endpoint_index(id) as usize) {
                    let generation = endpoint_generation(old.id).checked_add(1).unwrap_or(1);
                    prop_assert_eq!(endpoint_generation(id), generation);
                }
            }
            if restarts.get(at).copied().unwrap_or(true) {
                planner = restore_planner(&maps).unwrap();
            }
            let plan = planner.plan(changes(world), Occasion::Complete, &Surroundings::default());
            prop_assert_eq!(plan.steps(), []);
            let (v4, v6) = (maps.dump().unwrap(), maps.dump().unwrap());
            prop_assert_eq!(planner.count_mismatches(&maps.services().unwrap(), &v4, &v6), 0);
        }
    }

    #[test]
    fn a_plan_that_is_cut_off_anywhere_leaves_ways_that_are_right(
        worlds in worlds(), writes in 0..60usize,
    ) {
        let mut maps = FaultyMaps::new(FakeMaps::new(8, 64, 128), 0, 1);
        let mut planner = restore_planner(&maps).unwrap();
        for world in &worlds {
            let plan = planner.plan(changes(world), Occasion::Complete, &Surroundings::default());
            maps.writes_left = writes;
            for step in plan.steps() {
                let mut one = Plan::default();
                one.push(step.id, step.service.as_ref(), step.op.clone());
                if !apply(&mut maps, &one).failed.is_empty() {
                    break;
                }
                check_ways(&maps.inner);
            }
            check_ways(&maps.inner);
            maps.writes_left = usize::MAX;
            planner = restore_planner(&maps).unwrap();
            let plan = planner.plan(changes(world), Occasion::Complete, &Surroundings::default());
            apply(&mut maps, &plan);
            check(&maps.inner, world);
        }
    }
}

#[test]
fn endpoints_that_find_no_room_leave_the_service_as_it_was_till_there_is_room() {
    let wish = |numbers: &[u8]| Wish {
        endpoints: numbers.iter().map(|it| (*it, KNOWN | CLUSTER)).collect(),
        lists: [Some(List::Cluster), None, None],
        mark: true,
        affinity: 0,
        sources: BTreeSet::new(),
    };
    let mut maps = FakeMaps::new(8, 64, 128);
    maps.v4.endpoint_capacity = 4;
    let mut planner = restore_planner(&maps).unwrap();
    let mut go = |planner: &mut Planner, world: &[Option<Wish>]| {
        let plan = planner.plan(changes(world), Occasion::Complete, &Surroundings::default());
        assert!(apply(&mut maps, &plan).failed.is_empty());
        let problems: Vec<_> = planner.problems().map(|it| it.to_string()).collect();
        (maps.clone(), problems)
    };
    let first = [Some(wish(&[1, 2])), Some(wish(&[3]))];
    check(&go(&mut planner, &first).0, &first);
    let (maps, problems) = go(&mut planner, &[Some(wish(&[1, 2, 4, 5])), Some(wish(&[3]))]);
    check(&maps, &first);
    let told = "service default/s0: frontend 10.96.0.0:80/TCP: no room in map ENDPOINTS_V4; raise --max-slots";
    assert_eq!(problems, [told]);
    let last = [Some(wish(&[1, 2, 4, 5])), None];
    go(&mut planner, &last);
    assert!(planner.is_room_coming());
    go(&mut planner, &last);
    let (maps, problems) = go(&mut planner, &last);
    check(&maps, &last);
    assert_eq!(problems, Vec::<String>::new());
}

#[test]
fn source_ranges_that_find_no_room_leave_the_frontend_to_those_who_were_admitted() {
    let wish = |endpoint: u8, sources: &[u8]| Wish {
        endpoints: [(endpoint, KNOWN | CLUSTER)].into(),
        lists: [Some(List::Cluster), None, Some(List::Cluster)],
        mark: false,
        affinity: 0,
        sources: sources.iter().copied().collect(),
    };
    let mut maps = FakeMaps::new(8, 64, 128);
    maps.v4.source_capacity = 3;
    let mut planner = restore_planner(&maps).unwrap();
    let mut go = |planner: &mut Planner, world: &[Option<Wish>], occasion| {
        let plan = planner.plan(changes(world), occasion, &Surroundings::default());
        assert!(apply(&mut maps, &plan).failed.is_empty());
        let problems: Vec<_> = planner.problems().map(|it| it.to_string()).collect();
        (maps.clone(), problems)
    };
    let complete = Occasion::Complete;
    let first = [Some(wish(1, &[0])), Some(wish(2, &[1]))];
    let (before, problems) = go(&mut planner, &first, complete);
    check(&before, &first);
    assert_eq!(problems, [""; 0]);
    // The other frontends and endpoints of the service go on (rule 95).
    let second = [Some(wish(3, &[0, 2, 3])), Some(wish(2, &[1]))];
    let (maps, problems) = go(&mut planner, &second, complete);
    assert_eq!(maps.v4.sources, before.v4.sources);
    let told = "service default/s0: frontend 10.96.2.0:80/TCP: no room in map SOURCES_V4; raise --max-source-ranges";
    assert_eq!(problems, [told]);
    let balancer = maps.v4.frontends[&key(0, BALANCER)];
    assert_eq!(balancer.flags & RESTRICTED, RESTRICTED, "it is not open");
    assert_eq!(check_ways(&maps)[&key(0, 0)].0, [address(3)].into());
    // The mirror made anew says the same, and so does a restart.
    let mut restarted = restore_planner(&maps).unwrap();
    restarted.plan(changes(&second), complete, &Surroundings::default());
    assert_eq!(restarted.problems().count(), 1);
    // Somebody who is restricted for the first time and finds no room admits nobody.
    let third = [
        Some(wish(3, &[0, 2, 3])),
        Some(wish(2, &[1])),
        Some(wish(4, &[0, 1])),
    ];
    let (maps, _) = go(&mut planner, &third, complete);
    let balancer = maps.v4.frontends[&key(2, BALANCER)];
    assert_eq!(balancer.flags & RESTRICTED, RESTRICTED, "it is not open");
    let last = [Some(wish(3, &[0, 2, 3])), None, None];
    go(&mut planner, &last, complete);
    assert!(planner.is_room_coming());
    let (maps, problems) = go(&mut planner, &[], Occasion::Change);
    check(&maps, &last);
    assert_eq!(problems, [""; 0]);
}
