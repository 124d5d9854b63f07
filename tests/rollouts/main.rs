//! Rolling updates on a real cluster: the real kube-controller-manager rolls them, pods really listen, a load
//! balancer sends traffic to them, and targetgate is a process of its own. Each test prints its numbers at the
//! end.

#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

mod absence;
mod canary;
mod deployment;
mod drain;
mod drain_alone;
mod groups;
mod identity;
mod incumbent;
mod load;
mod outage;
mod registered;
mod registered_calls;
mod targets;

use std::path::Path;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_targetgate"))
}
