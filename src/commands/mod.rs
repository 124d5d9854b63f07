//! The subcommands of the program.

pub mod certs;
pub mod serve;
