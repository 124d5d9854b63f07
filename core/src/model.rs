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
    /// `spec.selector`; empty where there is none: such a Service selects no pod.
    pub selector: Labels,
    /// `spec.type: ExternalName`: a DNS alias that reaches no pod.
    pub external_name: bool,
    /// `spec.ports`, in order.
    pub ports: Vec<ServicePort>,
    /// `targetgate.dev/gate: "false"`.
    pub opted_out: bool,
}

/// One entry of a Service's `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; a Service's only port may have none.
    pub name: Option<Arc<str>>,
    /// `port`.
    pub port: u16,
    /// `targetPort`; absent means [`Self::port`] itself.
    pub target_port: Option<PortRef>,
}

/// A port by number or by name (Kubernetes' `IntOrString`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
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

/// What a target group's targets are (`spec.targetType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetType {
    /// Pods, by address: only these get gates.
    Ip,
    /// Nodes, by node port.
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
    /// `ipv4`.
    #[default]
    V4,
    /// `ipv6`.
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
    /// The API group that serves it.
    pub api: BindingApi,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `spec.targetGroupARN`; `None` where it is absent or is no target group's ARN.
    pub arn: Option<TargetGroupArn>,
    /// `spec.targetType`; `None` where it is absent.
    pub target_type: Option<TargetType>,
    /// `spec.ipAddressType`.
    pub family: IpFamily,
    /// `spec.serviceRef.name`.
    pub service: Arc<str>,
    /// `spec.serviceRef.port`; `None` where it is absent or is no port.
    pub port: Option<PortRef>,
    /// `spec.iamRoleArnToAssume` and `spec.assumeRoleExternalId`.
    pub role: Option<AssumedRole>,
    /// `spec.multiClusterTargetGroup`.
    pub multi_cluster: bool,
    /// `targetgate.dev/gate: "false"`.
    pub opted_out: bool,
}

/// A pod that the API server told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`: a pod replaced under the same name is another pod.
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
    /// `metadata.labels`; the pods of one Deployment share them.
    pub labels: Arc<Labels>,
    /// `targetgate.dev/gate: "false"`.
    pub opted_out: bool,
    /// Its gates that are ours to serve, in order, and the condition that each has.
    pub gates: Vec<(GateName, Option<Condition>)>,
    /// `status.podIPs` (or `status.podIP`).
    pub ips: Vec<IpAddr>,
    /// The named ports of its containers and restartable init containers.
    pub ports: Vec<(Arc<str>, u16)>,
    /// Since when the condition `ContainersReady` is `True`; `None` while it is not.
    pub containers_ready: Option<Timestamp>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub terminating: bool,
    /// Whether `status.phase` is `Succeeded` or `Failed`.
    pub finished: bool,
}

impl Pod {
    /// Whether it still counts: neither terminating nor finished.
    pub fn is_live(&self) -> bool {
        !self.terminating && !self.finished
    }

    /// Whether traffic could reach it: live, its containers ready, with an address.
    pub fn is_due(&self) -> bool {
        self.is_live() && self.containers_ready.is_some() && !self.ips.is_empty()
    }
}

/// One entry of a pod's `status.conditions`, as far as a gate uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `status`: `True` lets the pod become Ready.
    pub status: bool,
    /// `reason`; empty where there is none.
    pub reason: Arc<str>,
    /// `message`; empty where there is none.
    pub message: Arc<str>,
}

/// What was read of a Namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Whether it carries `elbv2.k8s.aws/pod-readiness-gate-inject=enabled`.
    pub opted_in: bool,
}

/// One target of a group as `DescribeTargetHealth` tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    /// The target's address and port.
    pub target: (IpAddr, u16),
    /// `TargetHealth.State`.
    pub state: TargetState,
    /// `TargetHealth.Reason`; empty where AWS gives none.
    pub reason: Arc<str>,
    /// `TargetHealth.Description`; empty where AWS gives none.
    pub description: Arc<str>,
}

/// `TargetHealth.State`.
/// Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetState {
    /// Being registered, or not checked often enough yet.
    Initial,
    /// Passing its health checks.
    Healthy,
    /// Failing its health checks.
    Unhealthy,
    /// Failing, and kept only for its established connections (NLB).
    UnhealthyDraining,
    /// Not registered, or its group or zone is in use by no load balancer.
    Unused,
    /// Being deregistered.
    Draining,
    /// Not checked.
    Unavailable,
    /// A state that AWS brought in after this was written: not healthy.
    Unknown,
}

/// A target group as `DescribeTargetGroups` tells of it.
/// Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroup.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    /// `TargetGroupArn`.
    pub arn: TargetGroupArn,
    /// `TargetGroupName`.
    pub name: Arc<str>,
    /// `TargetType`: `ip`, `instance`, `lambda`, `alb`, or one that came later.
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
    /// Health check interval times healthy threshold: within so long a target that works is healthy.
    pub fn proving_time(&self) -> std::time::Duration {
        self.check_interval.saturating_mul(self.healthy_threshold)
    }
}
