//! A shell: see `duolb_fuzz::reject`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| duolb_fuzz::reject::run(data));
