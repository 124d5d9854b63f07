//! Conditions of a pod's status.

use k8s_openapi::api::core::v1::Pod;

/// Whether this condition of a pod is `True`.
pub(crate) fn is_true(pod: &Pod, condition: &str) -> bool {
    let status = pod.status.iter();
    let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|found| found.type_ == condition && found.status == "True")
}
