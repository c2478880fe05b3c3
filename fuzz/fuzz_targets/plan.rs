//! A shell: see `duolb_fuzz::plan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| duolb_fuzz::plan::run(data));
