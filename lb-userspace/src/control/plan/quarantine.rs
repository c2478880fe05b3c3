//! Freed ids, slots and endpoints on their way back to being free.
//!
//! A packet that has read a frontend just before it was changed still follows it to its slots and on to
//! an endpoint. What one plan frees is therefore not given out again by that plan, whose slots are written before its
//! frontends, nor by the next one, which may follow at once.

/// What was freed lately, by the plan that freed it.
#[derive(Clone, Debug)]
pub(super) struct Quarantine<T> {
    /// Freed by the plan that is being made.
    fresh: Vec<T>,
    /// Freed by the plan before it.
    resting: Vec<T>,
}

impl<T> Default for Quarantine<T> {
    fn default() -> Self {
        Self {
            fresh: Vec::new(),
            resting: Vec::new(),
        }
    }
}

impl<T> Quarantine<T> {
    pub(super) fn add(&mut self, freed: T) {
        self.fresh.push(freed);
    }

    /// Begins the next plan; returns what it may give out again.
    pub(super) fn advance(&mut self) -> Vec<T> {
        std::mem::replace(&mut self.resting, std::mem::take(&mut self.fresh))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.resting.is_empty()
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.fresh.iter().chain(&self.resting)
    }
}
