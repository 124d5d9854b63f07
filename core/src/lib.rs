//! Everything of targetgate that decides: pure functions and state machines on plain data.
//!
//! Nothing here does I/O, reads a clock or writes a log; the manifest and `clippy.toml` keep it so.
//! Monotonic time is [`std::time::Instant`], wall-clock time is [`jiff::Timestamp`], and both are
//! passed in.
//!
//! - [`backoff`]: pauses between attempts that fail.
//! - [`names`]: the words of the field, parsed once: gates, target group ARNs, keys.
//! - [`model`]: the few fields of each object that decide something.
//! - [`object`]: parts of Kubernetes objects that reviews and watches both read.
//! - [`patch`]: operations of a JSON Patch.
//! - [`selector`]: label selectors.
//! - [`binding`]: `TargetGroupBinding` as a user writes it, its defaults and its rules.
//! - [`index`]: what is known of the cluster, in memory, fed with objects.
//! - [`gates`]: which gates a pod gets, when they open, which groups are polled and what is written.
//! - [`elb`]: how often ELB may be called.
//! - [`lease`]: which replica leads.
//! - [`reason`]: why something was decided: one vocabulary for all who tell it.
//! - [`rotation`]: when certificates are renewed, and in which order.
//! - [`text`]: texts from outside, bounded.
//! - [`client_names`]: which clients may connect, by the names in their certificates.

pub mod backoff;
pub mod binding;
pub mod client_names;
pub mod elb;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod gates;
pub mod index;
pub mod lease;
pub mod model;
pub mod names;
pub mod object;
pub mod patch;
pub mod reason;
pub mod rotation;
pub mod selector;
pub mod text;
pub mod version;
