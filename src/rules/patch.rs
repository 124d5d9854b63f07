//! A decision as the smallest JSON Patch on the raw object.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use serde_json::{Value, json};

use crate::rules::gates::Decision;

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
        PatchOperation::Remove(RemoveOperation {
            path: pointer(&["spec", "readinessGates", &at.to_string()]),
        })
    });
    let added = decision
        .add
        .iter()
        .map(|name| add(&["spec", "readinessGates", "-"], gate(name.as_str())));
    Patch(removed.chain(added).collect())
}

/// One operation that adds a value, or replaces the one that an object has there.
pub fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation {
        path: pointer(path),
        value,
    })
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}
