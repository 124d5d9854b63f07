//! What is known of a workload, as plain data that an edge reads out of a pod template, Services, bindings and groups.

use std::time::Duration;

use crate::drain::{DrainSeconds, LoadBalancerKind, SleepSeconds};
use crate::lint::Settle;

/// A workload, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Workload {
    pub pod: PodTemplate,
    /// The groups of the bindings that select its pods.
    pub groups: Vec<Group>,
    pub rollout: Rollout,
    pub cluster: Cluster,
    pub settings: Settings,
}

/// How pods are drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// How long each kind of load balancer needs (`--drain-seconds`).
    pub seconds: DrainSeconds,
    /// The sleep that containers without a `preStop` get from us; `None` where they get none.
    pub injected: Option<SleepSeconds>,
}

/// A pod template, or a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTemplate {
    /// `terminationGracePeriodSeconds` as its owner gave it, without the sleep that it gets from us.
    pub grace: u64,
    /// The main containers: the kubelet ends native sidecars after all of them.
    pub containers: Vec<Container>,
    /// The fields in which a probe or handler of any container names a `host`, such as
    /// `containers[0].livenessProbe.httpGet.host`.
    pub hosts: Vec<String>,
    /// How long the application's longest request takes, if its owner said so.
    pub longest_request: Option<Duration>,
}

impl Default for PodTemplate {
    /// A template that leaves out what it can.
    fn default() -> Self {
        Self {
            // Kubernetes' own default.
            grace: 30,
            containers: vec![],
            hosts: vec![],
            longest_request: None,
        }
    }
}

/// A main container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    pub name: String,
    pub pre_stop: PreStop,
    /// The probes that have a grace period of their own.
    pub probes: Vec<ProbeGrace>,
}

/// What a container does before `SIGTERM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PreStop {
    /// It has no handler.
    #[default]
    Absent,
    /// It sleeps for so many seconds.
    Sleep(u64),
    /// Its handler takes a time that only the handler knows: `exec`, `httpGet`.
    Unknown,
}

/// A liveness or startup probe that has a grace period of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeGrace {
    /// `livenessProbe` or `startupProbe`.
    pub field: &'static str,
    /// Its `terminationGracePeriodSeconds`.
    pub grace: u64,
}

/// A target group whose binding selects the pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// The binding's name.
    pub binding: String,
    pub kind: Option<LoadBalancerKind>,
    /// `deregistration_delay.timeout_seconds`.
    pub deregistration_delay: Option<u64>,
    /// `deregistration_delay.connection_termination.enabled`.
    pub connection_termination: Option<bool>,
    /// Whether its health check is one of TCP, which an open port passes.
    pub tcp_health_check: Option<bool>,
    /// Whether each zone's load balancer node sends to the targets of all zones.
    pub cross_zone: Option<bool>,
    /// How many zones the load balancer has.
    pub zones: Option<u32>,
    /// `publishNotReadyAddresses` of the binding's Service.
    pub publishes_not_ready: Option<bool>,
}

/// How a workload is rolled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rollout {
    pub replicas: Option<u32>,
    /// How many pods a rollout may take away before their replacements are ready, as a number of pods.
    pub max_unavailable: Option<u32>,
}

/// What is known of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cluster {
    /// The version of the oldest kubelet.
    pub oldest_kubelet: Option<Version>,
    /// What Pod Security enforces in the workload's namespace.
    pub pod_security: Option<PodSecurity>,
    pub registrar: Option<Registrar>,
}

/// A version of Kubernetes: major and minor.
pub type Version = (u32, u32);

/// What Pod Security enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodSecurity {
    pub level: Level,
    /// The version of the standard: that of `enforce-version`, else of the API server.
    pub version: Version,
}

/// A level of the Pod Security Standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// What registers the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registrar {
    /// AWS Load Balancer Controller.
    Incumbent,
    /// targetgate.
    Targetgate,
}

impl Workload {
    /// What its load balancers need, the slowest first; of a kind that is not known, nothing is known.
    pub(crate) fn settle(&self) -> Option<Settle> {
        let kinds = self.groups.iter().filter_map(|group| group.kind);
        let each = kinds.map(|kind| Settle {
            kind,
            needs: self.settings.seconds.of(Some(kind)),
        });
        each.max_by_key(|settle| settle.needs)
    }

    /// The pod's grace period in seconds, with the sleep that it gets from us.
    pub(crate) fn grace(&self) -> u64 {
        let sleep = self.settings.injected.map_or(0, |s| u64::from(s.get()));
        self.pod.grace.saturating_add(sleep)
    }

    /// The seconds that a container waits before `SIGTERM`; `None` if its handler's time is not known.
    pub(crate) fn wait(&self, container: &Container) -> Option<u64> {
        match container.pre_stop {
            PreStop::Absent => Some(self.settings.injected.map_or(0, |s| u64::from(s.get()))),
            PreStop::Sleep(seconds) => Some(seconds),
            PreStop::Unknown => None,
        }
    }
}
