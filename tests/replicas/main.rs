//! Two processes of the binary on a real API server, as it is shipped: who leads when one dies, hangs
//! or leaves, and whether an admission fails when one after the other is replaced.

#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../conformance/install.rs"]
mod install;
#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../conformance/process.rs"]
mod process;
#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../conformance/servers.rs"]
mod servers;

mod balancer;
#[path = "../support/creation.rs"]
mod creation;
mod gated;
mod history;
mod installing;
mod line;
mod rolling;
mod taking_over;
#[path = "../support/waiting.rs"]
mod waiting;
