//! What a replica knows of a namespace, as it answers on its loopback listener, and `explain` reads (contract 10).
//!
//! Both are of one version, or not: what a reader does not know it passes over.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure_log::Failing;
use crate::gates::machine::known::{GateKnown, TargetKnown};
use crate::names::{BindingApi, GroupKey};
use crate::reason::Reason;
use crate::targets::machine::known::BindingKnown;
use crate::targets::standing::Standing;

/// The version of the form of the answer.
pub const API_VERSION: &str = "targetgate.dev/v1";
/// An answer has at most this many gates, and as many bindings. Chosen: about a megabyte.
pub const AT_MOST: usize = 1_000;

/// What a replica knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaView {
    pub api_version: String,
    pub kind: String,
    /// The name of its pod, if it knows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    pub namespace: String,
    pub as_of: Timestamp,
    pub gates: GatesView,
    /// `None` with `--register none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrar: Option<RegistrarView>,
}

/// What its health loop knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatesView {
    /// Whether it polls ELB and writes conditions.
    pub leads: bool,
    pub gates: Vec<GateView>,
    /// The number of gates that are left out.
    pub left_out: usize,
    /// The calls a second that the budget allows now, by account and Region of the groups that are named.
    pub rates: BTreeMap<String, f64>,
}

/// A gate that is not open, or follows ELB.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateView {
    pub pod: String,
    pub uid: String,
    pub condition_type: String,
    pub open: bool,
    /// A word of `docs/reasons.md`.
    pub reason: String,
    /// Since when its pod is due, as far as the replica has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_since: Option<Timestamp>,
    pub targets: Vec<TargetView>,
}

/// A target for which a gate waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetView {
    pub binding: String,
    #[serde(rename = "targetGroupARN")]
    pub target_group_arn: String,
    pub address: std::net::IpAddr,
    pub port: u16,
    /// ELB's last answer that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerView>,
    /// When ELB is asked again, if the budget allows it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_look: Option<Timestamp>,
    /// The place of the group among those of its account and Region, by their next look, and how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<(usize, usize)>,
    /// Whether ELB is being asked now.
    #[serde(default)]
    pub in_flight: bool,
    /// Absent unless the last calls failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<FailingView>,
}

/// Why ELB does not answer about a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailingView {
    /// AWS's error code of the last call.
    pub code: String,
    pub since: Timestamp,
    /// Calls that failed in a row.
    pub calls: u32,
}

/// What ELB said of a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnswerView {
    /// When ELB was asked.
    pub asked: Timestamp,
    pub healthy: bool,
    /// A word of `docs/reasons.md`.
    pub reason: String,
    /// Reason and message of the condition that follows: ELB's own words, if it had any.
    pub code: String,
    pub message: String,
}

/// What its registrar knows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrarView {
    pub leads: bool,
    pub bindings: Vec<RegistrationView>,
    /// The number of bindings that are left out.
    pub left_out: usize,
}

/// What becomes of a binding's targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationView {
    pub binding: String,
    /// The API group.
    pub api: String,
    /// Whether its targets are registered and deregistered now.
    pub active: bool,
    pub ready: bool,
    /// A word of `docs/reasons.md`.
    pub reason: String,
    /// What the binding is told beside the reason.
    #[serde(default)]
    pub message: String,
    /// Of the binding's group, over all bindings of that.
    pub wanted: usize,
    pub registered: usize,
    pub held_by_floor: usize,
    pub foreign: usize,
    /// The targets that are wanted and not registered, and pods that cannot be targets, by reason.
    #[serde(default)]
    pub unregistered: BTreeMap<String, usize>,
    /// Targets that ELB refuses.
    #[serde(default)]
    pub refused: Vec<RefusedView>,
    /// The number of endpoints of EndpointSlices that are left out.
    #[serde(default)]
    pub endpoints_left_out: usize,
    /// Some of these.
    #[serde(default)]
    pub left_out: Vec<LeftOutView>,
}

/// A target that ELB refuses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedView {
    pub address: std::net::IpAddr,
    pub port: u16,
    pub reason: String,
    pub message: String,
}

/// An endpoint of an EndpointSlice that is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOutView {
    pub address: std::net::IpAddr,
    pub port: u16,
    /// The pod that it names, which does not live, or has another address; absent if it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
}

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub now: Instant,
    pub wall: Timestamp,
}

