//! The Helm chart: what it renders, what an API server says to that, and how it comes and goes.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod documented;
mod environment;
mod helm;
mod lifecycle;
mod options;
mod outage;
mod reader;
mod rendering;
mod server;
mod steady;
mod upgrading;
