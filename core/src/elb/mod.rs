//! The pure part of calling AWS: how often ELB may be called, and which target groups it is asked about.

pub mod adaptive_bucket;
pub mod buckets;
pub mod query;
pub mod sweep;
