//! targetgate keeps rolling updates behind AWS load balancers from losing requests.
//!
//! The map of the crate, and its law: **edges → index → rules → crd → model → names**. A module may
//! use what stands to its right, never what stands to its left.
//!
//! - [`names`]: the words of the field, parsed once: gates, target group ARNs, keys.
//! - [`model`]: the few fields of each object that decide something.
//! - [`crd`]: the binding's own type, as a user writes it.
//! - [`rules`]: pure decisions on plain data. No client, clock, log or metric.
//! - [`index`]: what is known of the cluster, in memory, fed with objects. No I/O.
//! - Edges: [`admission`] (HTTP reviews), [`cluster`] (Kubernetes), [`elb`] (AWS),
//!   [`health`] (the loop), [`serve`] (sockets and certificates), [`pki`] (X.509).
//! - [`app`] puts them together; [`args`] is the command line.

pub mod admission;
pub mod app;
pub mod args;
pub mod clock;
pub mod cluster;
pub mod crd;
pub mod dev_certs;
pub mod elb;
pub mod health;
pub mod index;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod names;
pub mod pki;
pub mod rules;
pub mod serve;
