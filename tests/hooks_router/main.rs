//! The hooks over HTTP, without a socket: a test sends reviews, and compares whole answers.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

mod bad_input;
mod bindings;
mod bounds;
mod drain;
mod fixture;
mod pods;
