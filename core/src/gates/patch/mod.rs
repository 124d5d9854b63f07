//! A decision as the smallest JSON Patch on the raw object.

use json_patch::Patch;
use serde_json::{Value, json};

use crate::gates::inject::Decision;
use crate::patch::{add, remove};

/// The patch of a pod that carries out `decision`; empty where there is nothing to do.
///
/// `listed` tells whether the pod has a list at `spec.readinessGates` to add to: an absent list and
/// an explicit `null` are replaced by one. Fields that we do not own are not touched.
/// Source: RFC 6902.
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
    // From the last to the first: a removal shifts the positions behind it.
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
