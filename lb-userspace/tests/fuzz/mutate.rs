//! Small damage to an input.

use rand::{RngExt as _, rngs::SmallRng};

const LONGEST: usize = 4_096;

/// Makes `into` a mutant of `seed`, now and then with something of `other`.
pub(crate) fn run(rng: &mut SmallRng, seed: &[u8], other: &[u8], into: &mut Vec<u8>) {
    into.clear();
    into.extend(seed);
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=into.len());
        match rng.random_range(0..10) {
            0..=2 if at < into.len() => into[at] ^= 1 << rng.random_range(0..8),
            3 | 4 if at < into.len() => into[at] = rng.random(),
            5 if at < into.len() => {
                let values = [0, 0xff, 0x7f, 0x80, b'\n', b'-', b'0', b'\'', b'{', b' '];
                into[at] = values[rng.random_range(0..values.len())];
            }
            6 => into.truncate(at),
            7 => into.insert(at, rng.random()),
            8 => {
                let end = rng.random_range(at..=into.len()).min(at + 40);
                into.drain(at..end);
            }
            _ => {
                let from = rng.random_range(0..=other.len());
                let end = rng.random_range(from..=other.len()).min(from + 60);
                into.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
    into.truncate(LONGEST);
}
