//! libFuzzer around [`targetgate_fuzz::elb::holds`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targetgate_fuzz::elb::holds(bytes));
