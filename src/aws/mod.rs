//! AWS: the calls of the ELBv2 API that targetgate makes, the budget that they share, and the batching of
//! `DescribeTargetGroups`.
//!
//! - [`client`]: calls through the SDK, one attempt each, in the types of [`targetgate_core::model`].
//! - [`credentials`]: a check at the start that logs whether credentials can be had.
//! - [`error`]: why a call failed.
//! - [`budget`]: allows or delays each call, by a bucket for each account and Region, and one for all.
//! - [`target_groups`]: `DescribeTargetGroups` for many callers at once, cached for a minute, by name for five seconds.
//! - [`vpc`]: the VPC of this instance, from instance metadata.
//!
//! # `DescribeTargetHealth` with a list of targets
//!
//! Without `Targets` the answer holds every registered target of the group, unpaged. With it, the
//! answer holds the named targets only. These facts are known of that form:
//!
//! - A target that is not registered does not fail the call. ELB returns it as `unused`,
//!   `Target.NotRegistered`, whereas the whole-group form leaves it out. A caller must treat both
//!   alike. (Reported for the real service in aws/aws-sdk-js#1593 and getmoto/moto#7692.)
//! - AWS documents `InvalidTarget` for a target that does not exist, lies outside the group's VPC or
//!   is of an unsupported type. One such target fails the whole call: a caller that names targets
//!   must be ready to ask for the whole group instead.
//! - AWS documents neither a limit on the length of the list nor a different cost in its throttling.
//! - (id, port) is the key: ELB takes an id without a port to mean the group's own port, so we
//!   always send the port.
//!
//! Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetHealth.html>

mod batches;
pub mod budget;
pub mod client;
pub mod credentials;
mod description_cache;
pub mod error;
pub mod metrics;
mod reject_truncated;
pub mod target_groups;
pub mod vpc;

#[cfg(test)]
mod fake;
