//! The bounds-checked view of a packet: the only place where packet bytes become references.
//!
//! On BPF the two pointers are the context's `data` and `data_end`, and the comparison below is the one
//! the verifier looks for; on the host they are a slice's. The same code is what the tests run.

use core::marker::PhantomData;

use crate::opaque::opaque_pointer;

/// A header as it stands on the wire.
///
/// # Safety
/// Implementors have an alignment of at most 2 and are valid for every bit pattern, without padding.
pub unsafe trait Wire: Copy {}

// SAFETY: bytes have alignment 1 and no invalid pattern.
unsafe impl<const N: usize> Wire for [u8; N] {}
// SAFETY: alignment 2, no invalid pattern.
unsafe impl<const N: usize> Wire for [u16; N] {}

/// Offsets from the start of the packet are at most this; a mask.
const MAX_OFFSET: u16 = 0x7fff;

/// A packet's linear bytes.
pub struct Cursor<'a> {
    start: *mut u8,
    end: *mut u8,
    bytes: PhantomData<&'a mut [u8]>,
}

impl<'a> Cursor<'a> {
    /// A view of a slice.
    pub fn of(bytes: &'a mut [u8]) -> Self {
        let range = bytes.as_mut_ptr_range();
        Self {
            start: range.start,
            end: range.end,
            bytes: PhantomData,
        }
    }

    /// A view of the memory between two pointers.
    ///
    /// # Safety
    /// `start..end` must be readable and writable for `'a`, and nothing else may refer to it meanwhile.
    #[inline(always)]
    pub const unsafe fn from_raw(start: *mut u8, end: *mut u8) -> Self {
        Self {
            start,
            end,
            bytes: PhantomData,
        }
    }

    /// The `T` at byte `offset`, if it lies within the packet whole.
    ///
    #[inline(always)]
    fn pointer<T: Wire>(&self, offset: u16) -> Option<*mut T> {
        // The verifier trusts the very register that was compared with the packet's end. Left alone, the
        // compiler would compute the pointer anew behind the comparison, from a start and an offset, and the
        // verifier would refuse the program.
        // The longest chain of headers that the parser follows ends below. For the verifier, which loses
        // sight of an offset's bounds when it goes through memory; it costs one instruction.
        debug_assert!(offset <= MAX_OFFSET);
        let at = opaque_pointer(self.start.wrapping_add(usize::from(offset & MAX_OFFSET)));
        // Neither addition wraps: no packet ends within 64 KiB of the top of the address space.
        if at.wrapping_add(size_of::<T>()) > self.end || !is_aligned(at) {
            return None;
        }
        Some(at.cast())
    }

    /// A copy of the `T` at byte `offset`.
    #[inline(always)]
    pub fn read<T: Wire>(&self, offset: u16) -> Option<T> {
        self.get(offset).copied()
    }

    /// The `T` at byte `offset`, to read.
    #[inline(always)]
    pub fn get<T: Wire>(&self, offset: u16) -> Option<&T> {
        // SAFETY: in bounds and aligned (just checked), any bit pattern valid (`Wire`), borrowed
        // from self, which holds the bytes exclusively.
        self.pointer(offset).map(|at| unsafe { &*at })
    }

    /// The `T` at byte `offset`, to write.
    #[inline(always)]
    pub fn get_mut<T: Wire>(&mut self, offset: u16) -> Option<&mut T> {
        // SAFETY: as in `get`; borrowed from self mutably.
        self.pointer(offset).map(|at| unsafe { &mut *at })
    }
}

/// Whether headers may be read at `at`. In the kernel they always may: network buffers are aligned so
/// that every header of IP and above stands at an even address, Ethernet having 14 bytes. A buffer of
/// the host's may be anywhere.
#[inline(always)]
fn is_aligned(at: *mut u8) -> bool {
    cfg!(target_arch = "bpf") || at.addr() & 1 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(2))]
    struct Even<const N: usize>([u8; N]);

    #[test]
    fn only_what_lies_within_whole_is_given() {
        let mut bytes = Even([1u8, 2, 3, 4]);
        let mut cursor = Cursor::of(&mut bytes.0);
        assert_eq!(cursor.read::<[u8; 2]>(2), Some([3, 4]));
        assert_eq!(cursor.read::<[u8; 3]>(2), None);
        assert_eq!(cursor.read::<[u8; 0]>(4), Some([]));
        assert_eq!(cursor.read::<[u8; 1]>(MAX_OFFSET), None);
        *cursor.get_mut::<[u8; 1]>(0).unwrap() = [9];
        assert_eq!(bytes.0, [9, 2, 3, 4]);
    }

    #[test]
    fn an_empty_packet_has_nothing() {
        assert_eq!(Cursor::of(&mut []).read::<[u8; 1]>(0), None);
    }
}
