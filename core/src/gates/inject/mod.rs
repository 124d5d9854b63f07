//! Which gates a new pod gets, and why (contract 2).

use crate::model::Binding;
use crate::names::{BindingApi, ConditionPrefix, GateName, is_legacy_gate};
use crate::reason::Reason;
use crate::selector::LabelSet;

use crate::index::services::ServiceIndex;

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
#[derive(Debug)]
pub struct Decision<'a> {
    /// The admission's own reason.
    pub reason: Reason,
    /// Gates to add, in the order of the bindings' names.
    pub add: Vec<GateName>,
    /// Positions in the pod's gates of the legacy ones to remove, ascending.
    pub remove: Vec<usize>,
    /// The bindings that select the pod, in the order of their names.
    selecting: Vec<(&'a Binding, Reason)>,
    routes: &'a ServiceIndex,
    apis: &'a [BindingApi],
}

impl<'a> Decision<'a> {
    /// The bindings that gave a gate, in the order of their names.
    pub fn injected(&self) -> impl Iterator<Item = &'a str> {
        let injected = |(_, reason): &&(_, Reason)| *reason == Reason::Injected;
        let injected = self.selecting.iter().filter(injected);
        injected.map(|(binding, _)| &*binding.name)
    }

    /// The reason for each binding of the namespace, in the order of their names.
    pub fn bindings(&self) -> impl Iterator<Item = (&'a str, Reason)> {
        let mut selecting = self.selecting.iter().peekable();
        let all = self.routes.default_reasons(self.apis);
        all.map(move |(binding, default_reason)| {
            let selects = selecting.next_if(|(selecting, _)| std::ptr::eq(*selecting, binding));
            (
                &*binding.name,
                selects.map_or(default_reason, |(_, reason)| *reason),
            )
        })
    }
}

/// Decides which gates a pod gets in a namespace with these bindings and Services.
///
/// Deciding again over the decision's own result adds and removes nothing, so that the API server may
/// reinvoke.
pub fn decide<'a, L: LabelSet>(
    pod: &NewPod<'_, L>,
    routes: &'a ServiceIndex,
    policy: &'a GatePolicy,
) -> Decision<'a> {
    let selecting = routes.selecting(pod.labels);
    let of_others = routes.strongest_of_others(&selecting, &policy.apis);
    let mut add = Vec::new();
    let reasons = selecting.iter().map(|(route, service)| {
        let reason = route.refusal(pod.opted_out, service, &policy.apis);
        let gate = || policy.prefix.gate(&route.binding.name);
        (
            &route.binding,
            reason.unwrap_or_else(|| add_gate(&mut add, pod.gates, gate())),
        )
    });
    let selecting: Vec<_> = reasons.collect();
    let of_these = selecting.iter().map(|(_, reason)| *reason);
    let reason = of_these.chain(of_others).min().unwrap_or(Reason::NoBinding);
    let mut remove = Vec::new();
    if reason <= Reason::AlreadyInjected {
        let legacy = |(_, gate): &(usize, &&str)| is_legacy_gate(gate);
        let gates = pod.gates.iter().enumerate();
        remove.extend(gates.filter(legacy).map(|(at, _)| at));
    }
    Decision {
        reason,
        add,
        remove,
        selecting,
        routes,
        apis: &policy.apis,
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
