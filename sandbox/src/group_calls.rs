//! The calls that describe and change the targets of one group.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2 as elbv2;
use elbv2::error::BoxError;
use elbv2::types::{TargetDescription, TargetHealthDescription, TargetHealthStateEnum};
use tokio::time::timeout;

use crate::targets::Target;

/// At most this many targets are in one call. The incumbent's chunk size.
const BATCH: usize = 200;
/// The deadline of one call. Chosen.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A target group, by its ARN.
#[derive(Clone, Debug)]
pub(crate) struct GroupCalls {
    elb: elbv2::Client,
    arn: String,
}

impl GroupCalls {
    pub(crate) fn new(elb: elbv2::Client, arn: String) -> Self {
        Self { elb, arn }
    }

    pub(crate) fn arn(&self) -> &str {
        &self.arn
    }

    /// The registered targets, without draining ones.
    pub(crate) async fn describe(&self) -> Result<BTreeSet<Target>, BoxError> {
        let call = self.elb.describe_target_health();
        let answer = within(call.target_group_arn(&self.arn).send()).await?;
        let targets = answer.target_health_descriptions().iter();
        Ok(targets.filter_map(registered_target).collect())
    }

    pub(crate) async fn register(&self, targets: &[Target]) -> Result<(), BoxError> {
        for batch in targets.chunks(BATCH) {
            let call = self.elb.register_targets().target_group_arn(&self.arn);
            within(call.set_targets(Some(described(batch))).send()).await?;
        }
        Ok(())
    }

    pub(crate) async fn deregister(&self, targets: &[Target]) -> Result<(), BoxError> {
        for batch in targets.chunks(BATCH) {
            let call = self.elb.deregister_targets().target_group_arn(&self.arn);
            within(call.set_targets(Some(described(batch))).send()).await?;
        }
        Ok(())
    }
}

/// The target of a description; `None` if it is draining.
fn registered_target(description: &TargetHealthDescription) -> Option<Target> {
    let state = description.target_health()?.state();
    if state == Some(&TargetHealthStateEnum::Draining) {
        return None;
    }
    let target = description.target()?;
    Some(Target {
        ip: target.id()?.parse().ok()?,
        port: target.port()?.try_into().ok()?,
    })
}

fn described(targets: &[Target]) -> Vec<TargetDescription> {
    let describe = |target: &Target| {
        TargetDescription::builder()
            .id(target.ip.to_string())
            .port(target.port.into())
            .build()
    };
    targets.iter().map(describe).collect()
}

/// Awaits a call within a deadline, because the SDK sets none of its own.
async fn within<T, E>(call: impl Future<Output = Result<T, E>>) -> Result<T, BoxError>
where
    E: Into<BoxError>,
{
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(late) => Err(late.into()),
    }
}
