//! Which pod's conditions are written next, and how fast.

pub mod limiter;
pub mod queue;
