//! A shell: see `duolb_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| duolb_fuzz::config::run(data));
