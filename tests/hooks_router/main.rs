//! The hooks over HTTP, without a socket: reviews in, whole answers out.

mod bad_input;
mod bindings;
mod bounds;
mod fixture;
mod pods;
