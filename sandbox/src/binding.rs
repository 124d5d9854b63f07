//! The fields of a `TargetGroupBinding` that the actors read and write.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// The spec of a binding of `elbv2.k8s.aws/v1beta1`.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize)]
#[kube(
    group = "elbv2.k8s.aws",
    version = "v1beta1",
    kind = "TargetGroupBinding",
    namespaced,
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroupBindingSpec {
    /// The ARN of the target group, which the binding hooks can derive from a name.
    #[serde(
        rename = "targetGroupARN",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub target_group_arn: Option<String>,
    /// `ip` or `instance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_type: Option<String>,
    /// The Service whose pods are the targets.
    pub service_ref: ServiceRef,
}

/// A Service in the binding's namespace, and one of its ports.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServiceRef {
    /// The name of the Service.
    pub name: String,
    /// The port, by number or name. Our hook fills it in if the Service has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<IntOrString>,
}
