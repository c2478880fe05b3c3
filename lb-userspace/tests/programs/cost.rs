//! How much the programs ask of the verifier and how large they become.

use duolb::datapath::object;

use crate::kernel::{Hook, Kernel};

/// Instructions the verifier may have to follow, of a million that it allows. Its count grows with every
/// way that headers can stand in a packet; see it in time.
const VERIFIED: u32 = 40_000;

/// Bytes of machine code, of which a packet's way should stay in the CPU's first-level cache.
const JITED: u32 = 32 * 1024;

#[test]
fn the_programs_load_far_below_the_limits_of_the_verifier() {
    let Some(mut kernel) = Kernel::load() else {
        return;
    };
    for hook in Hook::BOTH {
        let name = hook.program();
        let info = object::program(&mut kernel.object, name)
            .unwrap()
            .info()
            .unwrap();
        let jited = info.size_jitted();
        let translated = info.size_translated();
        // Kernels before 5.16 do not say.
        let verified = info.verified_instruction_count().unwrap_or(0);
        println!(
            "{name}: {verified} instructions verified, {jited} bytes of machine code, {translated:?} of BPF"
        );
        assert!(
            verified <= VERIFIED,
            "{name}: {verified} instructions verified"
        );
        assert!(jited <= JITED, "{name}: {jited} bytes of machine code");
    }
}
