//! AWS: the two calls of the ELBv2 API that are made, the budget they share, and descriptions of
//! target groups that many callers share.
//!
//! - [`client`]: one call on the wire, through the SDK, in the words of [`targetgate_core::model`].
//! - [`credentials`]: whether there are any, told at the start.
//! - [`error`]: why a call failed.
//! - [`budget`]: how often the process may call, by the buckets of [`targetgate_core::elb`].
//! - [`target_groups`]: `DescribeTargetGroups` for many callers at once, cached for a minute.
//!
//! # `DescribeTargetHealth` with a list of targets
//!
//! Without `Targets` the answer holds every registered target of the group, unpaged. With it, the
//! answer holds the named targets only. What is known of that form:
//!
//! - A target that is not registered is no error. It comes back as `unused`,
//!   `Target.NotRegistered`, whereas the whole-group form leaves it out. A caller must take the two
//!   for the same. (Reported for the real service in aws/aws-sdk-js#1593 and getmoto/moto#7692.)
//! - `InvalidTarget` is documented for a target that does not exist, lies outside the group's VPC or
//!   is of an unsupported type. One such target fails the whole call: a caller that names targets
//!   must be ready to ask for the whole group instead.
//! - Neither a limit on the length of the list nor a different cost in the throttle is documented.
//! - (id, port) is the key: an id without a port is taken to mean the group's own port, so the port
//!   is always sent.
//!
//! Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DescribeTargetHealth.html>

mod batches;
pub mod budget;
pub mod client;
pub mod credentials;
mod description_cache;
pub mod error;
mod reject_truncated;
pub mod target_groups;
pub mod vpc;

#[cfg(test)]
mod fake;
