//! libFuzzer around [`targetgate_fuzz::arn::holds`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targetgate_fuzz::arn::holds(bytes));
