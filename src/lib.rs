//! targetgate keeps rolling updates behind AWS load balancers from losing requests.
//!
//! `targetgate-core` decides. This crate is the service around it: edges that do I/O,
//! controllers that drive the core, and commands. An edge uses the core and [`state`], never another
//! edge; `tests/layering` checks that.
//!
//! - Edges: [`admission`] (reviews over HTTP), [`kubernetes`] (watches, reads, writes), [`aws`] (ELB),
//!   [`serve`] (sockets), [`pki`] (PEM and X.509).
//! - [`state`]: the index behind its lock and leadership, which all edges share.
//! - [`controllers`] observe, let the core decide, act, and report.
//! - [`compose`] wires the product; [`commands`] are the subcommands; [`args`] is the command line.

pub mod admission;
pub mod args;
pub mod aws;
pub mod clock;
pub mod commands;
pub mod compose;
pub mod controllers;
pub mod files;
pub mod kubernetes;
pub mod metrics;
pub mod pki;
pub mod serve;
pub mod state;
pub mod telemetry;
