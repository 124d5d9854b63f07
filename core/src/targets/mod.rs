//! Targets that we register (contract 8): which pods are wanted in which target group, what is registered and
//! deregistered for that, in which calls, and what a record of it says.
//!
//! Nothing here decides about gates: a gate opens on ELB's answer alone, whoever registered its target.

use std::net::IpAddr;

pub mod calls;
pub mod difference;
pub mod floor;
pub mod incumbent;
pub mod machine;
pub mod record;
pub mod removals;
pub mod slices;
pub mod standing;
pub mod wanted;

/// A target of a group: address and port.
pub type Target = (IpAddr, u16);
