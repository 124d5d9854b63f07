//! Metrics of the controllers.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use targetgate_core::drain::LoadBalancerKind;
use targetgate_core::endings::Deregistered;
use targetgate_core::notices::AllFound;
use targetgate_core::reason::Reason;
use targetgate_core::targets::calls::Kind;
use targetgate_core::targets::machine::action::Counts;

use crate::metrics::{Counters, FloatGauge, Gauges, Histograms, MetricSet, Registered};

/// What the index shows of pods that their owners are told.
const NOTICED: [Reason; 11] = [
    Reason::LegacyGate,
    Reason::AnnotationUnreadable,
    Reason::PreStopTooShort,
    Reason::WaitingForTarget,
    Reason::HookMissed,
    Reason::PodOlderThanBinding,
    Reason::PodOlderThanOptIn,
    Reason::BindingTerminating,
    Reason::GroupUnknown,
    Reason::NoBinding,
    Reason::BindingLost,
];

/// Metrics of the health loop.
#[derive(Clone)]
pub struct GateMetrics {
    pending: Gauge,
    oldest_pending: FloatGauge,
    ungated: Gauge,
    condition_writes: Counters<1>,
    flips: Counters<1>,
    closings: Counters<1>,
    open_seconds: Histogram,
    groups_not_found: Counter,
    groups_missing: Gauge,
    notices: Counters<2>,
    noticed_pods: Gauges<1>,
    sharing: Gauge,
}

impl MetricSet for GateMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self {
            pending: registered.add(
                "gates_pending",
                "Gates of live pods whose condition is not True",
                Gauge::default(),
            ),
            oldest_pending: registered.add(
                "gates_oldest_pending_seconds",
                "Time since the containers of the pod with the oldest pending gate became ready; a gate that was \
                 closed again does not count",
                FloatGauge::default(),
            ),
            ungated: registered.add(
                "pods_ungated",
                "Pods without a gate that they would get if they were created now: only pods for which the hook is \
                 called, neither opted out, terminating nor finished",
                Gauge::default(),
            ),
            condition_writes: registered.add(
                "condition_writes",
                "Pod conditions written or not, by result of the write",
                Counters::default(),
            ),
            flips: registered.add("flips", "Gates opened, by reason", Counters::default()),
            closings: registered.add(
                "gates_closed",
                "Open gates closed again, by reason: under targetgate.dev/after-open: follow, or for another address",
                Counters::default(),
            ),
            open_seconds: registered.add(
                "open_seconds",
                "Time from when a pod's containers became ready until its gate was opened; not for a gate that was \
                 closed again",
                Histogram::new(exponential_buckets(0.5, 2.0, 12)),
            ),
            groups_not_found: registered.add(
                "target_groups_not_found",
                "Answers of ELB that the target group of a binding does not exist",
                Counter::default(),
            ),
            groups_missing: registered.add(
                "target_groups_missing",
                "Target groups that bindings name and AWS does not have, whether or not pods wait for them",
                Gauge::default(),
            ),
            notices: registered.add(
                "owner_events",
                "Events about the owners of pods, bindings, Services and Namespaces, by reason and by whether they \
                 were sent or dropped because more than one a second was due, after a burst of 25; a dropped one whose \
                 cause is still there is due again after ten seconds, and not counted again",
                Counters::default(),
            ),
            noticed_pods: registered.add(
                "pods_noticed",
                "Pods of which the Events about their owners tell, by reason: what the leader saw within the last ten \
                 seconds, other than ends of pods and gates that were opened",
                Gauges::default(),
            ),
            sharing: registered.add(
                "bindings_sharing_group",
                "Bindings whose target group an older binding names as well, where not all of them set \
                 multiClusterTargetGroup: true",
                Gauge::default(),
            ),
        }
    }
}

impl GateMetrics {
    /// Counts an Event for an owner, which was `sent` or `dropped`.
    pub(super) fn noticed(&self, reason: Reason, result: &'static str) {
        let labels = [("reason", reason.as_str()), ("result", result)];
        self.notices.get_or_create(&labels).inc();
    }

