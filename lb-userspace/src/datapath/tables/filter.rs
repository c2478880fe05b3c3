//! The filter that packets ask before they look for a frontend (`lb_common::filter`), kept beside the frontends.
//!
//! A bit is set before its frontend is written. Whether another frontend needs it when one is removed nobody keeps in
//! mind: bits stay, and from time to time, and when an agent starts, all are written anew.

use aya::maps::{Array, MapData, MapError};
use lb_common::{
    address::Address,
    filter::{FILTER_WORDS, place},
    tables::FrontendKey,
};

use crate::datapath::batch;

/// Frontends that may be removed before the filter is written anew: as many bits may be set for nobody.
const STALE: usize = 4096;

/// The filter of one family.
pub(super) struct Filter {
    map: Array<MapData, u64>,
    /// What the map is to hold.
    words: Vec<u64>,
    /// Words that could not be written.
    pending: Vec<u32>,
    /// Frontends that were removed since.
    stale: usize,
}

impl Filter {
    /// The filter in `map`; [`Filter::renew`] has to follow.
    pub(super) fn take(map: Array<MapData, u64>) -> Result<Self, MapError> {
        let words = batch::read_first(&map, FILTER_WORDS as usize)?;
        Ok(Self {
            map,
            words,
            pending: vec![],
            stale: STALE,
        })
    }

    /// Lets packets for these frontends through, and goes on letting through all others.
    pub(super) fn admit<A: Address>(
        &mut self,
        keys: impl IntoIterator<Item = FrontendKey<A>>,
    ) -> Result<(), MapError> {
        let mut wanted = Vec::new();
        for key in keys.into_iter().filter(|key| !key.is_mark()) {
            let (index, bit) = place(&key);
            if self
                .words
                .get(index as usize)
                .is_some_and(|word| word & bit == 0)
            {
                self.words[index as usize] |= bit;
                wanted.push(index);
            }
        }
        self.write(wanted)
    }

    /// Notes that a frontend has been removed; whether it is time for [`Filter::renew`].
    pub(super) fn note_removed(&mut self) -> bool {
        self.stale += 1;
        self.stale > STALE
    }

    /// Lets packets through for these frontends alone.
    pub(super) fn renew<A: Address>(
        &mut self,
        keys: impl IntoIterator<Item = FrontendKey<A>>,
    ) -> Result<(), MapError> {
        let mut words = vec![0; self.words.len()];
        for key in keys.into_iter().filter(|key| !key.is_mark()) {
            let (index, bit) = place(&key);
            if let Some(word) = words.get_mut(index as usize) {
                *word |= bit;
            }
        }
        let changed = (0..)
            .zip(words.iter().zip(&self.words))
            .filter(|(_, (new, old))| new != old)
            .map(|(index, _)| index)
            .collect();
        self.words = words;
        self.write(changed)?;
        self.stale = 0;
        Ok(())
    }

    /// Writes the words of these indexes, and those that could not be written before.
    fn write(&mut self, mut indexes: Vec<u32>) -> Result<(), MapError> {
        indexes.append(&mut self.pending);
        indexes.sort_unstable();
        indexes.dedup();
        let words: Vec<u64> = indexes.iter().map(|at| self.words[*at as usize]).collect();
        batch::update(&mut self.map, &indexes, &words).inspect_err(|_| self.pending = indexes)
    }
}

#[cfg(test)]
mod tests {
    use lb_common::address::V4;

    use super::*;

    fn key(number: u32) -> FrontendKey<V4> {
        FrontendKey::new(V4(number), 80, 6)
    }

    fn lets_through(filter: &Filter, number: u32) -> bool {
        let (index, bit) = place(&key(number));
        let word = filter.map.get(&index, 0).unwrap();
        assert_eq!(word, filter.words[index as usize]);
        word & bit != 0
    }

    #[test]
    fn what_is_admitted_is_let_through_until_it_is_left_out() {
        let Ok(map) = Array::create(FILTER_WORDS, 0) else {
            eprintln!("skipped: making BPF maps takes root");
            return;
        };
        let mut filter = Filter::take(map).unwrap();
        filter.renew((0..100).map(key)).unwrap();
        filter
            .admit([key(200), FrontendKey::mark(V4(300))])
            .unwrap();
        assert!(
            (0..100)
                .chain([200])
                .all(|number| lets_through(&filter, number))
        );
        assert!(!lets_through(&filter, 201) && !lets_through(&filter, 300));
        let removed: Vec<_> = (0..=STALE).map(|_| filter.note_removed()).collect();
        assert_eq!(removed.iter().position(|is_time| *is_time), Some(STALE));
        filter.renew([key(7)]).unwrap();
        assert!(lets_through(&filter, 7) && !lets_through(&filter, 8));
        assert!(!filter.note_removed());
    }
}
