//! Ids of service ports: small numbers, because they index the traffic counters.
//!
//! They are never renumbered, since flows and affinity refer to them across restarts (rule 93). The
//! smallest free one is given out, so that the counters in use stay close together.

use std::collections::BTreeSet;

use super::quarantine::Quarantine;

/// Ids below a capacity, each in use, in quarantine or free.
#[derive(Clone, Debug)]
pub struct IdPool {
    capacity: u32,
    /// All ids from here on are free.
    next: u32,
    /// Free ids below `next`.
    free: BTreeSet<u32>,
    quarantine: Quarantine<u32>,
    /// Ids from here on have had no owner in these maps, so that their counters are zero.
    unused: u32,
}

impl IdPool {
    /// The ids below `capacity`, those in `used` given out already (others among them are ignored).
    pub fn new(capacity: u32, used: impl IntoIterator<Item = u32>) -> Self {
        let used: BTreeSet<u32> = used.into_iter().filter(|&id| id < capacity).collect();
        let next = used.last().map_or(0, |last| last + 1);
        let free: BTreeSet<u32> = (0..next).filter(|id| !used.contains(id)).collect();
        // An empty map is a new one. Any other may have forgotten a higher id that once was in use.
        let unused = if next == 0 { 0 } else { capacity };
        Self {
            capacity,
            next,
            free,
            quarantine: Quarantine::default(),
            unused,
        }
    }

    /// Gives out the smallest free id, and whether its counters may be other than zero.
    pub fn find_id(&mut self) -> Option<(u32, bool)> {
        let id = match self.free.pop_first() {
            Some(id) => id,
            None if self.next < self.capacity => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        let used_before = id < self.unused;
        self.unused = self.unused.max(id + 1);
        Some((id, used_before))
    }

    /// Takes `id` back, into quarantine; one beyond the capacity is none of ours.
    pub fn release(&mut self, id: u32) {
        if id < self.capacity {
            self.quarantine.add(id);
        }
    }

    /// Begins the next plan; whether that set any id free.
    pub fn advance(&mut self) -> bool {
        let freed = self.quarantine.advance();
        let any = !freed.is_empty();
        self.free.extend(freed);
        any
    }

    /// Whether ids are on their way to being free.
    pub fn is_room_coming(&self) -> bool {
        !self.quarantine.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(pool: &mut IdPool, count: usize) -> Vec<u32> {
        (0..count).filter_map(|_| Some(pool.find_id()?.0)).collect()
    }

    #[test]
    fn the_smallest_free_id_comes_first() {
        let mut pool = IdPool::new(10, [0, 3, 99]);
        assert_eq!(ids(&mut pool, 4), [1, 2, 4, 5]);
    }

    #[test]
    fn a_freed_id_rests_for_one_plan() {
        let mut pool = IdPool::new(2, []);
        assert_eq!(ids(&mut pool, 3), [0, 1]);
        pool.release(0);
        assert_eq!(pool.find_id(), None, "not in the plan that freed it");
        assert!(!pool.advance());
        assert_eq!(pool.find_id(), None, "nor in the next one");
        assert!(pool.advance());
        assert_eq!(pool.find_id(), Some((0, true)));
        assert!(!pool.is_room_coming());
    }

    #[test]
    fn counters_are_known_to_be_zero_only_for_ids_that_were_never_used() {
        let mut fresh = IdPool::new(10, []);
        assert_eq!(fresh.find_id(), Some((0, false)));
        fresh.release(0);
        fresh.advance();
        fresh.advance();
        assert_eq!(fresh.find_id(), Some((0, true)));
        assert_eq!(fresh.find_id(), Some((1, false)));
        // Once an agent has run here, any id may have been used.
        assert_eq!(IdPool::new(10, [0]).find_id(), Some((1, true)));
    }
}
