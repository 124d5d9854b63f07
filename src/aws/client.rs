//! Calls of the ELBv2 API through the SDK, one attempt each.

use std::collections::HashMap;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{Region, SdkConfig};
use aws_sdk_elasticloadbalancingv2 as sdk;
use aws_smithy_async::time::SystemTimeSource;
use parking_lot::Mutex;
use sdk::config::SharedCredentialsProvider;
use sdk::error::{ProvideErrorMetadata, SdkError};
use sdk::types::{TargetDescription, TargetHealthDescription, TargetHealthStateEnum};
use targetgate_core::elb::query::GroupSelector;
use targetgate_core::model::{HealthChecks, IpFamily, TargetGroup, TargetHealth, TargetState};
use targetgate_core::names::{AssumedRole, GroupKey, Quota, TargetGroupArn};
use targetgate_core::text::counted;
use tokio::time::{Instant, timeout};

use crate::aws::budget::Budget;
use crate::aws::error::{ElbError, ElbErrorKind};
use crate::aws::metrics::CallMetrics;
use crate::aws::reject_truncated::RejectTruncated;
use crate::metrics::Metrics;

mod describe;

pub use crate::aws::client::describe::DescribedGroup;

/// Maximum number of cached SDK clients: one per Region, role and external id. Chosen.
const MAX_CLIENTS: usize = 128;
/// Maximum number of cached identities. The SDK's default of 64 evicts at random, and each eviction costs an
/// `AssumeRole`. Chosen: an identity for each client, and as many again of clients that were evicted.
const MAX_IDENTITIES: usize = 2 * MAX_CLIENTS;
/// Session name of an assumed role, which CloudTrail of the other account shows.
const SESSION_NAME: &str = "targetgate";

/// Timeouts of the calls. The defaults are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection is established.
    pub connect: Duration,
    /// Of a whole `DescribeTargetHealth`, credentials and connection included: ELB answers slowly about a group of
    /// thousands of targets.
    pub target_health: Duration,
    /// Of a whole `DescribeTargetGroups`: short, so that an admission can retry within its own timeout. Of a command's
    /// other descriptions as well.
    pub target_groups: Duration,
    /// Of a whole `RegisterTargets` or `DeregisterTargets`: as long as the Lease outlives the renew deadline, so that
    /// such a call has ended when another replica leads (contract 8).
    pub targets: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            target_health: Duration::from_secs(10),
            target_groups: Duration::from_secs(3),
            targets: Duration::from_secs(5),
        }
    }
}

/// A target with the zone that a call names it with; `None` leaves the zone to AWS.
pub type ZonedTarget = ((IpAddr, u16), Option<Arc<str>>);

/// Client of the ELBv2 API; cheap to clone.
///
/// Each method makes one attempt on the wire, counts it and bounds its time; it does not retry. The caller takes a
/// token from the [`Budget`] first.
#[derive(Clone)]
pub struct ElbClient {
    inner: Arc<Inner>,
}

struct Inner {
    config: SdkConfig,
    timeouts: Timeouts,
    budget: Budget,
    metrics: CallMetrics,
    clients: Mutex<Clients>,
}

/// The cached clients.
#[derive(Default)]
struct Clients {
    /// Each client with the number of its last use.
    kept: HashMap<Access, (u64, sdk::Client)>,
    uses: u64,
}

impl Clients {
    fn get(&mut self, access: &Access) -> Option<sdk::Client> {
        self.uses += 1;
        let (used, client) = self.kept.get_mut(access)?;
        *used = self.uses;
        Some(client.clone())
    }

    /// Keeps a client, and evicts the one that was not used for longest if there are too many.
    fn insert(&mut self, access: Access, client: sdk::Client) {
        self.uses += 1;
        self.kept.insert(access, (self.uses, client));
        if self.kept.len() > MAX_CLIENTS {
            let oldest = self.kept.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(access, _)| access.clone()) {
                self.kept.remove(&oldest);
            }
        }
    }
}

/// Region and role of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Access {
    region: Arc<str>,
    role: Option<AssumedRole>,
}

impl ElbClient {
    /// A client that takes credentials, endpoint, HTTP client and default Region from `config`.
    ///
    /// The client reports throttles to `budget`.
    pub fn new(config: SdkConfig, timeouts: Timeouts, budget: Budget, metrics: &Metrics) -> Self {
        // The SDK panics when it assumes a role without a time source. A loaded configuration has one.
        let config = match config.time_source() {
            Some(_) => config,
            None => config
                .into_builder()
                .time_source(SystemTimeSource::new())
                .build(),
        };
        let identities = IdentityCache::lazy().max_partitions(MAX_IDENTITIES);
        let config = config.into_builder().identity_cache(identities.build());
        Self {
            inner: Arc::new(Inner {
                config: config.build(),
                timeouts,
                budget,
                metrics: metrics.of(),
                clients: Mutex::default(),
            }),
        }
    }

    /// The Region of calls without an ARN: the SDK's own.
    pub fn default_region(&self) -> Option<&str> {
        self.inner.config.region().map(Region::as_ref)
    }

