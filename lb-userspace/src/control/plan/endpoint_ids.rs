//! Ids of endpoints: which index of the endpoints array is whose, and in which generation.
//!
//! Flows and affinity remember an endpoint by its id alone, so an id must not come to mean another
//! endpoint while anything remembers it. An index that comes free therefore rests like all else
//! ([`Quarantine`]), gets the next generation when it is given out again, and the one that has been free
//! longest goes first, never used ones before all. Five bytes an index at most.

use std::collections::VecDeque;

use lb_common::tables::{endpoint_generation, endpoint_id, endpoint_index};

use super::quarantine::Quarantine;

/// Indices below a capacity, each in use, in quarantine or free.
#[derive(Clone, Debug, Default)]
pub struct EndpointPool {
    capacity: u32,
    /// The last generation of each index; 0: never used. From its end on none was.
    generations: Vec<u8>,
    /// Free indices below that end, longest free first.
    free: VecDeque<u32>,
    quarantine: Quarantine<u32>,
}

impl EndpointPool {
    /// The indices below `capacity`, of which the first ones have been in these generations (0: never
    /// used) and those that `is_used` are given out.
    pub fn new(
        capacity: u32,
        mut generations: Vec<u8>,
        mut is_used: impl FnMut(u32) -> bool,
    ) -> Self {
        generations.truncate(capacity as usize);
        let free = (0..capacity)
            .zip(&generations)
            .map(|(index, _)| index)
            .filter(|index| !is_used(*index))
            .collect();
        Self {
            capacity,
            generations,
            free,
            quarantine: Quarantine::default(),
        }
    }

    /// How many ids can be given out now.
    pub fn available(&self) -> usize {
        self.capacity as usize - self.generations.len() + self.free.len()
    }

    /// Gives out an id that no endpoint has had for long.
    pub fn find_id(&mut self) -> Option<u32> {
        if let Ok(index) = u32::try_from(self.generations.len())
            && index < self.capacity
        {
            self.generations.push(1);
            return Some(endpoint_id(index, 1));
        }
        let index = self.free.pop_front()?;
        let generation = self.generations.get_mut(index as usize)?;
        *generation = generation.checked_add(1).unwrap_or(1);
        Some(endpoint_id(index, *generation))
    }

    /// Takes an id back, into quarantine.
    pub fn release(&mut self, id: u32) {
        let index = endpoint_index(id);
        debug_assert_eq!(
            self.generations.get(index as usize),
            Some(&endpoint_generation(id)),
            "endpoint id {id:#x} was not given out"
        );
        self.quarantine.add(index);
    }

    /// Begins the next plan; whether that set any index free.
    pub fn advance(&mut self) -> bool {
        let freed = self.quarantine.advance();
        let any = !freed.is_empty();
        self.free.extend(freed);
        any
    }

    /// Whether indices are on their way to being free.
    pub fn is_room_coming(&self) -> bool {
        !self.quarantine.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(id: Option<u32>) -> Option<(u32, u8)> {
        id.map(|id| (endpoint_index(id), endpoint_generation(id)))
    }

    #[test]
    fn what_was_never_used_goes_first_and_then_what_has_been_free_longest() {
        let mut pool = EndpointPool::new(4, vec![7, 9, 3], |index| index == 1);
        assert_eq!(parts(pool.find_id()), Some((3, 1)));
        assert_eq!(parts(pool.find_id()), Some((0, 8)));
        pool.release(endpoint_id(3, 1));
        pool.advance();
        pool.release(endpoint_id(1, 9));
        pool.advance();
        pool.advance();
        let rest = [2, 3, 1].map(|_| parts(pool.find_id()));
        assert_eq!(rest, [Some((2, 4)), Some((3, 2)), Some((1, 10))]);
        assert_eq!(pool.find_id(), None);
    }

    #[test]
    fn a_freed_index_rests_for_one_plan() {
        let mut pool = EndpointPool::new(1, vec![], |_| false);
        let id = pool.find_id().unwrap();
        pool.release(id);
        assert_eq!(
            (pool.find_id(), pool.available()),
            (None, 0),
            "not in the plan that freed it"
        );
        assert!(!pool.advance() && pool.is_room_coming());
        assert_eq!(pool.find_id(), None, "nor in the next one");
        assert!(pool.advance());
        assert_eq!(parts(pool.find_id()), Some((0, 2)));
    }

    #[test]
    fn after_the_last_generation_comes_the_first_and_never_none() {
        let mut pool = EndpointPool::new(2, vec![255, 0], |_| false);
        assert_eq!(parts(pool.find_id()), Some((0, 1)));
        assert_eq!(parts(pool.find_id()), Some((1, 1)));
    }
}
