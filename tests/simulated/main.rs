//! The product within the sandbox, simulated: one thread, no socket, time paused.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod health_loop;
mod hooks;
mod leading;
mod replica;
mod world;
mod writes;
