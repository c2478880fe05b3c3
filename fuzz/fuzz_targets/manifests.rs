//! A shell: see `duolb_fuzz::manifests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| duolb_fuzz::manifests::run(data));
