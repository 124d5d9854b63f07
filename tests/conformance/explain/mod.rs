//! `targetgate explain`, the real binary, on the real API server (contract 10).

mod answers;
mod large;
pub(crate) mod scene;
pub(crate) mod schema;
mod troubleshooting;
