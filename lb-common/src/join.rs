//! A value of which the verifier no longer knows how it came about.
//!
//! What differs by the way that led there (an offset by so many VLAN tags, a protocol, how a function ended)
//! makes the verifier follow everything behind it once for each. A value that went through the odd half of a
//! stack slot is just some number to it, so the ways join. Costs a store and a load. Only a zero it remembers.
//!
//! The register that says where the slot is must not be left pointing to the stack. Since 7.1 the verifier works out
//! beforehand which slots are read later, calls included, and takes whatever is in the first five registers at a call
//! for an argument. A function that is called with such a leftover here and without one there is looked at twice, at two
//! depths, and what is known of the one is mistaken for the other: it then refused reads of a caller's slot
//! ("poisoned by dead code elimination").

use core::mem::MaybeUninit;

/// A stack slot, of whose second half the verifier does not keep track: of a register that is stored whole
/// at its beginning it does.
#[repr(C, align(8))]
struct Slot<T> {
    before: MaybeUninit<u32>,
    value: MaybeUninit<T>,
}

/// Loads the value of the slot at `$at` into the register that says where it is.
#[cfg(target_arch = "bpf")]
macro_rules! load {
    ($at:ident, $size:literal, $number:ty) => {{
        let loaded: u64;
        core::arch::asm!(
            concat!("{0} = *(", $size, " *)({0} + 4)"),
            inout(reg) $at => loaded,
            options(nostack, readonly)
        );
        // So much is loaded, and the rest of the register is zero.
        core::hint::assert_unchecked(loaded <= <$number>::MAX as u64);
        core::mem::transmute_copy::<$number, T>(&(loaded as $number))
    }};
}

/// The same value, of one, two or four bytes.
#[inline(always)]
#[cfg_attr(
    target_arch = "bpf",
    expect(
        clippy::pointers_in_nomem_asm_block,
        reason = "the memory it points to is not touched"
    )
)]
pub fn join_ways<T: Copy>(value: T) -> T {
    const { assert!(size_of::<Slot<T>>() == 8 && core::mem::offset_of!(Slot<T>, value) == 4) };
    const { assert!(matches!(size_of::<T>(), 1 | 2 | 4)) };
    #[cfg(target_arch = "bpf")]
    {
        let mut slot = MaybeUninit::<Slot<T>>::uninit();
        let mut at = slot.as_mut_ptr();
        // Told where it is, the compiler would make the slot as small as the value, which then stands at the
        // beginning of one.
        // SAFETY: the register comes out as it went in; see `opaque` for why there is an instruction.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) at, options(nomem, nostack)) };
        // SAFETY: the slot's value is written; volatile so that it happens.
        unsafe { core::ptr::write_volatile((&raw mut (*at).value).cast::<T>(), value) };
        // SAFETY: `at` points to the slot, whose value has just been written and has as many bytes as are read.
        unsafe {
            match size_of::<T>() {
                1 => load!(at, "u8", u8),
                2 => load!(at, "u16", u16),
                _ => load!(at, "u32", u32),
            }
        }
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}
