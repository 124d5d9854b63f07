//! Pure decisions on plain data: no client, clock, log or metric.

pub mod absence;
pub mod allow;
pub mod clients;
pub mod condition;
pub mod defaults;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod gates;
pub mod lease;
pub mod outlook;
pub mod patch;
pub mod rotation;
pub mod schedule;
pub mod selector;
pub mod target;
pub mod trust;
pub mod validate;
pub mod version;
