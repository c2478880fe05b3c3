//! A value of which the verifier no longer knows how it came about.
//!
//! What differs by the way that led there (an offset by so many VLAN tags, a protocol, how a function ended)
//! makes the verifier follow everything behind it once for each. A value that went through the odd half of a
//! stack slot is just some number to it, so the ways join. Costs a store and a load. Only a zero it remembers.

use core::mem::MaybeUninit;

/// A stack slot, of whose second half the verifier does not keep track: of a register that is stored whole
/// at its beginning it does.
#[repr(C, align(8))]
struct Slot<T> {
    before: MaybeUninit<u32>,
    value: MaybeUninit<T>,
}

/// The same value, of at most four bytes.
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
    #[cfg(target_arch = "bpf")]
    {
        let mut slot = MaybeUninit::<Slot<T>>::uninit();
        let mut at = slot.as_mut_ptr();
        // Told where it is, the compiler would make the slot as small as the value, which then stands at the
        // beginning of one.
        // SAFETY: the register comes out as it went in; see `opaque` for why there is an instruction.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) at, options(nomem, nostack)) };
        // SAFETY: both access the slot's value, which the first writes; volatile so that they happen.
        unsafe {
            core::ptr::write_volatile((&raw mut (*at).value).cast::<T>(), value);
            core::ptr::read_volatile((&raw const (*at).value).cast::<T>())
        }
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}
