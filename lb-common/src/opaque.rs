//! A number, or a pointer, of which the compiler does not know what it is.
//!
//! LLVM knows better than the verifier what a number may be, and makes of a product with a bit a branch, of
//! a loop of eight eight copies: quicker elsewhere, but here each way is followed by the verifier and each
//! copy is machine code beside every packet's way.

/// The same number.
#[inline(always)]
pub fn opaque(number: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: the register comes out as it went in. A move to itself rather than nothing at all: an
        // empty statement makes a line record without an instruction, which kernels refuse.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack)) };
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}

/// The same pointer, of which the compiler does not know how it was made, nor what it points to.
#[inline(always)]
#[cfg_attr(
    target_arch = "bpf",
    expect(
        clippy::pointers_in_nomem_asm_block,
        reason = "the memory it points to is not touched"
    )
)]
pub fn opaque_pointer<T>(pointer: *mut T) -> *mut T {
    #[cfg(target_arch = "bpf")]
    {
        let mut pointer = pointer;
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) pointer, options(pure, nomem, nostack));
        }
        pointer
    }
    #[cfg(not(target_arch = "bpf"))]
    pointer
}
