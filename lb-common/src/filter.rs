//! Which packets may be for a frontend at all: a Bloom filter with one hash, the arrays `FILTER_V4` and `FILTER_V6`.
//!
//! A packet that is none of ours is known as such by one bit, and pays no lookup; one of a known connection goes to its flow
//! right away, without its frontend. A bit that is set for nobody costs a lookup: bits are set before a frontend
//! is written, and cleared now and then.

use crate::{address::Address, tables::FrontendKey};

/// Entries of each array, 64 bits each: 128 KiB. Of packets that are none of ours a tenth pay for a lookup at 100,000 frontends.
pub const FILTER_WORDS: u32 = 1 << (BITS - 6);

/// Binary digits of a bit's number.
const BITS: u32 = 20;

/// Odd numbers that scatter, one for each word of an address (of SplitMix64 and of Stafford's mixers).
const SCATTER: [u64; 4] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xff51_afd7_ed55_8ccd,
];

/// Where the bit of a frontend stands: the index of its word, and the bit in there.
#[inline(always)]
pub fn place<A: Address>(key: &FrontendKey<A>) -> (u32, u64) {
    let mut hash = u64::from(key.port) << 40 | u64::from(key.proto) << 32;
    // None waits for another.
    for (word, scatter) in key.addr.words().iter().zip(SCATTER) {
        hash = hash.wrapping_add(u64::from(*word).wrapping_mul(scatter));
    }
    let bit = (hash ^ hash >> 32).wrapping_mul(SCATTER[0]) >> (64 - BITS);
    ((bit >> 6) as u32, 1 << (bit & 63))
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;
    use std::collections::BTreeSet;

    use super::*;
    use crate::address::{V4, V6};

    /// How many of the bits of so many keys are different ones.
    fn spread<A: Address>(keys: impl Iterator<Item = FrontendKey<A>>) -> (usize, usize) {
        let places: std::vec::Vec<_> = keys.map(|key| place(&key)).collect();
        assert!(
            places
                .iter()
                .all(|(word, bit)| *word < FILTER_WORDS && bit.is_power_of_two())
        );
        let different: BTreeSet<_> = places.iter().collect();
        (different.len(), places.len())
    }

    #[test]
    fn neighbours_have_bits_of_their_own() {
        let v4 = |number: u32| {
            FrontendKey::new(
                V4::from(Ipv4Addr::from(0x0a60_0000 + number)),
                80_u16.to_be(),
                6,
            )
        };
        let v6 =
            |number: u32| FrontendKey::new(V6([0xfd, 0, 0, number.to_be()]), 443_u16.to_be(), 17);
        let ports = |number: u16| FrontendKey::new(V4(1), number.to_be(), 6);
        for (different, all) in [
            spread((0..50_000).map(v4)),
            spread((0..50_000).map(v6)),
            spread((0..50_000).map(ports)),
        ] {
            // A perfect scatter leaves 97.6 % of them.
            assert!(different * 100 > all * 95, "{different} of {all}");
        }
    }
}