    /// The health of `targets`, or of the whole group if `targets` is empty.
    ///
    /// The answer leaves out targets other than (IP, port), such as instances.
    ///
    /// # Errors
    /// The call failed, was not answered, or its answer cannot be read.
    pub async fn target_health(
        &self,
        group: &GroupKey,
        targets: &[(IpAddr, u16)],
    ) -> Result<Vec<TargetHealth>, ElbError> {
        const ACTION: &str = "DescribeTargetHealth";
        let about = group.arn.as_str().to_owned();
        let targets: Vec<_> = targets.iter().map(described).collect();
        let call = async {
            let client = self.client(group.arn.region(), group.role.as_ref()).await;
            client
                .describe_target_health()
                .target_group_arn(group.arn.as_str())
                .set_targets((!targets.is_empty()).then_some(targets))
                .send()
                .await
        };
        let limit = self.inner.timeouts.target_health;
        let quota = Some(Quota::of(&group.arn));
        let answer = self.attempt(ACTION, about, quota, limit, call).await?;
        let healths = answer.target_health_descriptions();
        Ok(healths.iter().filter_map(target_health).collect())
    }

    /// Describes the groups of these ARNs or names, in the order of AWS's answer.
    ///
    /// The selectors are all ARNs or all names, at most 20, the limit of AWS for one call. `region` defaults
    /// to [`Self::default_region`]. AWS fails the whole call if one id is wrong.
    ///
    /// # Errors
    /// The call failed, was not answered, or its answer cannot be read.
    pub async fn target_groups(
        &self,
        region: Option<&str>,
        role: Option<&AssumedRole>,
        selectors: &[GroupSelector],
    ) -> Result<Vec<TargetGroup>, ElbError> {
        const ACTION: &str = "DescribeTargetGroups";
        // AWS would describe every group of the account for a call without ids.
        let Some((first, others)) = selectors.split_first() else {
            return Ok(Vec::new());
        };
        let about = summary(first, others.len());
        let Some(region) = region.or_else(|| self.default_region()) else {
            return Err(ElbError::no_region(ACTION, about));
        };
        let quota = Some(first.quota(role, region));
        let ids = selectors
            .iter()
            .map(|selector| selector.as_str().to_owned());
        let ids = Some(ids.collect());
        let (arns, names) = match first {
            GroupSelector::Arn(_) => (ids, None),
            GroupSelector::Name(_) => (None, ids),
        };
        let call = async {
            let client = self.client(region, role).await;
            client
                .describe_target_groups()
                .set_target_group_arns(arns)
                .set_names(names)
                .send()
                .await
        };
        let limit = self.inner.timeouts.target_groups;
        let answer = self.attempt(ACTION, about, quota, limit, call).await?;
        Ok(answer
            .target_groups()
            .iter()
            .filter_map(target_group)
            .collect())
    }

    /// Registers `targets`, at most 200 of them. AWS refuses the whole call for one target that it does not take.
    ///
    /// # Errors
    /// The call failed, or was not answered: then it may have done its work.
    pub async fn register_targets(
        &self,
        group: &GroupKey,
        targets: &[ZonedTarget],
    ) -> Result<(), ElbError> {
        let call = async {
            let client = self.client(group.arn.region(), group.role.as_ref()).await;
            client
                .register_targets()
                .target_group_arn(group.arn.as_str())
                .set_targets(Some(targets.iter().map(zoned).collect()))
                .send()
                .await
        };
        self.change("RegisterTargets", group, targets, call).await
    }

    /// Deregisters `targets`, at most 200 of them, each with the zone that [`Self::target_health`] told. AWS passes
    /// over those that are not registered.
    ///
    /// # Errors
    /// The call failed, or was not answered: then it may have done its work.
    pub async fn deregister_targets(
        &self,
        group: &GroupKey,
        targets: &[ZonedTarget],
    ) -> Result<(), ElbError> {
        let call = async {
            let client = self.client(group.arn.region(), group.role.as_ref()).await;
            client
                .deregister_targets()
                .target_group_arn(group.arn.as_str())
                .set_targets(Some(targets.iter().map(zoned).collect()))
                .send()
                .await
        };
        self.change("DeregisterTargets", group, targets, call).await
    }

    /// Makes a call that changes a group. A throttle is not reported to the budget: AWS throttles these calls apart
    /// from polls.
    async fn change<T, E>(
        &self,
        action: &'static str,
        group: &GroupKey,
        targets: &[ZonedTarget],
        call: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<(), ElbError>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let about = format!(
            "{} of {}",
            counted(targets.len(), "target"),
            group.arn.as_str()
        );
        let limit = self.inner.timeouts.targets;
        self.attempt(action, about, None, limit, call).await?;
        Ok(())
    }

