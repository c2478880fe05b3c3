//! Who has most flows.

use std::{collections::HashMap, hash::Hash};

/// Numbers of flows by something.
#[derive(Clone, Debug)]
pub struct Counts<K> {
    counts: HashMap<K, u64>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
        }
    }
}

impl<K: Hash + Ord> Counts<K> {
    /// One more of `key`.
    pub fn add(&mut self, key: K) {
        *self.counts.entry(key).or_default() += 1;
    }

    /// The `n` with most, most first; of those with equally many, the lesser key.
    pub fn top(self, n: usize) -> Vec<(K, u64)> {
        let mut all: Vec<_> = self.counts.into_iter().collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(n);
        all
    }
}
