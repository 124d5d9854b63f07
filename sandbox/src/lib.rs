//! A model of the world around targetgate, in memory and scriptable. Never shipped.
//!
//! It runs in two ways. *Simulated*: on one current-thread runtime with tokio's time paused,
//! without sockets, threads or processes. *Real*: over sockets and with processes, and with time
//! never paused.

pub mod api;
mod binding;
pub mod clock;
mod condition;
pub mod controlplane;
pub mod demo;
pub mod elb;
mod get;
mod group_calls;
pub mod harness;
pub mod incumbent;
pub mod interrupt;
pub mod kubelet;
pub mod load;
pub mod moto;
pub mod random;
pub mod registrar;
pub mod rollout;
mod signal;
pub mod spread;
mod supervised;
mod targets;
pub mod traffic;
pub mod usage;
pub mod versions;
mod watched;
