//! No slot has two owners, and none is lost: by example and by property.

use proptest::prelude::*;

use super::*;

const CAPACITY: u32 = 64;

fn range(base: u32, len: u32) -> SlotRange {
    SlotRange { base, len }
}

#[test]
fn a_cold_start_fills_the_array_without_a_gap() {
    let mut pool = SlotPool::new(CAPACITY, []);
    let given: Vec<_> = [3, 1, 0, 5]
        .into_iter()
        .filter_map(|len| pool.find_room(len))
        .collect();
    assert_eq!(given, [range(0, 3), range(3, 1), range(0, 0), range(4, 5)]);
}

#[test]
fn a_freed_range_rests_for_one_plan() {
    let mut pool = SlotPool::new(4, []);
    let whole = pool.find_room(4).unwrap();
    pool.release(whole);
    assert_eq!(pool.find_room(1), None, "not in the plan that freed it");
    assert!(!pool.advance());
    assert_eq!(pool.find_room(1), None, "nor in the next one");
    assert!(pool.is_room_coming());
    assert!(pool.advance());
    assert_eq!(pool.find_room(4), Some(whole));
}

#[test]
fn the_smallest_gap_that_fits_is_taken() {
    let mut pool = SlotPool::new(20, [range(8, 1), range(11, 9)]);
    assert_eq!(pool.find_room(2), Some(range(9, 2)));
    assert_eq!(pool.find_room(8), Some(range(0, 8)));
    assert_eq!(pool.find_room(1), None);
}

#[test]
fn small_changes_do_not_use_up_the_room_for_large_ones() {
    // Everything is replaced again and again by ranges of other sizes, with a third of it spare.
    let mut pool = SlotPool::new(3000, []);
    let mut owned: Vec<SlotRange> = (0..100).map(|_| pool.find_room(10).unwrap()).collect();
    for round in 0u32..10_000 {
        pool.advance();
        let at = (round as usize * 37) % owned.len();
        let len = 5 + (round * 7) % 11;
        let new = pool
            .find_room(len)
            .unwrap_or_else(|| panic!("round {round}: no room for {len}"));
        pool.release(std::mem::replace(&mut owned[at], new));
    }
}

#[derive(Clone, Debug)]
enum Action {
    Allocate(u32),
    Release(prop::sample::Index),
    Advance,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0u32..12).prop_map(Action::Allocate),
        3 => any::<prop::sample::Index>().prop_map(Action::Release),
        2 => Just(Action::Advance),
    ];
    prop::collection::vec(action, 0..200)
}

/// Panics unless `owned`, the quarantined and the free ranges cover every slot exactly once, and the
/// free ones are merged.
fn check(pool: &SlotPool, owned: &[SlotRange]) {
    let mut owners = [0; CAPACITY as usize];
    let free = pool.free.iter().map(|(&base, &len)| range(base, len));
    for range in free
        .chain(pool.quarantine.iter().copied())
        .chain(owned.iter().copied())
    {
        for slot in range.base..range.end() {
            owners[slot as usize] += 1;
        }
    }
    assert_eq!(owners, [1; CAPACITY as usize], "{pool:?} {owned:?}");
    for (base, len) in &pool.free {
        assert!(
            !pool.free.contains_key(&(base + len)),
            "free neighbours are not merged: {pool:?}"
        );
    }
    assert_eq!(
        pool.by_len,
        pool.free.iter().map(|(&base, &len)| (len, base)).collect()
    );
}

proptest! {
    #[test]
    fn every_slot_has_one_owner_at_any_time(actions in actions()) {
        let mut pool = SlotPool::new(CAPACITY, []);
        let mut owned = Vec::new();
        for action in actions {
            match action {
                Action::Allocate(len) => owned.extend(pool.find_room(len)),
                Action::Release(at) if !owned.is_empty() => {
                    pool.release(owned.swap_remove(at.index(owned.len())));
                }
                Action::Release(_) => {}
                Action::Advance => { pool.advance(); }
            }
            check(&pool, &owned);
        }
        // Nothing is lost: given back, it is one free range again.
        for range in owned {
            pool.release(range);
        }
        pool.advance();
        pool.advance();
        prop_assert_eq!(pool.find_room(CAPACITY), Some(range(0, CAPACITY)));
    }

    #[test]
    fn a_pool_around_used_ranges_gives_out_the_rest(used in prop::collection::vec(any::<bool>(), CAPACITY as usize)) {
        let used: Vec<_> = (0..CAPACITY).filter(|&slot| used[slot as usize]).map(|slot| range(slot, 1)).collect();
        check(&SlotPool::new(CAPACITY, used.clone()), &used);
    }
}
