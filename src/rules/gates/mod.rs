//! Which gates a new pod gets, and why (contract 2).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::{Binding, Service, TargetType};
use crate::names::{BindingApi, ConditionPrefix, GateName, is_legacy_gate};
use crate::rules::selector::{LabelSet, selects};

/// Why a pod, or a binding for that pod, was decided as it was.
///
/// The order is the precedence: an admission takes the first reason that any of its bindings has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The gate was added.
    Injected,
    /// The pod had the gate already.
    AlreadyInjected,
    /// `targetgate.dev/gate: "false"` on the Pod, Service or binding.
    OptedOut,
    /// The binding's Service does not select the pod.
    SelectorMismatch,
    /// The binding's Service does not exist.
    ServiceMissing,
    /// The binding's Service is an `ExternalName`.
    ServiceExternalName,
    /// The binding's Service has no selector.
    ServiceWithoutSelector,
    /// The binding has no `targetType` yet.
    TargetTypeUnknown,
    /// The binding's targets are nodes.
    TargetTypeInstance,
    /// The binding is of an API group that `--gate-apis` leaves out.
    ApiNotGated,
    /// There is no binding in the namespace.
    NoBinding,
}

impl Reason {
    /// The word in `auditAnnotations`, metrics and explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Injected => "Injected",
            Self::AlreadyInjected => "AlreadyInjected",
            Self::OptedOut => "OptedOut",
            Self::SelectorMismatch => "SelectorMismatch",
            Self::ServiceMissing => "ServiceMissing",
            Self::ServiceExternalName => "ServiceExternalName",
            Self::ServiceWithoutSelector => "ServiceWithoutSelector",
            Self::TargetTypeUnknown => "TargetTypeUnknown",
            Self::TargetTypeInstance => "TargetTypeInstance",
            Self::ApiNotGated => "ApiNotGated",
            Self::NoBinding => "NoBinding",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an installation gates, and how it names the gates.
#[derive(Debug, Clone)]
pub struct GatePolicy {
    /// Prefix of the gates that are added.
    pub prefix: ConditionPrefix,
    /// API groups whose bindings give gates.
    pub apis: Vec<BindingApi>,
}

impl Default for GatePolicy {
    fn default() -> Self {
        Self {
            prefix: ConditionPrefix::default(),
            apis: vec![BindingApi::Elbv2],
        }
    }
}

/// What a review says of a new pod, as far as it decides.
pub struct NewPod<'a, L> {
    /// `metadata.labels`.
    pub labels: &'a L,
    /// `spec.readinessGates[].conditionType`, in order.
    pub gates: &'a [&'a str],
    /// `targetgate.dev/gate: "false"`.
    pub opted_out: bool,
}

/// What is to be done with a new pod's gates.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The admission's own reason.
    pub reason: Reason,
    /// The reason for each binding of the namespace, in the order of their names.
    pub bindings: Vec<(&'a str, Reason)>,
    /// Gates to add, in the order of the bindings' names.
    pub add: Vec<GateName>,
    /// Positions in the pod's gates of the legacy ones to remove, ascending.
    pub remove: Vec<usize>,
}

/// Decides which gates a pod gets in a namespace with these bindings and Services.
///
/// `bindings` come in the order of their names. Deciding again over the decision's own result adds
/// and removes nothing, so that the API server may reinvoke.
pub fn decide<'a, L: LabelSet>(
    pod: &NewPod<'_, L>,
    bindings: impl Iterator<Item = &'a Binding>,
    services: &BTreeMap<Arc<str>, Service>,
    policy: &GatePolicy,
) -> Decision<'a> {
    let mut decision = Decision {
        reason: Reason::NoBinding,
        bindings: Vec::new(),
        add: Vec::new(),
        remove: Vec::new(),
    };
    for binding in bindings {
        let service = services.get(&binding.service);
        let reason = match refusal(pod, binding, service, &policy.apis) {
            Some(reason) => reason,
            None => add_gate(
                &mut decision.add,
                pod.gates,
                policy.prefix.gate(&binding.name),
            ),
        };
        decision.bindings.push((&*binding.name, reason));
    }
    let reasons = decision.bindings.iter().map(|(_, reason)| *reason);
    decision.reason = reasons.min().unwrap_or(Reason::NoBinding);
    if decision.reason <= Reason::AlreadyInjected {
        let legacy = |(_, gate): &(usize, &&str)| is_legacy_gate(gate);
        let gates = pod.gates.iter().enumerate();
        decision.remove = gates.filter(legacy).map(|(at, _)| at).collect();
    }
    decision
}

/// Whether a pod that is there, and is not opted out, lacks a gate that it would be given were it
/// created now, in a namespace with these bindings and Services.
///
/// `present` are its gates under every prefix that is served: one under a former prefix lacks nothing.
pub fn lacks_gate<'a, L: LabelSet>(
    labels: &L,
    present: &[GateName],
    mut bindings: impl Iterator<Item = &'a Binding>,
    services: &BTreeMap<Arc<str>, Service>,
    apis: &[BindingApi],
) -> bool {
    let pod = NewPod {
        labels,
        gates: &[],
        opted_out: false,
    };
    bindings.any(|binding| {
        let service = services.get(&binding.service);
        refusal(&pod, binding, service, apis).is_none()
            && !present.iter().any(|gate| gate.is_of(&binding.name))
    })
}

/// Why a binding gives this pod no gate; `None` where it gives one.
fn refusal<L: LabelSet>(
    pod: &NewPod<'_, L>,
    binding: &Binding,
    service: Option<&Service>,
    apis: &[BindingApi],
) -> Option<Reason> {
    if !apis.contains(&binding.api) {
        return Some(Reason::ApiNotGated);
    }
    match binding.target_type {
        Some(TargetType::Ip) => {}
        Some(TargetType::Instance) => return Some(Reason::TargetTypeInstance),
        None => return Some(Reason::TargetTypeUnknown),
    }
    let Some(service) = service else {
        return Some(Reason::ServiceMissing);
    };
    if service.external_name {
        Some(Reason::ServiceExternalName)
    } else if service.selector.is_empty() {
        Some(Reason::ServiceWithoutSelector)
    } else if !selects(&service.selector, pod.labels) {
        Some(Reason::SelectorMismatch)
    } else if pod.opted_out || service.opted_out || binding.opted_out {
        Some(Reason::OptedOut)
    } else {
        None
    }
}

/// Adds a gate unless the pod or the plan has it. Bindings of one name in both API groups share one.
fn add_gate(add: &mut Vec<GateName>, present: &[&str], gate: GateName) -> Reason {
    if present.contains(&gate.as_str()) {
        return Reason::AlreadyInjected;
    }
    if !add.contains(&gate) {
        add.push(gate);
    }
    Reason::Injected
}

#[cfg(test)]
mod tests;
