//! Operations of a JSON Patch (RFC 6902).

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation};
use serde_json::Value;

/// The operation that adds a value at a path, or replaces the one that an object has there.
///
/// ```
/// use serde_json::json;
/// use targetgate_core::patch::add;
///
/// let mut pod = json!({ "spec": {} });
/// let operation = add(&["spec", "nodeName"], json!("node-1"));
/// json_patch::patch(&mut pod, &[operation]).unwrap();
/// assert_eq!(pod, json!({ "spec": { "nodeName": "node-1" } }));
/// ```
pub fn add(path: &[&str], value: Value) -> PatchOperation {
    let path = pointer(path);
    PatchOperation::Add(AddOperation { path, value })
}

/// The operation that removes the value at a path.
pub fn remove(path: &[&str]) -> PatchOperation {
    let path = pointer(path);
    PatchOperation::Remove(RemoveOperation { path })
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}