    /// Sets the number of pods of which there is something to tell.
    pub(super) fn set_noticed(&self, found: &AllFound) {
        // Not cleared first: a scrape in between would find nothing.
        for noticed in NOTICED {
            let of_reason = found.iter().filter(|(topic, _)| topic.cause() == noticed);
            let pods: usize = of_reason.map(|(_, found)| found.pods).sum();
            let labels = [("reason", noticed.as_str())];
            let gauge = self.noticed_pods.get_or_create(&labels);
            gauge.set(i64::try_from(pods).unwrap_or(i64::MAX));
        }
        let sharing = found
            .keys()
            .filter(|topic| topic.reason == Reason::OlderBinding);
        let sharing = sharing.count();
        self.sharing.set(i64::try_from(sharing).unwrap_or(i64::MAX));
    }

    /// Sets the number of pending gates, and the age of the oldest.
    pub(super) fn set_pending(&self, gates: usize, oldest: Duration) {
        self.pending.set(i64::try_from(gates).unwrap_or(i64::MAX));
        self.oldest_pending.set(oldest.as_secs_f64());
    }

    /// Sets the number of ungated pods.
    pub(super) fn set_ungated(&self, pods: usize) {
        self.ungated.set(i64::try_from(pods).unwrap_or(i64::MAX));
    }

    /// Counts the conditions of one write, by its result.
    pub(super) fn wrote(&self, result: &'static str, conditions: usize) {
        self.condition_writes
            .get_or_create(&[("result", result)])
            .inc_by(u64::try_from(conditions).unwrap_or(u64::MAX));
    }

    /// Counts a gate that opened `waited` after its pod's containers became ready; `None` for one that was open
    /// before.
    pub(super) fn opened(&self, reason: Reason, waited: Option<Duration>) {
        let reason = reason.as_str();
        self.flips.get_or_create(&[("reason", reason)]).inc();
        if let Some(waited) = waited {
            self.open_seconds.observe(waited.as_secs_f64());
        }
    }

    /// Counts an open gate that was closed.
    pub(super) fn closed(&self, reason: Reason) {
        let reason = reason.as_str();
        self.closings.get_or_create(&[("reason", reason)]).inc();
    }

    /// Sets the number of missing target groups.
    pub(super) fn set_missing(&self, groups: usize) {
        let groups = i64::try_from(groups).unwrap_or(i64::MAX);
        self.groups_missing.set(groups);
    }

    /// Counts an answer of ELB that the target group of a binding does not exist.
    pub(super) fn group_not_found(&self) {
        self.groups_not_found.inc();
    }
}

/// Metrics of the gate rules; all zero unless `--admission both`.
#[derive(Clone)]
pub struct GateRulesMetrics {
    age: FloatGauge,
    served: Gauge,
    namespaces: Gauges<1>,
    writes: Counters<1>,
}

impl MetricSet for GateRulesMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self {
            age: registered.add(
                "gate_rules_age_seconds",
                "Time since a binding or Service changed in a way that the GateRules object of its namespace, by which \
                 the API server injects gates, does not hold yet; zero unless --admission both, and on replicas that \
                 do not lead",
                FloatGauge::default(),
            ),
            served: registered.add(
                "gate_rules_served",
                "Whether the API server serves MutatingAdmissionPolicy and GateRules, as the leader found with \
                 --admission both; zero on other replicas",
                Gauge::default(),
            ),
            namespaces: registered.add(
                "gate_rules_namespaces",
                "Namespaces with gates, by whether their GateRules are written or are too large, so that the webhook \
                 alone injects",
                Gauges::default(),
            ),
            writes: registered.add(
                "gate_rules_writes",
                "Writes of GateRules objects, by result",
                Counters::default(),
            ),
        }
    }
}

