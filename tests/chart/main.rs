//! The Helm chart: what it renders, what an API server says to that, and how it comes and goes.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../replicas/balancer.rs"]
mod balancer;
#[path = "../support/creation.rs"]
mod creation;
mod documented;
mod environment;
mod helm;
mod lifecycle;
mod options;
mod outage;
#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../conformance/process.rs"]
mod process;
mod reader;
mod rendering;
mod server;
mod steady;
mod upgrading;
#[path = "../support/waiting.rs"]
mod waiting;
