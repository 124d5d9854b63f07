//! The few fields of each Kubernetes object that decide something, as plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::drain::{DrainLabel, DrainMode, LoadBalancerKind, SleepSeconds};
use crate::names::{AssumedRole, BindingApi, GateName, NamedGroup, ObjectKey, TargetGroupArn};

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
    /// `spec.publishNotReadyAddresses`: pods are registered before their containers are ready.
    pub publish_not_ready: bool,
}

/// One entry of a Service's `spec.ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// The name, which a Service's only port may lack.
    pub name: Option<Arc<str>>,
    pub port: u16,
    pub protocol: Protocol,
    /// `targetPort`; absent means [`Self::port`] itself.
    pub target_port: Option<PortRef>,
}

/// A port's protocol, which Kubernetes compares besides the name where it looks a named port up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As the field `protocol` of a Service or container spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// Reads the field, whose default is TCP; `None` for a protocol that Kubernetes introduces later.
    pub fn of_field(field: Option<&str>) -> Option<Self> {
        let Some(field) = field.filter(|field| !field.is_empty()) else {
            return Some(Self::default());
        };
        let mut all = [Self::Tcp, Self::Udp, Self::Sctp].into_iter();
        all.find(|protocol| protocol.as_str() == field)
    }
}

/// A named port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedPort {
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub number: u16,
}

/// A port by number or by name (Kubernetes' `IntOrString`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortRef {
    Number(u16),
    Name(Arc<str>),
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    /// Each of them.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

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

/// What a gate does while ELB says that no load balancer uses its target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnused {
    /// It stays closed, as with the incumbent.
    Wait,
    /// It opens.
    Open,
}

/// What an open gate does once ELB calls its target anything but healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterOpen {
    /// It stays open for the pod's life.
    Hold,
    /// It closes, and opens again when ELB says healthy.
    Follow,
}

/// How gates depart from what ELB says, as one object is annotated (contract 5.6). `None` leaves it to the next
/// object: the pod comes before the binding, and that before the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policies {
    pub when_unused: Option<WhenUnused>,
    /// The seconds since the pod is due after which a gate opens.
    pub open_after: Option<NonZeroU32>,
    pub after_open: Option<AfterOpen>,
}

impl Policies {
    /// These, and what they leave open from the next object.
    #[must_use]
    pub fn or(self, next: Self) -> Self {
        Self {
            when_unused: self.when_unused.or(next.when_unused),
            open_after: self.open_after.or(next.open_after),
            after_open: self.after_open.or(next.after_open),
        }
    }

    /// Whether open gates follow ELB.
    pub fn follows(self) -> bool {
        self.after_open == Some(AfterOpen::Follow)
    }

    /// The time since the pod is due after which a gate opens; `None` if it never does by that.
    pub fn open_after(self) -> Option<Duration> {
        let seconds = self.open_after?;
        Some(Duration::from_secs(u64::from(seconds.get())))
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
    /// `spec.targetGroupName`; `None` if it is absent.
    pub group_name: Option<Arc<str>>,
    /// `spec.targetType`; `None` if it is absent.
    pub target_type: Option<TargetType>,
    /// `spec.ipAddressType`.
    pub family: IpFamily,
    /// The kind of load balancer, by `spec.targetGroupProtocol`; `None` if that does not tell.
    pub load_balancer: Option<LoadBalancerKind>,
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
    /// Whether `metadata.deletionTimestamp` is set: its targets are being deregistered.
    pub terminating: bool,
    pub policies: Policies,
    pub unreadable: Vec<UnreadableAnnotation>,
    pub registration: Registration,
}

/// What only the registrar reads of a binding (contract 8).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Registration {
    /// `targetgate.dev/register`; `None` if it is absent or neither `"true"` nor `"false"`.
    pub asked: Option<bool>,
    /// `targetgate.dev/abandon: "true"`.
    pub abandoned: bool,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether our finalizer is on it.
    pub our_finalizer: bool,
    /// Whether the incumbent's finalizer is on it.
    pub incumbent_finalizer: bool,
    /// Whether `spec.targetGroupProtocol` is `QUIC` or `TCP_QUIC`.
    pub quic: bool,
    /// `spec.registerTargetsWithPodAvailabilityZone`.
    pub pod_zone: bool,
}

impl Binding {
    /// Its place among bindings by age, the oldest first.
    pub fn age(&self) -> (Option<Timestamp>, Option<&Arc<str>>) {
        (self.registration.created, self.uid.as_ref())
    }

    /// The group by its name alone, where the ARN does not identify it.
    pub fn named_group(&self) -> Option<NamedGroup> {
        let name = self.group_name.as_ref().filter(|_| self.arn.is_none())?;
        Some(NamedGroup {
            name: name.clone(),
            role: self.role.clone(),
        })
    }
}

/// What pods of one controller have alike, because they have it of its template.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PodTemplate {
    /// `metadata.labels`.
    pub labels: Labels,
    /// The named ports of the containers and restartable init containers.
    pub ports: Vec<NamedPort>,
    /// The controller itself; `None` for a pod that was created by hand.
    pub controller: Option<Arc<ControllerRef>>,
    /// What there is to tell of such pods; `None` of most.
    pub remarks: Option<Box<PodRemarks>>,
}

/// The label of a Deployment's pods with the hash of their template. Kubernetes.
pub const TEMPLATE_HASH: &str = "pod-template-hash";

