//! The part of targetgate that decides: pure functions and state machines on plain data.
//!
//! The core does not do I/O, read a clock or write a log; its manifest and `clippy.toml` keep it so.
//! Monotonic time is [`std::time::Instant`], wall-clock time is [`jiff::Timestamp`], and both are
//! passed in.
//!
//! - [`backoff`]: exponential backoff between attempts that fail.
//! - [`names`]: gates, target group ARNs and keys, parsed once.
//! - [`drain`]: how long pods sleep before their end.
//! - [`model`]: the few fields of each object that decide something.
//! - [`object`]: parts of Kubernetes objects that reviews and watches both read.
//! - [`packed`]: values that are kept of every pod, in little memory.
//! - [`patch`]: operations of a JSON Patch.
//! - [`selector`]: label selectors.
//! - [`binding`]: `TargetGroupBinding` as a user writes it, its defaults and its rules.
//! - [`index`]: in-memory cache of the cluster, fed with objects.
//! - [`gates`]: which gates a pod gets, when they open, which groups are polled and what is written.
//! - [`gate_rules`]: the rules by which the API server itself injects gates.
//! - [`targets`]: which targets are registered and deregistered, and in which calls.
//! - [`elb`]: how often ELB may be called, and which groups are swept.
//! - [`endings`]: what is seen of the ends of pods.
//! - [`explain`]: why a pod has its gates, or none, and what one waits for, in words.
//! - [`doctor`]: which hop between the API server and ELB is broken, in words.
//! - [`failure_log`]: which failures are told, and which are counted.
//! - [`lease`]: leader election.
//! - [`legacy_gate`]: what there is to tell of a legacy gate that a pod keeps.
//! - [`lint`]: what of a workload's own settings loses requests when its pods end.
//! - [`reason`]: the one vocabulary of reasons for decisions.
//! - [`rotation`]: when certificates are renewed, and in which order.
//! - [`text`]: truncation of texts from outside, and numbers in sentences.
//! - [`notices`]: which Events are sent about what is found.
//! - [`unbound`]: what a Service without a binding leaves behind.
//! - [`ungated`]: why a pod that exists lacks a gate.
//! - [`version`]: order of `resourceVersion`s.
//! - [`client_names`]: which clients may connect, by the names in their certificates.

pub mod backoff;
pub mod binding;
pub mod client_names;
pub mod doctor;
pub mod drain;
pub mod elb;
pub mod endings;
pub mod explain;
pub mod failure_log;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod gate_rules;
pub mod gates;
pub mod index;
pub mod lease;
pub mod legacy_gate;
pub mod lint;
pub mod model;
pub mod names;
pub mod notices;
pub mod object;
pub mod packed;
pub mod patch;
pub mod reason;
pub mod rotation;
pub mod selector;
pub mod targets;
pub mod text;
pub mod unbound;
pub mod ungated;
pub mod version;