impl GateRulesMetrics {
    /// Counts a write by its result.
    pub(super) fn wrote(&self, result: &'static str) {
        self.writes.get_or_create(&[("result", result)]).inc();
    }

    /// Sets whether the API is served.
    pub(super) fn set_served(&self, served: bool) {
        self.served.set(served.into());
    }

    /// Sets the age of the oldest object that is behind, and the numbers of namespaces.
    pub(super) fn report(&self, age: Duration, written: usize, too_large: usize) {
        self.age.set(age.as_secs_f64());
        for (state, namespaces) in [("Written", written), ("TooLarge", too_large)] {
            let gauge = self.namespaces.get_or_create(&[("state", state)]);
            gauge.set(i64::try_from(namespaces).unwrap_or(i64::MAX));
        }
    }

    /// Sets what a replica tells that does not lead.
    pub(super) fn follow(&self) {
        self.set_served(false);
        self.report(Duration::ZERO, 0, 0);
    }
}

/// Bounds of the time until ELB says that a target drains, in seconds: dense where the shipped sleeps of 20 s and 100 s
/// are compared with it. Chosen.
const DRAIN_BOUNDS: [f64; 15] = [
    0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 100.0, 150.0, 300.0, 600.0,
];

/// Metrics of the ends of pods.
#[derive(Clone)]
pub struct EndingMetrics {
    deregistration_seconds: Histograms,
    ended_early: Counters<1>,
}

impl MetricSet for EndingMetrics {
    fn register(registered: &mut Registered) -> Self {
        let histograms: fn() -> Histogram = || Histogram::new(DRAIN_BOUNDS);
        Self {
            deregistration_seconds: registered.add(
                "deregistration_seconds",
                "Time from the first sight of the deletion of a pod whose gate was open until an answer of ELB showed \
                 its target draining or not registered, at most one poll late, by kind of load balancer",
                Family::new_with_constructor(histograms),
            ),
            ended_early: registered.add(
                "pods_ended_early",
                "Pods with an open gate that ended sooner after their deletion than their kind of load balancer needs \
                 to stop sending (--drain-seconds)",
                Counters::default(),
            ),
        }
    }
}

impl EndingMetrics {
    /// Counts a target that ELB said it drains, or does not have any more.
    pub(super) fn deregistered(&self, deregistered: Deregistered) {
        let kind = deregistered.kind.as_str();
        let histogram = self
            .deregistration_seconds
            .get_or_create(&[("load_balancer", kind)]);
        histogram.observe(deregistered.after.as_secs_f64());
    }

    /// Counts a pod that ended sooner than its load balancer needs.
    pub(super) fn ended_early(&self, kind: LoadBalancerKind) {
        let kind = kind.as_str();
        self.ended_early
            .get_or_create(&[("load_balancer", kind)])
            .inc();
    }
}

/// Why targets are not registered.
const UNREGISTERED: [Reason; 7] = [
    Reason::Registering,
    Reason::TargetRefused,
    Reason::GroupFull,
    Reason::TargetGroupNotFound,
    Reason::CallRefused,
    Reason::PortNotFound,
    Reason::AddressNotFound,
];

/// Metrics of the registrar.
#[derive(Clone)]
pub struct TargetMetrics {
    wanted: Gauge,
    registered: Gauge,
    held_by_floor: Gauge,
    foreign: Gauge,
    fights: Gauge,
    left_out: Gauge,
    look_interval: Gauge,
    unregistered: Gauges<1>,
    waits: Histograms,
}

