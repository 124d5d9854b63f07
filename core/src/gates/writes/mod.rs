//! Which pod is written to next, and how fast.

pub mod limiter;
pub mod queue;
