//! What a command asks about a group, besides what hooks and loop do.

use targetgate_core::model::TargetGroup;
use targetgate_core::names::{GroupKey, Quota};

use crate::aws::client::{ElbClient, target_group};
use crate::aws::error::ElbError;

/// A target group, with what uses it.
#[derive(Debug, Clone)]
pub struct DescribedGroup {
    pub group: TargetGroup,
    /// The number of load balancers that use it.
    pub load_balancers: usize,
    /// Whether its health check is one of TCP.
    pub tcp_health_check: bool,
}

impl ElbClient {
    /// Describes one group; `None` if the answer has none that can be read.
    ///
    /// # Errors
    /// The call failed, was not answered, or its answer cannot be read.
    pub async fn described_group(
        &self,
        group: &GroupKey,
    ) -> Result<Option<DescribedGroup>, ElbError> {
        let call = async {
            let client = self.client(group.arn.region(), group.role.as_ref()).await;
            client
                .describe_target_groups()
                .target_group_arns(group.arn.as_str())
                .send()
                .await
        };
        let about = group.arn.as_str().to_owned();
        let (quota, limit) = (Quota::of(&group.arn), self.inner.timeouts.target_groups);
        let called = self.attempt("DescribeTargetGroups", about, Some(quota), limit, call);
        let answer = called.await?;
        let mut told = answer.target_groups().iter();
        Ok(told.find_map(|told| {
            let check = told.health_check_protocol();
            Some(DescribedGroup {
                group: target_group(told)?,
                load_balancers: told.load_balancer_arns().len(),
                tcp_health_check: check.is_some_and(|check| check.as_str() == "TCP"),
            })
        }))
    }
}