impl Moment {
    /// The wall-clock time of another moment, to the millisecond.
    fn of(self, at: Instant) -> Timestamp {
        let ahead = SignedDuration::try_from(at.saturating_duration_since(self.now));
        let ago = SignedDuration::try_from(self.now.saturating_duration_since(at));
        let (ahead, ago) = (ahead.unwrap_or_default(), ago.unwrap_or_default());
        let shifted = SignedDuration::from_millis_i128(ahead.as_millis() - ago.as_millis());
        // Neither clock runs for so long that their sum has no place in time.
        self.wall.checked_add(shifted).unwrap_or(self.wall)
    }
}

impl ReplicaView {
    /// The answer of a replica.
    pub fn new(
        pod: Option<String>,
        namespace: &str,
        as_of: Timestamp,
        gates: GatesView,
        registrar: Option<RegistrarView>,
    ) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "ReplicaView".to_owned(),
            pod,
            namespace: namespace.to_owned(),
            as_of,
            gates,
            registrar,
        }
    }
}

impl GateView {
    /// A gate, as the health loop knows it at this moment, where the polls of these groups fail.
    pub fn new<'a>(
        known: &GateKnown,
        failing: impl Fn(&GroupKey) -> Option<&'a Failing>,
        moment: Moment,
    ) -> Self {
        let targets = known.targets.iter();
        Self {
            pod: known.pod.name.to_string(),
            uid: known.uid.to_string(),
            condition_type: known.gate.as_str().to_owned(),
            open: known.open,
            reason: known.reason.as_str().to_owned(),
            due_since: known.due.map(|due| moment.of(due)),
            targets: targets
                .map(|target| TargetView::new(target, failing(&target.query.group), moment))
                .collect(),
        }
    }
}

impl TargetView {
    fn new(known: &TargetKnown, failing: Option<&Failing>, moment: Moment) -> Self {
        let query = &known.query;
        let answer = known.answer.as_ref().map(|(said, asked)| AnswerView {
            asked: moment.of(*asked),
            healthy: said.condition.status,
            reason: said.reason.as_str().to_owned(),
            code: said.condition.reason.to_string(),
            message: said.condition.message.to_string(),
        });
        let group = known.group;
        let calls = group.map_or(0, |group| group.failures);
        let failing = failing.filter(|_| calls > 0);
        Self {
            binding: query.binding.0.to_string(),
            target_group_arn: query.group.arn.to_string(),
            address: query.target.0,
            port: query.target.1,
            answer,
            next_look: group.and_then(|group| Some(moment.of(group.next_poll?))),
            place: group.and_then(|group| group.place),
            in_flight: group.is_some_and(|group| group.in_flight),
            failing: failing.map(|failing| FailingView {
                code: failing.code.clone(),
                since: moment.of(failing.since),
                calls,
            }),
        }
    }
}

impl RegistrationView {
    /// A binding, as the registrar knows it.
    pub fn new(known: &BindingKnown) -> Self {
        let (ready, reason, message) = match (known.standing, &known.verdict) {
            (Standing::NotOurs(reason) | Standing::Suspended(reason), _) => {
                (false, reason, String::new())
            }
            (Standing::Ours, Some((ready, reason, words))) => (*ready, *reason, words.clone()),
            (Standing::Ours, None) => (false, Reason::Registering, String::new()),
        };
        let counts = &known.counts;
        let unregistered = counts.unregistered.iter();
        let refused = known.refused.iter();
        let left_out = known.left_out.iter();
        Self {
            binding: known.key.object.name.to_string(),
            api: known.key.api.to_string(),
            active: known.active,
            ready,
            reason: reason.as_str().to_owned(),
            message,
            wanted: counts.wanted,
            registered: counts.registered,
            held_by_floor: counts.held_by_floor,
            foreign: counts.foreign,
            unregistered: unregistered
                .map(|(reason, number)| (reason.as_str().to_owned(), *number))
                .collect(),
            refused: refused
                .map(|((address, port), reason, message)| RefusedView {
                    address: *address,
                    port: *port,
                    reason: reason.as_str().to_owned(),
                    message: message.clone(),
                })
                .collect(),
            endpoints_left_out: known.endpoints_left_out,
            left_out: left_out
                .map(|((address, port), pod)| LeftOutView {
                    address: *address,
                    port: *port,
                    pod: pod.as_deref().map(str::to_owned),
                })
                .collect(),
        }
    }

    /// Whether it is about this binding.
    pub(super) fn is_of(&self, name: &str, api: BindingApi) -> bool {
        self.binding == name && self.api == api.to_string()
    }
}
