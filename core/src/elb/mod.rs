//! The pure part of calling AWS: how often ELB may be called, which target groups it is asked about, and what their
//! attributes say.

pub mod adaptive_bucket;
pub mod attributes;
pub mod buckets;
pub mod query;
pub mod sweep;
