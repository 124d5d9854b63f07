//! The `CustomResourceDefinition` that `targetgate crd` prints.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use crate::binding::spec::{TargetGroupBindingSpec, TargetGroupBindingStatus};
use crate::names::BindingApi;

/// The binding's `CustomResourceDefinition` as YAML.
///
/// It has every field of the incumbent's, and accepts what that accepts, so that it can be installed over it. The
/// versions have one schema, and therefore do not need a conversion: the incumbent's v1alpha1 lacks a few fields,
/// which an update in that version would drop.
/// Source: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/>
pub fn yaml() -> String {
    // A tree of strings, numbers and lists: it always has a YAML form.
    serde_saphyr::to_string(&definition()).expect("JSON can be written as YAML")
}

pub(crate) fn definition() -> Value {
    let group = BindingApi::Elbv2.group();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("targetgroupbindings.{group}"), "annotations": keep() },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {
                "kind": "TargetGroupBinding",
                "listKind": "TargetGroupBindingList",
                "plural": "targetgroupbindings",
                "singular": "targetgroupbinding",
            },
            "versions": [
                version("v1alpha1", false),
                version(BindingApi::Elbv2.version(), true),
            ],
        },
    })
}

/// The annotations that keep tools from pruning the CRD: all bindings would be deleted with it, and with
/// these the targets of every load balancer. The tools read the annotations on the live object.
/// Source: <https://argo-cd.readthedocs.io/en/stable/user-guide/sync-options/>,
/// <https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources>
fn keep() -> Value {
    json!({
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    })
}

fn version(name: &str, stored: bool) -> Value {
    let column = |name: &str, path: &str, kind: &str, description: &str| json!({ "name": name, "jsonPath": path, "type": kind, "description": description });
    let mut arn = column(
        "ARN",
        ".spec.targetGroupARN",
        "string",
        "The target group's ARN",
    );
    arn["priority"] = json!(1);
    let mut group_name = column(
        "NAME",
        ".spec.targetGroupName",
        "string",
        "The target group's name",
    );
    group_name["priority"] = json!(2);
    json!({
        "name": name,
        "served": true,
        "storage": stored,
        "subresources": { "status": {} },
        "additionalPrinterColumns": [
            column("SERVICE-NAME", ".spec.serviceRef.name", "string", "The Service's name"),
            column("SERVICE-PORT", ".spec.serviceRef.port", "string", "The Service's port"),
            column("TARGET-TYPE", ".spec.targetType", "string", "What the targets are"),
            arn,
            group_name,
            column("AGE", ".metadata.creationTimestamp", "date", "Time since the creation"),
        ],
        "schema": { "openAPIV3Schema": {
            "description": "TargetGroupBinding ties a Service's endpoints to a target group of AWS Elastic Load Balancing.",
            "type": "object",
            "properties": {
                "apiVersion": { "type": "string" },
                "kind": { "type": "string" },
                "metadata": { "type": "object" },
                "spec": structural::<TargetGroupBindingSpec>(),
                "status": structural::<TargetGroupBindingStatus>(),
            },
        }},
    })
}

/// A type's schema in the structural form that an API server requires.
///
/// Source: <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>
fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    prune(&mut schema);
    schema.to_value()
}

/// Removes what Rust's `Option` adds and the incumbent's schema lacks: an explicit `null` as a value, and
/// defaults.
fn prune(schema: &mut Schema) {
    for key in ["title", "nullable", "default"] {
        schema.remove(key);
    }
    schemars::transform::transform_subschemas(&mut prune, schema);
}
