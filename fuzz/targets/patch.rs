//! libFuzzer around [`targetgate_fuzz::patch::holds`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targetgate_fuzz::patch::holds(bytes));
