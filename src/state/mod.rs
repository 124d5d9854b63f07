//! The state that all edges share: the index behind its lock, and whether this replica leads, and
//! what the API server told of itself.

pub mod api_server;
pub mod cache;
pub mod leadership;
pub mod questions;
pub mod seen;
