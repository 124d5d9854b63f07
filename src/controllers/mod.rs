//! Controllers: each observes, lets the core decide, carries out the decisions, and reports the results back.

mod about;
pub mod certificates;
pub mod gate_rules;
pub mod gates;
pub mod metrics;
pub mod targets;
