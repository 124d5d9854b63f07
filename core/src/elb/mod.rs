//! What of AWS is plain data: how often ELB may be called, and what is asked about target groups.

pub mod adaptive_bucket;
pub mod buckets;
pub mod query;
