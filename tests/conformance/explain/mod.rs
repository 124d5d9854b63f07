//! `targetgate explain` and `targetgate watch`, the real binary, on the real API server (contract 10).

mod answers;
mod kubelet;
mod large;
mod leader;
mod mode;
mod registration;
pub(crate) mod scene;
pub(crate) mod schema;
mod terminal;
mod troubleshooting;
mod watch;
