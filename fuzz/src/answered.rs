//! Properties of each answer of the pod hook.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde_json::Value;
use targetgate::admission::answer::Answer;
use targetgate_core::reason::Reason;

/// The length at which the API server truncates a warning.
/// Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>
const MAX_WARNING: usize = 256;
/// The longest audit annotation. Chosen, because each creation of a pod adds them to the audit log.
const MAX_AUDIT: usize = 512;

/// The paths below which the hook changes a pod.
const OURS: [&str; 4] = [
    "/spec/readinessGates",
    "/spec/containers",
    "/spec/terminationGracePeriodSeconds",
    "/metadata",
];

/// Judges the answer itself, and its form on the wire.
pub(crate) fn as_ever(answer: &Answer, uid: &str) {
    assert_eq!(answer.denied, None);
    assert_ne!(answer.reason, Reason::Internal, "the hook panicked");
    assert_eq!(answer.audit["decision"], answer.reason.as_str());
    assert!(answer.audit.values().all(|text| text.len() <= MAX_AUDIT));
    for warning in &answer.warnings {
        assert!(warning.chars().count() <= MAX_WARNING, "{warning:?}");
        assert!(!warning.contains(char::is_control), "{warning:?}");
    }
    let review: Value = serde_json::from_slice(&answer.to_json(uid)).expect("it is JSON");
    let response = &review["response"];
    assert_eq!(response["uid"], uid);
    assert_eq!(response["allowed"], true);
    let patch = response.get("patch").map(|patch| {
        assert_eq!(response["patchType"], "JSONPatch");
        let json = STANDARD.decode(patch.as_str().expect("a text"));
        serde_json::from_slice::<Patch>(&json.expect("base64")).expect("a patch")
    });
    assert_eq!(patch.unwrap_or_default(), answer.patch);
    for operation in answer.patch.iter() {
        let path = operation.path().to_string();
        let ours = |at: &&str| path == **at || path.starts_with(&format!("{at}/"));
        assert!(OURS.iter().any(ours), "{path}");
    }
}
