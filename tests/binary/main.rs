//! Runs the real binary as a process, over real sockets: how it starts, answers, reloads and ends.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

mod bounds;
mod ending;
mod open_files;
mod program;
mod requests;
mod starting;
