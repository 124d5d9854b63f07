//! libFuzzer around [`targetgate_fuzz::selector::holds`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targetgate_fuzz::selector::holds(bytes));
