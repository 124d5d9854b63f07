//! What goes over the wire to AWS, tested against moto, a double of AWS that is not ours. The sandbox's ELB
//! embodies our assumptions, so where it can answer the same call, it has to pass the same test.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

mod account;
mod attributes;
mod credentials;
mod issuer;
mod permissions;
mod wire;
