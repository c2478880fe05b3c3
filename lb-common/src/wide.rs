//! Words at addresses that only two need divide, as those of addresses and ports in headers: one load or store each.
//!
//! Of such a field the compiler makes two halves. That is twice the instructions, and worse: the kernel's hash then reads
//! as one word what was stored as two, for which a processor waits.

use core::{
    fmt::{self, Debug},
    ptr::from_ref,
};

use crate::{
    address::{V4, V6},
    headers::Ports,
};

/// A field of a header that consists of words.
#[derive(Clone, Copy)]
#[repr(C, packed(2))]
pub struct Wide<T: Copy>(T);

/// What consists of words.
pub trait Words: Copy {
    /// Reads them from `at`.
    ///
    /// # Safety
    /// There is such a value at `at`, which is even.
    unsafe fn load(at: *const Self) -> Self;

    /// Writes them to `at`.
    ///
    /// # Safety
    /// There is such a value at `at`, which is even, and nobody else's.
    unsafe fn store(self, at: *mut Self);
}

impl<T: Words> Wide<T> {
    /// With this value.
    #[inline(always)]
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    #[inline(always)]
    pub fn get(&self) -> T {
        // SAFETY: the field is there, and even by its type.
        unsafe { T::load(from_ref(self).cast()) }
    }

    /// Sets the value.
    #[inline(always)]
    pub fn set(&mut self, value: T) {
        // SAFETY: as above, and borrowed.
        unsafe { value.store(core::ptr::from_mut(self).cast()) }
    }
}

impl<T: Words + Debug> Debug for Wide<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Words for V4 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> Self {
        // SAFETY: as the caller says; it is one word.
        Self(unsafe { load(at.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut Self) {
        // SAFETY: as above.
        unsafe { store(at.cast(), self.0) }
    }
}

impl Words for V6 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> Self {
        let at: *const u32 = at.cast();
        // SAFETY: as the caller says; it is four words.
        unsafe { Self([load(at), load(at.add(1)), load(at.add(2)), load(at.add(3))]) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut Self) {
        let at: *mut u32 = at.cast();
        let [a, b, c, d] = self.0;
        // SAFETY: as above.
        unsafe {
            store(at, a);
            store(at.add(1), b);
            store(at.add(2), c);
            store(at.add(3), d);
        }
    }
}

impl Words for Ports {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> Self {
        // SAFETY: as the caller says; both are one word.
        Self::from_word(unsafe { load(at.cast()) })
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut Self) {
        // SAFETY: as above.
        unsafe { store(at.cast(), self.to_word()) }
    }
}

/// # Safety
/// There is a word at `at`, which is even.
#[inline(always)]
unsafe fn load(at: *const u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let loaded: u64;
        // SAFETY: as the caller says; the kernel lets programs read packets so where the processor can.
        unsafe {
            core::arch::asm!("{0} = *(u32 *)({1} + 0)", out(reg) loaded, in(reg) at, options(nostack, readonly));
            core::hint::assert_unchecked(loaded <= u32::MAX as u64);
        }
        #[expect(clippy::cast_possible_truncation, reason = "so much is loaded")]
        let loaded = loaded as u32;
        loaded
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        // SAFETY: as the caller says.
        unsafe { at.read_unaligned() }
    }
}

/// # Safety
/// There is a word at `at`, which is even, and nobody else's.
#[inline(always)]
unsafe fn store(at: *mut u32, word: u32) {
    #[cfg(target_arch = "bpf")]
    {
        // SAFETY: as of `load`.
        unsafe {
            core::arch::asm!("*(u32 *)({0} + 0) = {1}", in(reg) at, in(reg) u64::from(word), options(nostack));
        }
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        // SAFETY: as the caller says.
        unsafe { at.write_unaligned(word) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written_where_only_two_divides() {
        #[repr(C, packed(2))]
        struct Header(u16, Wide<V6>, Wide<Ports>, Wide<V4>);
        let (v6, ports) = (V6([1, 2, 3, 4]), Ports { src: 5, dst: 6 });
        let mut header = Header(0, Wide::new(v6), Wide::new(ports), Wide::new(V4(7)));
        assert_eq!(
            (header.1.get(), header.2.get(), header.3.get()),
            (v6, ports, V4(7))
        );
        header.1.set(V6([8, 9, 10, 11]));
        header.2.set(Ports { src: 12, dst: 13 });
        header.3.set(V4(14));
        assert_eq!(header.1.get(), V6([8, 9, 10, 11]));
        assert_eq!(header.2.get(), Ports { src: 12, dst: 13 });
        assert_eq!((header.0, header.3.get()), (0, V4(14)));
    }
}
