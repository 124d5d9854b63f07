//! Which target group is polled next, and when.

pub mod group;
pub mod known;
pub mod learned;
pub mod order;
pub mod queue;
pub mod rechecks;
pub mod schedule;
