//! What goes over the wire to AWS, held against moto: a double that others wrote. The sandbox's ELB says
//! what we believe; where it can answer the same call, it gets the same test.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

mod account;
mod credentials;
mod issuer;
mod permissions;
#[path = "../binary/process.rs"]
#[expect(dead_code, reason = "the binary's own tests use the rest")]
mod process;
#[path = "../support/waiting.rs"]
mod waiting;
mod wire;
