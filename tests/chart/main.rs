//! The Helm chart: what it renders, what an API server says to that, and how it comes and goes.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod environment;
mod helm;
mod lifecycle;
mod options;
mod rendering;
mod server;
#[path = "../support/waiting.rs"]
mod waiting;
