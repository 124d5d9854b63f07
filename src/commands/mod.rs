//! The subcommands of the program.

pub mod certs;
mod cluster;
pub mod doctor;
pub mod explain;
pub mod release;
pub mod serve;
