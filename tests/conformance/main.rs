//! Our assumptions about Kubernetes: the same tests run against our model of it, over a socket, and against a
//! real kube-apiserver. Where the two differ, the model is wrong.

#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

mod absent;
mod admission;
mod apis;
mod aws_failures;
mod bindings;
mod doctor;
mod drain;
mod endings;
mod explain;
mod following;
mod gates;
mod half_open;
mod hook;
mod immutability;
mod install;
mod interrupted;
mod leases;
mod notices;
mod objects;
mod outage;
mod patches;
mod policy;
mod reading;
mod replicas;
mod roles;
mod servers;
mod shipped;
mod shop;
mod targets;
mod targets_bindings;
mod targets_events;
mod targets_release;
mod targets_roles;
mod targets_slices;
