//! What users call.

pub mod certs;
pub mod serve;
