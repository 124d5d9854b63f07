//! The binary that these tests start.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use targetgate_sandbox::harness::process::isolated;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");
/// A review as kube-apiserver sends it.
pub(crate) const SMALL: &[u8] = include_bytes!("../../benches/reviews/small.json");

/// The time for an answer while others take what they can. Chosen: a busy machine needs far less, and it is shorter
/// than the deadlines of a handshake, a head and a body (5, 10 and 8 s), at which a place becomes free by itself.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(4_500);

/// The binary, in an environment without variables of this machine that could change what it does.
pub(crate) fn binary() -> Command {
    isolated(Path::new(BINARY))
}

/// Runs a command that ends by itself.
pub(crate) fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}
