//! The Helm chart: what it renders, whether an API server accepts that, and how it is installed and
//! uninstalled.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod accounts;
mod compromise;
mod doctor;
mod documented;
mod environment;
mod eviction;
mod gate_rules;
mod helm;
mod immutability;
mod leases;
mod lifecycle;
mod monitoring;
mod notes;
mod openshift;
mod options;
mod outage;
mod packaged;
mod reader;
mod rendering;
mod scheduling;
mod server;
mod steady;
mod targets;
mod testing;
mod upgrading;
mod values;
