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
mod wire;
