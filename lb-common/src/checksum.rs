//! Internet checksum arithmetic (RFC 1071, RFC 1624): only ever the difference a change makes.
//!
//! A [`Delta`] collects what was replaced; it is then applied to a checksum that stands on the wire, or
//! handed to the kernel, which alone knows whether the field on the wire is a complete checksum or only
//! the pseudo-header's part of one (`CHECKSUM_PARTIAL`). One's complement sums do not care about byte
//! order, so all words are used as they stand in the packet.

/// The running one's complement sum of new words minus old words. Not a checksum: see
/// [`Delta::apply`] and [`Delta::to_wsum`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u64);

impl Delta {
    /// Nothing replaced.
    #[inline(always)]
    pub const fn new() -> Self {
        Self(0)
    }

    /// `old` became `new`, both at an even offset.
    #[inline(always)]
    #[must_use]
    pub const fn replace_u16(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// `old` became `new`, both at an even offset.
    #[inline(always)]
    #[must_use]
    pub const fn replace_u32(self, old: u32, new: u32) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// The words of `old` became those of `new`; both have the same length.
    #[inline(always)]
    #[must_use]
    pub fn replace_words(mut self, old: &[u32], new: &[u32]) -> Self {
        for (old, new) in old.iter().zip(new) {
            self = self.replace_u32(*old, *new);
        }
        self
    }

    /// The replacements of both.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// As the kernel's `__wsum`: 32 bits, carries folded in. What `bpf_l4_csum_replace` takes as a
    /// difference.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the high half is folded in first"
    )]
    pub const fn to_wsum(self) -> u32 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((sum & 0xffff_ffff) + (sum >> 32)) as u32
    }

    /// The checksum that stood as `checksum` on the wire, after the replacements.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + !checksum as u64)
    }

    /// The same change in 16 bits: for one that is applied more than once, most of the work is done then.
    #[inline(always)]
    #[must_use]
    pub const fn reduce(self) -> Self {
        Self(fold(self.0) as u64)
    }

    /// [`Self::apply`] for a UDP checksum: 0 on the wire means that there is none (RFC 768) and stays,
    /// a computed 0 is sent as 0xffff.
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Folds the carries of a sum of 16-bit words.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the last fold leaves 16 bits"
)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The unfolded sum of 32-bit words.
#[inline(always)]
pub fn sum_words(words: &[u32]) -> u64 {
    words.iter().fold(0, |sum, word| sum + u64::from(*word))
}

/// The Internet checksum of `bytes` as it stands on the wire, `start` being an unfolded sum of what
/// goes before (a pseudo-header). For tests and for packets made from nothing; the packet path only
/// needs [`Delta`].
pub fn checksum(start: u64, bytes: &[u8]) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        let last = pair.get(1).copied().unwrap_or(0);
        sum += u64::from(u16::from_ne_bytes([pair[0], last]));
    }
    !fold(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    proptest! {
        #[test]
        fn delta_gives_what_computing_afresh_gives(
            mut bytes in prop::collection::vec(any::<u8>(), 8..64),
            at in 0usize..28, new in any::<u32>(),
        ) {
            let at = (at * 2 % (bytes.len() - 4 + 1)) & !1;
            let before = checksum(0, &bytes);
            let old = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            let after = Delta::new().replace_u32(old, new).apply(before);
            let fresh = checksum(0, &bytes);
            // 0 and 0xffff are the same number in one's complement arithmetic.
            prop_assert!(after == fresh || (after ^ fresh == 0xffff && (after == 0 || fresh == 0)));
        }

        #[test]
        fn halves_and_words_agree(old in any::<u32>(), new in any::<u32>(), sum in 1u16..) {
            let split = |x: u32| ((x & 0xffff) as u16, (x >> 16) as u16);
            let halves = Delta::new()
                .replace_u16(split(old).0, split(new).0)
                .replace_u16(split(old).1, split(new).1);
            prop_assert_eq!(Delta::new().replace_u32(old, new).apply(sum), halves.apply(sum));
        }

        #[test]
        fn a_change_and_its_inverse_leave_the_checksum(
            old in any::<[u32; 4]>(), new in any::<[u32; 4]>(), sum in 1u16..0xffff,
        ) {
            let there = Delta::new().replace_words(&old, &new).apply(sum);
            prop_assert_eq!(Delta::new().replace_words(&new, &old).apply(there), sum);
        }

        #[test]
        fn wsum_folds_to_the_same_number(words in prop::collection::vec(any::<(u32, u32)>(), 0..12)) {
            let delta = words.iter().fold(Delta::new(), |d, (old, new)| d.replace_u32(*old, *new));
            let through_kernel = !fold(u64::from(delta.to_wsum()) + u64::from(!0x1234u16));
            prop_assert_eq!(through_kernel, delta.apply(0x1234));
        }
    }

    #[test]
    fn a_change_that_is_reduced_does_the_same() {
        let delta = Delta::new().replace_words(&[1, 0xffff_0000], &[0xdead_beef, 7]);
        for checksum in 1..u16::MAX {
            assert_eq!(delta.reduce().apply(checksum), delta.apply(checksum));
        }
    }

    /// What the kernel's helper makes of a field (inet_proto_csum_replace_by_diff) tells which it was, but for a change of nothing.
    #[test]
    fn the_kernels_answer_tells_whose_the_checksum_is() {
        use crate::reply::ChecksumState::{self, Complete, Partial};
        let delta = Delta::new()
            .replace_words(&[0x0a60_0001], &[0x0af4_0105])
            .reduce();
        let none = Delta::new().replace_u16(3, 3).reduce();
        for before in 0..=u16::MAX {
            let partial = |delta: Delta| fold(u64::from(before) + u64::from(delta.to_wsum()));
            let told = |after, delta| ChecksumState::told_by(false, before, after, delta);
            assert_eq!(told(delta.apply(before), delta), Some(Complete), "{before}");
            assert_eq!(told(partial(delta), delta), Some(Partial), "{before}");
            // 0 and 0xffff are one number in two forms, and each way makes the other form of one of them.
            assert!(matches!(
                told(none.apply(before), none),
                None | Some(Complete)
            ));
            assert!(matches!(told(partial(none), none), None | Some(Partial)));
        }
    }

    #[test]
    fn udp_without_checksum_stays_without_and_never_becomes_so() {
        assert_eq!(Delta::new().replace_u16(1, 2).apply_udp(0), 0);
        let zeros: Vec<u16> = (1..=u16::MAX)
            .filter(|sum| Delta::new().replace_u16(0, *sum).apply_udp(*sum) == 0)
            .collect();
        assert!(zeros.is_empty());
    }

    #[test]
    fn known_header_has_its_known_checksum() {
        // The example of RFC 1071, section 3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(
            checksum(0, &bytes),
            !u16::from_be_bytes([0xdd, 0xf2]).to_be()
        );
    }
}
