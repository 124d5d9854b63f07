//! The binary that these tests start.

use std::path::Path;
use std::process::{Command, Output};

use targetgate_sandbox::harness::process::isolated;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");
/// A review as kube-apiserver sends it.
pub(crate) const SMALL: &[u8] = include_bytes!("../../benches/reviews/small.json");

/// The binary, in an environment without variables of this machine that could change what it does.
pub(crate) fn binary() -> Command {
    isolated(Path::new(BINARY))
}

/// Runs a command that ends by itself.
pub(crate) fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}
