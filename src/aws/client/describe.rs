//! What a command asks about a group, besides what hooks and loop do.

use std::error::Error;

use aws_sdk_elasticloadbalancingv2 as sdk;
use sdk::error::{ProvideErrorMetadata, SdkError};
use sdk::types::LoadBalancerTypeEnum;
use targetgate_core::elb::attributes::{GroupAttributes, LoadBalancer, crosses_zones};
use targetgate_core::model::TargetGroup;
use targetgate_core::names::{GroupKey, Quota};

use crate::aws::client::{ElbClient, target_group};
use crate::aws::error::ElbError;

/// A target group, with what uses it.
#[derive(Debug, Clone)]
pub struct DescribedGroup {
    pub group: TargetGroup,
    /// The ARNs of the load balancers that use it.
    pub load_balancers: Vec<String>,
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
            let client = self.client_of(group).await;
            client
                .describe_target_groups()
                .target_group_arns(group.arn.as_str())
                .send()
                .await
        };
        let about = group.arn.as_str();
        let called = self.describe("DescribeTargetGroups", about, group, call);
        let answer = called.await?;
        let mut told = answer.target_groups().iter();
        Ok(told.find_map(|told| {
            let check = told.health_check_protocol();
            Some(DescribedGroup {
                group: target_group(told)?,
                load_balancers: told.load_balancer_arns().to_vec(),
                tcp_health_check: check.is_some_and(|check| check.as_str() == "TCP"),
            })
        }))
    }

    /// What a group's attributes say about the ends of its targets.
    ///
    /// # Errors
    /// The call failed, was not answered, or its answer cannot be read.
    pub async fn group_attributes(&self, group: &GroupKey) -> Result<GroupAttributes, ElbError> {
        let call = async {
            let client = self.client_of(group).await;
            client
                .describe_target_group_attributes()
                .target_group_arn(group.arn.as_str())
                .send()
                .await
        };
        let about = group.arn.as_str();
        let called = self.describe("DescribeTargetGroupAttributes", about, group, call);
        let answer = called.await?;
        let attributes = answer.attributes().iter();
        let told = attributes.filter_map(|told| Some((told.key()?, told.value()?)));
        Ok(told.collect())
    }

    /// A load balancer of this ARN, which uses the group; `None` if the answer has none.
    ///
    /// # Errors
    /// The call failed, was not answered, or its answer cannot be read.
    pub async fn load_balancer(
        &self,
        group: &GroupKey,
        arn: &str,
    ) -> Result<Option<LoadBalancer>, ElbError> {
        let call = async {
            let client = self.client_of(group).await;
            client
                .describe_load_balancers()
                .load_balancer_arns(arn)
                .send()
                .await
        };
        let called = self.describe("DescribeLoadBalancers", arn, group, call);
        let answer = called.await?;
        let told = answer.load_balancers().first();
        Ok(told.map(|told| {
            let is_alb = told.r#type() == Some(&LoadBalancerTypeEnum::Application);
            LoadBalancer {
                zones: u32::try_from(told.availability_zones().len()).ok(),
                // It cannot be turned off.
                cross_zone: is_alb.then_some(true),
            }
        }))
    }

    /// Whether a load balancer, which uses the group, sends across zones by its own attributes; `None` if they do not
    /// say so.
    ///
    /// # Errors
    /// The call failed, was not answered, or its answer cannot be read.
    pub async fn load_balancer_crosses_zones(
        &self,
        group: &GroupKey,
        arn: &str,
    ) -> Result<Option<bool>, ElbError> {
        let call = async {
            let client = self.client_of(group).await;
            client
                .describe_load_balancer_attributes()
                .load_balancer_arn(arn)
                .send()
                .await
        };
        let called = self.describe("DescribeLoadBalancerAttributes", arn, group, call);
        let answer = called.await?;
        let attributes = answer.attributes().iter();
        let told = attributes.filter_map(|told| Some((told.key()?, told.value()?)));
        Ok(crosses_zones(told))
    }

    async fn client_of(&self, group: &GroupKey) -> sdk::Client {
        self.client(group.arn.region(), group.role.as_ref()).await
    }

    /// Makes one call that describes, in the account and the Region of the group.
    async fn describe<T, E>(
        &self,
        action: &'static str,
        about: &str,
        group: &GroupKey,
        call: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, ElbError>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (quota, limit) = (Quota::of(&group.arn), self.inner.timeouts.target_groups);
        self.attempt(action, about.to_owned(), Some(quota), limit, call)
            .await
    }
}

#[cfg(test)]
mod tests;