/// The entry of `metadata.ownerReferences` with `controller: true`, such as a pod's ReplicaSet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControllerRef {
    pub api_version: Arc<str>,
    pub kind: Arc<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
}

impl ControllerRef {
    /// The Deployment of a ReplicaSet: it names its ReplicaSets by its own name and the hash of the template, which their
    /// pods have as label [`TEMPLATE_HASH`].
    pub fn deployment(&self, template_hash: Option<&str>) -> Option<&str> {
        let name = self.name.strip_suffix(template_hash?)?.strip_suffix('-');
        name.filter(|_| *self.kind == *"ReplicaSet")
    }
}

/// What there is to tell of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PodRemarks {
    /// A legacy gate whose condition is not `True`.
    pub legacy_gate: Option<Box<str>>,
    pub unreadable: Vec<UnreadableAnnotation>,
    /// `targetgate.dev/gate: "false"`, kept only where there is something else to tell.
    pub opted_out: bool,
    /// Kept only for a pod with a gate.
    pub own_sleep: Option<OwnSleep>,
}

/// The shortest `preStop.sleep` that a main container has of its owner, not of the hook, and what the pod's annotations
/// say about drain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OwnSleep {
    pub container: Box<str>,
    pub seconds: u64,
    /// [`DRAIN_ANNOTATION`](crate::names::DRAIN_ANNOTATION).
    pub drain: Option<DrainMode>,
    /// [`DRAIN_SECONDS_ANNOTATION`](crate::names::DRAIN_SECONDS_ANNOTATION).
    pub needs: Option<SleepSeconds>,
}

/// An annotation of ours whose value cannot be read, so that it counts as absent (contract 5.6).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnreadableAnnotation {
    /// `annotation`, or `label` for the one of a Namespace that is read alike.
    pub kind: &'static str,
    pub name: &'static str,
    /// The value, truncated.
    pub value: Box<str>,
    /// What can be read instead.
    pub expected: &'static str,
}

impl fmt::Display for UnreadableAnnotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            value,
            expected,
        } = self;
        write!(
            f,
            "{kind} {name} is ignored, because {value:?} is not {expected}"
        )
    }
}

/// A pod as the API server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    pub key: ObjectKey,
    /// `metadata.uid`: a pod that replaces another under the same name is another pod.
    pub uid: Arc<str>,
    pub resource_version: Arc<str>,
    /// Interned, because the pods of one controller share it.
    pub template: Arc<PodTemplate>,
    /// `targetgate.dev/gate: "false"`.
    pub opted_out: bool,
    pub policies: Policies,
    /// Its gates under the prefixes that are served, in order, with the condition of each.
    pub gates: Vec<(GateName, Option<Condition>)>,
    /// `spec.hostNetwork`: its addresses are the node's, which other pods share.
    pub host_network: bool,
    /// `status.podIPs` (or `status.podIP`).
    pub ips: Vec<IpAddr>,
    /// When the condition `ContainersReady` became `True`; `None` while it is not.
    pub containers_ready: Option<Timestamp>,
    /// `status.startTime`: when the kubelet took the pod in.
    pub started: Option<Timestamp>,
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

    /// Whether one of its gates is open.
    pub fn has_open_gate(&self) -> bool {
        let mut conditions = self.gates.iter().filter_map(|(_, known)| known.as_ref());
        conditions.any(|condition| condition.status)
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Whether it carries `elbv2.k8s.aws/pod-readiness-gate-inject=enabled`.
    pub opted_in: bool,
    /// Its label `targetgate.dev/drain`.
    pub drain: DrainLabel,
    pub policies: Policies,
    pub unreadable: Vec<UnreadableAnnotation>,
    /// `metadata.uid`, kept only where there can be something to tell of the Namespace.
    pub uid: Option<Arc<str>>,
    /// When it got the label that opts in, at the latest; `None` if that is unknown.
    pub labelled: Option<Timestamp>,
}

/// One target of a group as `DescribeTargetHealth` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    pub target: (IpAddr, u16),
    /// `Target.AvailabilityZone`, with which a call names the target again; `None` if absent.
    pub zone: Option<Arc<str>>,
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
    /// `None` while AWS leaves out one of the numbers.
    pub health_checks: Option<HealthChecks>,
}

/// How ELB checks the health of a group's targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthChecks {
    /// `HealthCheckIntervalSeconds`.
    pub interval: Duration,
    /// `HealthyThresholdCount`.
    pub healthy_threshold: u32,
    /// `UnhealthyThresholdCount`.
    pub unhealthy_threshold: u32,
}

impl HealthChecks {
    /// Health check interval times healthy threshold: a target that works is healthy within this time.
    pub fn healthy_after(&self) -> Duration {
        self.interval.saturating_mul(self.healthy_threshold)
    }

    /// The time after which ELB's word is about the pod that has the address, and not about a previous one:
    /// a healthy target stays so until the unhealthy threshold is reached, and the first check comes up to
    /// one interval after the pod.
    ///
    /// ```
    /// use std::time::Duration;
    /// use targetgate_core::model::HealthChecks;
    ///
    /// let interval = Duration::from_secs(15);
    /// let calm = HealthChecks { interval, healthy_threshold: 2, unhealthy_threshold: 10 };
    /// assert_eq!(calm.proving_time(), Duration::from_secs(165));
    /// ```
    pub fn proving_time(&self) -> Duration {
        let checks = self.healthy_threshold.max(self.unhealthy_threshold);
        self.interval.saturating_mul(checks.saturating_add(1))
    }
}
