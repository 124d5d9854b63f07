//! libFuzzer around [`targetgate_fuzz::review::holds`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targetgate_fuzz::review::holds(bytes));
