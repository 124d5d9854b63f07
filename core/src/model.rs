//! The few fields of each Kubernetes object that decide something, as plain data.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::names::{AssumedRole, BindingApi, GateName, ObjectKey, TargetGroupArn};

/// Labels of a pod, or the selector of a Service.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// A Service, as far as it decides which pods a binding reaches and on which port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `spec.selector`. An empty or absent one does not select pods.
    pub selector: Labels,
    /// `spec.type: ExternalName`, a DNS alias that does not lead to pods.
    pub external_name: bool,
    /// `spec.ports`, in order.
    pub ports: Vec<ServicePort>,
    /// `targetgate.dev/gate: "false"`.
    pub opted_out: bool,
}

/// One entry of a Service's `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// The name, which a Service's only port may lack.
    pub name: Option<Arc<str>>,
    pub port: u16,
    /// `targetPort`; absent means [`Self::port`] itself.
    pub target_port: Option<PortRef>,
}

/// A port by number or by name (Kubernetes' `IntOrString`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    Number(u16),
    Name(Arc<str>),
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The kind of a target group's targets (`spec.targetType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetType {
    /// Targets are pods, by address. Only these get gates.
    Ip,
    /// Targets are nodes, by node port.
    Instance,
}

impl TargetType {
    /// As the binding's field spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Instance => "instance",
        }
    }
}

/// The address family of a target group (`spec.ipAddressType`; absent means ipv4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum IpFamily {
    #[default]
    V4,
    V6,
}

impl IpFamily {
    /// As the binding's field spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// Whether an address is of this family.
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }
}

/// A `TargetGroupBinding` of either API group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub api: BindingApi,
    pub name: Arc<str>,
    /// `metadata.uid`, by which Events are found; `None` if it is unknown.
    pub uid: Option<Arc<str>>,
    /// `spec.targetGroupARN`; `None` if it is absent or is not a target group's ARN.
    pub arn: Option<TargetGroupArn>,
    /// `spec.targetType`; `None` if it is absent.
    pub target_type: Option<TargetType>,
    /// `spec.ipAddressType`.
    pub family: IpFamily,
    /// `spec.serviceRef.name`.
    pub service: Arc<str>,
    /// `spec.serviceRef.port`; `None` if it is absent or is not a port.
    pub port: Option<PortRef>,
    /// `spec.iamRoleArnToAssume` and `spec.assumeRoleExternalId`.
    pub role: Option<AssumedRole>,
    /// `spec.multiClusterTargetGroup`.
    pub multi_cluster: bool,
    /// `targetgate.dev/gate: "false"`.
    pub opted_out: bool,
}

/// A pod as the API server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub key: ObjectKey,
    /// `metadata.uid`: a pod that replaces another under the same name is another pod.
    pub uid: Arc<str>,
    pub resource_version: Arc<str>,
    /// `metadata.labels`, interned because the pods of one Deployment share them.
    pub labels: Arc<Labels>,
    /// `targetgate.dev/gate: "false"`.
    pub opted_out: bool,
    /// Its gates under the prefixes that are served, in order, with the condition of each.
    pub gates: Vec<(GateName, Option<Condition>)>,
    /// `status.podIPs` (or `status.podIP`).
    pub ips: Vec<IpAddr>,
    /// The named ports of its containers and restartable init containers.
    pub ports: Vec<(Arc<str>, u16)>,
    /// When the condition `ContainersReady` became `True`; `None` while it is not.
    pub containers_ready: Option<Timestamp>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// Whether `status.phase` is `Succeeded` or `Failed`.
    pub finished: bool,
}

impl Pod {
    /// Whether it is neither terminating nor finished.
    pub fn is_live(&self) -> bool {
        !self.terminating && !self.finished
    }

    /// Whether it is due: live, with ready containers and an address, so that traffic could reach it.
    pub fn is_due(&self) -> bool {
        self.is_live() && self.containers_ready.is_some() && !self.ips.is_empty()
    }
}

/// One entry of a pod's `status.conditions`, as far as a gate uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `status`: `True` lets the pod become Ready.
    pub status: bool,
    /// `reason`; empty if absent.
    pub reason: Arc<str>,
    /// `message`; empty if absent.
    pub message: Arc<str>,
}

/// A Namespace, as far as it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Whether it carries `elbv2.k8s.aws/pod-readiness-gate-inject=enabled`.
    pub opted_in: bool,
}

/// One target of a group as `DescribeTargetHealth` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    pub target: (IpAddr, u16),
    pub state: TargetState,
    /// `TargetHealth.Reason`; empty if absent.
    pub reason: Arc<str>,
    /// `TargetHealth.Description`; empty if absent.
    pub description: Arc<str>,
}

/// `TargetHealth.State`.
/// Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetState {
    /// ELB registers the target, or has not checked it often enough yet.
    Initial,
    /// The target passes its health checks.
    Healthy,
    /// The target fails its health checks.
    Unhealthy,
    /// The target fails, and is kept only for its established connections (NLB).
    UnhealthyDraining,
    /// The target is not registered, or a load balancer does not use its group or zone.
    Unused,
    /// ELB deregisters the target.
    Draining,
    /// ELB does not check the target's health.
    Unavailable,
    /// A state that AWS introduced later, which counts as not healthy.
    Unknown,
}

/// A target group as `DescribeTargetGroups` describes it.
/// Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroup.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    pub arn: TargetGroupArn,
    pub name: Arc<str>,
    /// `TargetType`: `ip`, `instance`, `lambda`, `alb`, or one that AWS introduces later.
    pub target_type: Arc<str>,
    /// `IpAddressType`; absent means ipv4.
    pub family: IpFamily,
    /// `VpcId`; absent for `lambda`.
    pub vpc_id: Option<Arc<str>>,
    /// `Protocol`; absent for `lambda`.
    pub protocol: Option<Arc<str>>,
    /// `HealthCheckIntervalSeconds`.
    pub check_interval: std::time::Duration,
    /// `HealthyThresholdCount`.
    pub healthy_threshold: u32,
}

impl TargetGroup {
    /// Health check interval times healthy threshold: a target that works is healthy within this time.
    pub fn proving_time(&self) -> std::time::Duration {
        self.check_interval.saturating_mul(self.healthy_threshold)
    }
}