impl MetricSet for TargetMetrics {
    fn register(registered: &mut Registered) -> Self {
        let histograms: fn() -> Histogram = || Histogram::new(exponential_buckets(0.01, 2.0, 14));
        Self {
            wanted: registered.add(
                "targets_wanted",
                "Targets that should be registered, over all bindings whose targets are registered (--register)",
                Gauge::default(),
            ),
            registered: registered.add(
                "targets_registered",
                "Targets that should be registered, and are",
                Gauge::default(),
            ),
            held_by_floor: registered.add(
                "targets_held_by_floor",
                "Targets that should leave their group, and stay because too few healthy ones would be left",
                Gauge::default(),
            ),
            foreign: registered.add(
                "targets_foreign",
                "Targets in groups of bindings whose targets are registered that are not ours; they are left alone",
                Gauge::default(),
            ),
            fights: registered.add(
                "targets_fought_over",
                "Targets that another client has removed three times",
                Gauge::default(),
            ),
            left_out: registered.add(
                "targets_endpoints_left_out",
                "Endpoints of EndpointSlices of Services without a selector that lead to no pod of their namespace, and \
                 are not registered (--slice-addresses)",
                Gauge::default(),
            ),
            look_interval: registered.add(
                "targets_look_interval_seconds",
                "Time after which ELB is asked again about a group in which nothing is to be done, and so until a target \
                 that something else removed is registered again; 0 while no group is looked at",
                Gauge::default(),
            ),
            unregistered: registered.add(
                "targets_unregistered",
                "Targets that should be registered, and are not, by reason; ready pods without such a port or address included",
                Gauges::default(),
            ),
            waits: registered.add(
                "target_call_seconds",
                "Time from the first sight that a pod's containers are ready until RegisterTargets names its target, \
                 and from that of its end until DeregisterTargets does, by call",
                Family::new_with_constructor(histograms),
            ),
        }
    }
}

impl TargetMetrics {
    /// Sets the numbers of targets, and how long the looks at idle groups take to come round.
    pub(super) fn set(&self, counts: &Counts, look_interval: Duration) {
        let set = |gauge: &Gauge, number| _ = gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        set(&self.wanted, counts.wanted);
        set(&self.registered, counts.registered);
        set(&self.held_by_floor, counts.held_by_floor);
        set(&self.foreign, counts.foreign);
        set(&self.fights, counts.fights);
        set(&self.left_out, counts.left_out);
        let seconds = i64::try_from(look_interval.as_secs()).unwrap_or(i64::MAX);
        self.look_interval.set(seconds);
        for reason in UNREGISTERED {
            let number = counts.unregistered.get(&reason).copied();
            let labels = [("reason", reason.as_str())];
            set(
                &self.unregistered.get_or_create(&labels),
                number.unwrap_or_default(),
            );
        }
    }

    /// Counts the waits of the targets of a call.
    pub(super) fn waited(&self, kind: Kind, waits: &[Duration]) {
        let histogram = self.waits.get_or_create(&[("call", kind.action())]);
        for wait in waits {
            histogram.observe(wait.as_secs_f64());
        }
    }
}

/// Metrics of the keeper of the certificate.
#[derive(Clone)]
pub struct KeeperMetrics {
    ca_expiry: Gauge,
    rotations: Counters<1>,
    bundle_repairs: Counter,
}

impl MetricSet for KeeperMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self {
            ca_expiry: registered.add(
                "ca_expiry_timestamp_seconds",
                "Unix time at which the CA in the Secret of --tls self expires; 0 with --tls files",
                Gauge::default(),
            ),
            rotations: registered.add(
                "certificate_rotations",
                "Certificates that this replica replaced while it was the leader, by kind",
                Counters::default(),
            ),
            bundle_repairs: registered.add(
                "ca_bundle_repairs",
                "Webhook configurations whose caBundle another client changed and this replica restored",
                Counter::default(),
            ),
        }
    }
}

impl KeeperMetrics {
    /// Sets the time at which the CA in the Secret expires.
    pub(super) fn set_ca_expiry(&self, at: Timestamp) {
        self.ca_expiry.set(at.as_second());
    }

    /// Counts a certificate of this kind that replaced another.
    pub(super) fn rotated(&self, kind: &'static str) {
        self.rotations.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts a webhook configuration whose bundles were restored.
    pub(super) fn repaired_bundle(&self) {
        self.bundle_repairs.inc();
    }
}
