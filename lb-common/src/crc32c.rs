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

/// x^(8 * 2^i) for each bit i of a packet's length in bytes.
const POWERS: [u32; 16] = [
    0x0080_0000,
    0x0000_8000,
    0x82f6_3b78,
    0x6ea2_d55c,
    0x18b8_ea18,
    0x510a_c59a,
    0xb82b_e955,
    0xb8fd_b1e7,
    0x88e5_6f72,
    0x74c3_60a4,
    0xe417_2b16,
    0x0d65_762a,
    0x35d7_3a62,
    0x2846_1564,
    0xbf45_5269,
    0xe2ea_32dc,
];

/// The product of two polynomials. A bit is multiplied by rather than made a mask of, 0 or -1: both values of
/// such a mask are followed by the verifier as well, since Linux 6.18 or so.
#[inline(always)]
fn multiply(a: u32, b: u32) -> u32 {
    let (mut a, mut b, mut product) = (a, b, 0);
    for _ in 0..u32::BITS {
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
#[inline(never)]
pub fn change(old: &Ports, new: &Ports, length: u16) -> u32 {
    // The first four bytes of a message as a number, times x^8 for each byte that the message has.
    let difference = |old: u16, new: u16| u32::from(u16::from_le_bytes((old ^ new).to_ne_bytes()));
    let mut crc = difference(old.src, new.src) | (difference(old.dst, new.dst) << 16);
    for (i, power) in POWERS.iter().enumerate() {
        let bit = opaque((u32::from(length) >> i) & 1);
        crc = multiply(ONE ^ ((ONE ^ power) * bit), crc);
    }
    crc
}

/// The CRC32c of the words of a message, whose own field is zero; words and result as they stand in memory.
#[inline(never)]
pub fn of(message: &[u16; 10]) -> u32 {
    let mut crc = u32::MAX;
    for word in message {
        crc ^= u32::from(u16::from_le_bytes(word.to_ne_bytes()));
        for _ in 0..u16::BITS {
            crc = times_x(crc);
        }
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
    fn each_power_is_the_square_of_the_one_before() {
        assert_eq!(POWERS[0], ONE >> 8);
        for pair in POWERS.windows(2) {
            assert_eq!(pair[1], multiply(pair[0], pair[0]));
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
