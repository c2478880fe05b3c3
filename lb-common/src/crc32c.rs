//! CRC32c (Castagnoli), SCTP's checksum (RFC 9260, appendix A).
//!
//! It covers the whole packet and no pseudo-header: a change of address leaves it, a change of port does
//! not. No packet is read anew for that. A CRC is linear, so the new one is the old one plus that of the
//! difference, which is zero but for the ports; and to append a zero byte to a message is to multiply its
//! CRC by x^8 in the field of polynomials. Least significant bit first throughout, as SCTP has it.

use crate::{headers::Ports, opaque::opaque};

/// The polynomial, reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The one, x^0, reversed.
const ONE: u32 = 1 << 31;

/// x^(8 * 16^i * n) for each digit n in hexadecimal, number i, of a packet's length in bytes.
static POWERS: [[u32; 16]; 4] = powers();

/// Computed by the compiler, which has time.
const fn powers() -> [[u32; 16]; 4] {
    let mut powers = [[ONE; 16]; 4];
    let mut base = ONE >> 8;
    let mut digit = 0;
    while digit < powers.len() {
        let mut n = 1;
        while n < 16 {
            powers[digit][n] = product(powers[digit][n - 1], base);
            n += 1;
        }
        base = product(powers[digit][15], base);
        digit += 1;
    }
    powers
}

/// What [`multiply`] gives, as the definition has it.
const fn product(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while a != 0 {
        if a & ONE != 0 {
            product ^= b;
        }
        a <<= 1;
        b = if b & 1 == 0 {
            b >> 1
        } else {
            b >> 1 ^ POLYNOMIAL
        };
    }
    product
}

/// The product of two polynomials. A bit is multiplied by rather than made a mask of, 0 or -1: both values of
/// such a mask are followed by the verifier as well, since Linux 6.18 or so.
#[inline(always)]
fn multiply(a: u32, b: u32) -> u32 {
    let (mut a, mut b, mut product) = (a, b, 0);
    for _ in 0..opaque(u32::BITS) {
        product ^= b * opaque(a >> 31);
        a <<= 1;
        b = times_x(b);
    }
    product
}

#[inline(always)]
fn times_x(a: u32) -> u32 {
    (a >> 1) ^ (POLYNOMIAL * opaque(a & 1))
}

/// What is to be added (exclusive or) to the CRC32c of a message of `length` bytes, beginning with these
/// ports, when they change.
#[inline(always)]
pub fn change(old: &Ports, new: &Ports, length: u16) -> u32 {
    // The first four bytes of a message as a number, times x^8 for each byte that the message has.
    let difference = |old: u16, new: u16| u32::from(u16::from_le_bytes((old ^ new).to_ne_bytes()));
    let crc = difference(old.src, new.src) | (difference(old.dst, new.dst) << 16);
    append_zeros(crc, u32::from(length))
}

/// The CRC32c of a message of which `crc` is that of the beginning, `length` zero bytes (up to 65,535)
/// following.
///
/// In the kernel a global function (a name of its own, integers only): verified once and on its own,
/// instead of once for every way that a packet takes to it, which was a fifth of all that was verified.
#[inline(never)]
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
extern "C" fn append_zeros(crc: u32, length: u32) -> u32 {
    let (mut crc, mut digits) = (crc, length as usize);
    for powers in &POWERS {
        crc = multiply(powers[digits & 0xf], crc);
        digits >>= 4;
    }
    crc
}

/// The CRC32c of the words of a message, whose own field is zero; words and result as they stand in memory.
#[inline(always)]
pub fn of(message: &[u16; 10]) -> u32 {
    let half = |i: usize| u32::from(u16::from_le_bytes(message[i].to_ne_bytes()));
    let mut crc = u32::MAX;
    let mut i = 0;
    while i < message.len() {
        crc = append_zeros(crc ^ half(i) ^ half(i + 1) << 16, 4);
        i += 2;
    }
    (!crc).to_le()
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// As the RFC computes it, bit by bit.
    fn crc(message: &[u8]) -> u32 {
        let step = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| times_x(crc));
        !message.iter().fold(u32::MAX, step)
    }

    #[test]
    fn the_known_check_value_comes_out() {
        // Of the catalogue of parametrised CRC algorithms: CRC-32/ISCSI.
        assert_eq!(crc(b"123456789"), 0xe306_9283);
        let message = *b"12345678901234567890";
        let words: Vec<u16> = message
            .chunks(2)
            .map(|pair| u16::from_ne_bytes([pair[0], pair[1]]))
            .collect();
        let words: [u16; 10] = words.try_into().unwrap();
        assert_eq!(u32::from_le(of(&words)), crc(&message));
    }

    #[test]
    fn each_power_appends_so_many_zero_bytes() {
        let append = |crc| (0..8).fold(crc, |crc, _| times_x(crc));
        let mut crc = ONE;
        for length in 0..=u32::from(u16::MAX) {
            assert_eq!(append_zeros(ONE, length), crc, "{length}");
            crc = append(crc);
        }
    }

    proptest! {
        #[test]
        fn a_changed_port_changes_the_crc_as_computing_it_anew_does(
            old: [u8; 4],
            new: [u8; 4],
            rest in prop::collection::vec(any::<u8>(), 8..2_000),
        ) {
            let ports = |bytes: [u8; 4]| Ports {
                src: u16::from_ne_bytes([bytes[0], bytes[1]]),
                dst: u16::from_ne_bytes([bytes[2], bytes[3]]),
            };
            let message = |ports: [u8; 4]| [&ports[..], &rest].concat();
            let length = u16::try_from(4 + rest.len()).unwrap();
            let changed = crc(&message(old)) ^ change(&ports(old), &ports(new), length);
            prop_assert_eq!(changed, crc(&message(new)));
        }
    }
}
