//! A shell: see `duolb_fuzz::icmp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| duolb_fuzz::icmp::run(data));
