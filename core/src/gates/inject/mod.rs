//! Which gates a new pod gets, and why (contract 2).

use crate::model::Binding;
use crate::names::{BindingApi, ConditionPrefix, GateName, is_legacy_gate};
use crate::reason::Reason;
use crate::selector::LabelSet;

use crate::index::services::ServiceIndex;

/// Which bindings give gates in an installation, and how the gates are named.
#[derive(Debug, Clone)]
pub struct GatePolicy {
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

/// The parts of a new pod that decide which gates it gets.
pub struct NewPod<'a, L> {
    /// `metadata.labels`.
    pub labels: &'a L,
    /// `spec.readinessGates[].conditionType`, in order.
    pub gates: &'a [&'a str],
    /// `targetgate.dev/gate: "false"`.
    pub opted_out: bool,
}

/// The changes to a new pod's gates, with the reason.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The strongest reason of all bindings.
    pub reason: Reason,
    /// Gates to add, in the order of the bindings' names.
    pub add: Vec<GateName>,
    /// Positions of the legacy gates to remove, ascending.
    pub remove: Vec<usize>,
    /// The bindings whose Service selects the pod, in the order of their names.
    selecting: Vec<(&'a Binding, Reason)>,
    routes: &'a ServiceIndex,
    apis: &'a [BindingApi],
}

impl<'a> Decision<'a> {
    /// The bindings that add a gate, in the order of their names.
    pub fn injected(&self) -> impl Iterator<Item = &'a str> {
        let injected = |(_, reason): &&(_, Reason)| *reason == Reason::Injected;
        let injected = self.selecting.iter().filter(injected);
        injected.map(|(binding, _)| &*binding.name)
    }

    /// The bindings that give the pod a gate, or gave it one that it has.
    pub fn giving(&self) -> impl Iterator<Item = &'a Binding> {
        let gives = |(_, reason): &&(_, Reason)| *reason <= Reason::AlreadyInjected;
        let giving = self.selecting.iter().filter(gives);
        giving.map(|(binding, _)| *binding)
    }

    /// The reason for each binding of the namespace, in the order of their names.
    pub fn bindings(&self) -> impl Iterator<Item = (&'a Binding, Reason)> {
        let mut selecting = self.selecting.iter().peekable();
        let all = self.routes.default_reasons(self.apis);
        all.map(move |(binding, default_reason)| {
            let selects = selecting.next_if(|(selecting, _)| std::ptr::eq(*selecting, binding));
            let reason = selects.map_or(default_reason, |(_, reason)| *reason);
            (binding, reason)
        })
    }
}

/// Decides which gates a pod gets in a namespace with these bindings and Services.
///
/// The decision is idempotent: deciding again on its own result does not add or remove a gate, so that the
/// API server may reinvoke the hook.
///
/// ```
/// use targetgate_core::binding::spec::TargetGroupBindingSpec;
/// use targetgate_core::gates::inject::{GatePolicy, NewPod, decide};
/// use targetgate_core::index::services::ServiceIndex;
/// use targetgate_core::model::{Labels, Service};
/// use targetgate_core::names::BindingApi;
///
/// let labels = Labels::from([("app".into(), "web".into())]);
/// let (selector, ports) = (labels.clone(), vec![]);
/// let publish_not_ready = false;
/// let service = Service { selector, external_name: false, publish_not_ready, ports, opted_out: false };
/// let spec = r#"{ "serviceRef": { "name": "web" }, "targetType": "ip", "targetGroupName": "web" }"#;
/// let spec: TargetGroupBindingSpec = serde_json::from_str(spec).unwrap();
///
/// let mut namespace = ServiceIndex::default();
/// namespace.apply_service(&"web".into(), service);
/// namespace.apply_binding(spec.model(BindingApi::Elbv2, "web", false));
///
/// let (policy, pod) = (GatePolicy::default(), NewPod { labels: &labels, gates: &[], opted_out: false });
/// let decision = decide(&pod, &namespace, &policy);
/// assert_eq!(decision.add[0].as_str(), "target-health.elbv2.k8s.aws/web");
/// ```
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
