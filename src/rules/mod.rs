//! Pure decisions on plain data: no client, clock, log or metric.

pub mod defaults;
pub mod gates;
pub mod patch;
pub mod selector;
pub mod validate;
