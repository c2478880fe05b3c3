//! What thousands of slices have in common, kept once: lists of ports, and sets of zones.
//!
//! Nearly all slices of a cluster have one of a few lists of ports, and the zones that endpoints are meant for
//! are a handful; without sharing, their names would cost more memory than the endpoints.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::slices::Hint;
use crate::model::SlicePort;

/// Lists of ports by content.
#[derive(Debug, Default)]
pub(super) struct PortLists {
    lists: HashSet<Arc<[SlicePort]>>,
    /// When there are so many, those that nobody uses are dropped.
    limit: usize,
}

impl PortLists {
    /// The one copy of `ports`.
    pub(super) fn share(&mut self, ports: Vec<SlicePort>) -> Arc<[SlicePort]> {
        if let Some(known) = self.lists.get(&*ports) {
            return known.clone();
        }
        if self.lists.len() >= self.limit {
            self.lists.retain(|list| Arc::strong_count(list) > 1);
            // Twice of what is in use: the cost is shared by as many new lists.
            self.limit = (2 * self.lists.len()).max(64);
        }
        let list: Arc<[SlicePort]> = ports.into();
        self.lists.insert(list.clone());
        list
    }
}

/// Sets of zones by number; 0 is the empty one.
#[derive(Debug, Default)]
pub(in super::super) struct Zones {
    numbers: HashMap<Arc<[Box<str>]>, u16>,
    /// By number - 1: the set, and whether our zone is in it; `None`: free.
    sets: Vec<Option<(Arc<[Box<str>]>, bool)>>,
    free: Vec<u16>,
    /// The zone of our node (rule 39: there may be none).
    own: Option<Box<str>>,
}

impl Zones {
    /// The number of the set of `zones`.
    ///
    /// When all numbers are in use that of the empty set: such an endpoint has no zone hints, so that its
    /// Service is served without regard to zones (rule 35).
    pub(super) fn number(&mut self, zones: Vec<String>) -> u16 {
        if zones.is_empty() {
            return 0;
        }
        let mut set: Vec<Box<str>> = zones.into_iter().map(String::into_boxed_str).collect();
        set.sort();
        set.dedup();
        if let Some(&number) = self.numbers.get(&*set) {
            return number;
        }
        let next = || u16::try_from(self.sets.len() + 1).ok();
        let Some(number) = self.free.pop().or_else(next) else {
            return 0;
        };
        let set: Arc<[Box<str>]> = set.into();
        let is_ours = self.own.as_ref().is_some_and(|own| set.contains(own));
        let place = usize::from(number) - 1;
        if place == self.sets.len() {
            self.sets.push(None);
        }
        self.sets[place] = Some((set.clone(), is_ours));
        self.numbers.insert(set, number);
        number
    }

    /// What a hint with the set of that number says to us.
    pub(super) fn hint(&self, number: u16) -> Hint {
        match usize::from(number).checked_sub(1).map(|at| &self.sets[at]) {
            None | Some(None) => Hint::None,
            Some(Some((_, true))) => Hint::Here,
            Some(Some((_, false))) => Hint::Elsewhere,
        }
    }

    /// Our node's zone; whether that is another one than before.
    pub(super) fn set_own(&mut self, zone: Option<&str>) -> bool {
        if self.own.as_deref() == zone {
            return false;
        }
        self.own = zone.map(Into::into);
        for (set, is_ours) in self.sets.iter_mut().flatten() {
            *is_ours = self.own.as_ref().is_some_and(|own| set.contains(own));
        }
        true
    }

    /// Whether there is no number left for another set.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.sets.len() == usize::from(u16::MAX)
    }

    /// Forgets all sets but those `used`.
    pub(super) fn keep(&mut self, used: impl Iterator<Item = u16>) {
        let used: HashSet<u16> = used.collect();
        for (number, set) in (1..=u16::MAX).zip(&mut self.sets) {
            if !used.contains(&number)
                && let Some((set, _)) = set.take()
            {
                self.numbers.remove(&set);
                self.free.push(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;

    fn set(zones: &[&str]) -> Vec<String> {
        zones.iter().map(|zone| (*zone).to_owned()).collect()
    }

    #[test]
    fn a_set_has_one_number_in_whatever_order_it_is_named() {
        let mut zones = Zones::default();
        assert_eq!(zones.number(set(&[])), 0);
        let number = zones.number(set(&["b", "a"]));
        assert_eq!(zones.number(set(&["a", "b", "a"])), number);
        assert_ne!(zones.number(set(&["a"])), number);
    }

    #[test]
    fn hints_follow_our_zone() {
        let mut zones = Zones::default();
        let ab = zones.number(set(&["a", "b"]));
        assert_eq!(zones.hint(0), Hint::None);
        assert_eq!(zones.hint(ab), Hint::Elsewhere, "rule 39: we have no zone");
        assert!(zones.set_own(Some("b")));
        assert_eq!(zones.hint(ab), Hint::Here);
        let c = zones.number(set(&["c"]));
        assert_eq!(zones.hint(c), Hint::Elsewhere);
        assert!(!zones.set_own(Some("b")));
        assert!(zones.set_own(None));
        assert_eq!(zones.hint(ab), Hint::Elsewhere);
    }

    #[test]
    fn numbers_that_nobody_uses_are_given_out_again() {
        let mut zones = Zones::default();
        for i in 0..u16::MAX {
            assert_eq!(zones.number(set(&[&i.to_string()])), i + 1);
        }
        assert!(zones.is_full());
        assert_eq!(zones.number(set(&["one more"])), 0);
        zones.keep([7].into_iter());
        assert_eq!(zones.number(set(&["6"])), 7);
        let number = zones.number(set(&["one more"]));
        assert!(number != 0 && number != 7 && !zones.is_full());
        assert_eq!(zones.hint(8), Hint::None);
    }

    #[test]
    fn equal_lists_of_ports_are_one_and_unused_ones_are_dropped() {
        let port = |port| SlicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port,
        };
        let mut lists = PortLists::default();
        let kept = lists.share(vec![port(80)]);
        assert!(Arc::ptr_eq(&kept, &lists.share(vec![port(80)])));
        for number in 1..10_000 {
            lists.share(vec![port(number)]);
        }
        assert!(lists.lists.len() <= 64, "{}", lists.lists.len());
        assert!(Arc::ptr_eq(&kept, &lists.share(vec![port(80)])));
    }
}