    /// Makes one call within its timeout, counts it, and reports a throttle to the bucket of `quota`.
    async fn attempt<T, E>(
        &self,
        action: &'static str,
        about: String,
        quota: Option<Quota>,
        limit: Duration,
        call: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, ElbError>
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let started = Instant::now();
        let result = match timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ElbError::of_sdk(action, about, &error)),
            Err(_) => Err(ElbError::timeout(action, about, limit)),
        };
        let code = result.as_ref().map_or_else(ElbError::code, |_| "OK");
        self.inner.metrics.called(action, code, started.elapsed());
        let throttled = matches!(&result, Err(error) if error.kind == ElbErrorKind::Throttled);
        if let Some(quota) = quota.filter(|_| throttled) {
            self.inner.budget.throttled(&quota, started.into_std());
        }
        result
    }

    async fn client(&self, region: &str, role: Option<&AssumedRole>) -> sdk::Client {
        let access = Access {
            region: region.into(),
            role: role.cloned(),
        };
        if let Some(client) = self.inner.clients.lock().get(&access) {
            return client;
        }
        let client = sdk::Client::from_conf(self.inner.sdk_config(&access).await);
        let mut clients = self.inner.clients.lock();
        // Another call may have made the same client meanwhile, and has the connections.
        if let Some(known) = clients.get(&access) {
            return known;
        }
        clients.insert(access, client.clone());
        client
    }
}

impl Inner {
    async fn sdk_config(&self, access: &Access) -> sdk::Config {
        let region = Region::new(access.region.to_string());
        // The SDK's retries would bypass the budget, and its default timeouts are unbounded. The timeout of the
        // call covers a stalled answer, so that stalled-stream protection is not needed.
        let mut config = sdk::config::Builder::from(&self.config)
            .region(region.clone())
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .interceptor(RejectTruncated)
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(self.timeouts.connect)
                    .build(),
            );
        if let Some(role) = &access.role {
            let mut assume = AssumeRoleProvider::builder(&*role.arn)
                .configure(&self.config)
                .region(region)
                .session_name(SESSION_NAME);
            if let Some(id) = &role.external_id {
                assume = assume.external_id(&**id);
            }
            config =
                config.credentials_provider(SharedCredentialsProvider::new(assume.build().await));
        }
        config.build()
    }
}

/// The only id, or the first and how many more.
fn summary(first: &GroupSelector, more: usize) -> String {
    match more {
        0 => first.as_str().to_owned(),
        _ => format!("{} and {more} more", first.as_str()),
    }
}

fn described(target: &(IpAddr, u16)) -> TargetDescription {
    zoned(&(*target, None))
}

fn zoned(((ip, port), zone): &ZonedTarget) -> TargetDescription {
    TargetDescription::builder()
        .id(ip.to_string())
        .port(i32::from(*port))
        .set_availability_zone(zone.as_deref().map(str::to_owned))
        .build()
}

fn target_health(told: &TargetHealthDescription) -> Option<TargetHealth> {
    let target = told.target()?;
    let ip = target.id()?.parse().ok()?;
    let port = u16::try_from(target.port()?).ok()?;
    let health = told.target_health();
    let state = health.and_then(|health| health.state());
    let reason = health.and_then(|health| health.reason());
    let description = health.and_then(|health| health.description());
    Some(TargetHealth {
        target: (ip, port),
        zone: target.availability_zone().map(Into::into),
        state: state.map_or(TargetState::Unknown, target_state),
        reason: reason.map_or("", |reason| reason.as_str()).into(),
        description: description.unwrap_or("").into(),
    })
}

fn target_state(state: &TargetHealthStateEnum) -> TargetState {
    match state {
        TargetHealthStateEnum::Initial => TargetState::Initial,
        TargetHealthStateEnum::Healthy => TargetState::Healthy,
        TargetHealthStateEnum::Unhealthy => TargetState::Unhealthy,
        TargetHealthStateEnum::UnhealthyDraining => TargetState::UnhealthyDraining,
        TargetHealthStateEnum::Unused => TargetState::Unused,
        TargetHealthStateEnum::Draining => TargetState::Draining,
        TargetHealthStateEnum::Unavailable => TargetState::Unavailable,
        _ => TargetState::Unknown,
    }
}

fn target_group(told: &sdk::types::TargetGroup) -> Option<TargetGroup> {
    let arn: TargetGroupArn = told.target_group_arn()?.parse().ok()?;
    let ipv6 = told.ip_address_type().is_some_and(|t| t.as_str() == "ipv6");
    Some(TargetGroup {
        name: told.target_group_name().unwrap_or(arn.name()).into(),
        target_type: told.target_type().map_or("", |t| t.as_str()).into(),
        family: if ipv6 { IpFamily::V6 } else { IpFamily::V4 },
        vpc_id: told.vpc_id().map(Into::into),
        protocol: told.protocol().map(|p| p.as_str().into()),
        health_checks: health_checks(told),
        arn,
    })
}

/// A number that AWS leaves out is unknown, not zero: with zero, each `healthy` would count at once.
fn health_checks(told: &sdk::types::TargetGroup) -> Option<HealthChecks> {
    let number = |number: Option<i32>| u32::try_from(number?).ok().filter(|number| *number > 0);
    let interval = number(told.health_check_interval_seconds())?;
    Some(HealthChecks {
        interval: Duration::from_secs(u64::from(interval)),
        healthy_threshold: number(told.healthy_threshold_count())?,
        unhealthy_threshold: number(told.unhealthy_threshold_count())?,
    })
}

#[cfg(test)]
mod tests;
