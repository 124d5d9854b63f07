//! `targetgate explain`, the real binary, on the real API server (contract 10).

mod answers;
mod large;
mod scene;
mod schema;
mod troubleshooting;
