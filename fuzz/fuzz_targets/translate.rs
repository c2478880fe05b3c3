//! A shell: see `duolb_fuzz::translate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| duolb_fuzz::translate::run(data));
