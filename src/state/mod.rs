//! The state that all edges share: the index behind its lock, and whether this replica leads.

pub mod cache;
pub mod leadership;
