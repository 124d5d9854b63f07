//! The JSON Patch of a pod that carries out a decision.

use json_patch::Patch;
use serde_json::{Value, json};

use crate::gates::inject::Decision;
use crate::patch::{add, remove};

/// The smallest patch of a pod that carries out `decision`; empty if the decision changes nothing.
///
/// `listed` tells whether the pod has a list at `spec.readinessGates`. An absent list or an explicit `null`
/// is replaced by a new one. Other fields are not touched.
/// Source: RFC 6902.
///
/// ```
/// use serde_json::json;
/// use targetgate_core::gates::inject::{GatePolicy, NewPod, decide};
/// use targetgate_core::gates::patch::of_pod;
/// use targetgate_core::index::services::ServiceIndex;
/// use targetgate_core::model::Labels;
/// use targetgate_core::names::ConditionPrefix;
///
/// let mut pod = json!({ "spec": { "readinessGates": [{ "conditionType": "example.com/other" }] } });
/// let (namespace, policy) = (ServiceIndex::default(), GatePolicy::default());
/// let new = NewPod { labels: &Labels::new(), gates: &["example.com/other"], opted_out: false };
/// let mut decision = decide(&new, &namespace, &policy);
/// decision.add.push(ConditionPrefix::default().gate("web"));
///
/// json_patch::patch(&mut pod, &of_pod(&decision, true)).unwrap();
/// let gates = &pod["spec"]["readinessGates"];
/// assert_eq!(gates[1]["conditionType"], "target-health.elbv2.k8s.aws/web");
/// ```
pub fn of_pod(decision: &Decision<'_>, listed: bool) -> Patch {
    let gate = |name: &str| json!({ "conditionType": name });
    if !listed {
        let gates: Vec<Value> = decision.add.iter().map(|g| gate(g.as_str())).collect();
        let whole = add(&["spec", "readinessGates"], Value::Array(gates));
        return Patch(if decision.add.is_empty() {
            vec![]
        } else {
            vec![whole]
        });
    }
    // Legacy gates are removed from the last to the first, because a removal shifts the positions behind it.
    let removed = decision.remove.iter().rev().map(|at| {
        let at = at.to_string();
        remove(&["spec", "readinessGates", &at])
    });
    let added = decision
        .add
        .iter()
        .map(|name| add(&["spec", "readinessGates", "-"], gate(name.as_str())));
    Patch(removed.chain(added).collect())
}

#[cfg(test)]
mod tests;
