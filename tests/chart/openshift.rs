//! Installing where the cluster chooses the users of pods, as OpenShift does by its security context constraint
//! `restricted-v2`.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;

use crate::documented::{commands, section, the};
use crate::helm::NAMESPACE;
use crate::reader::{INSTALL, Reader};
use crate::server::apply;

/// The range of users that a namespace has on OpenShift begins here.
const FIRST_USER: u32 = 1_000_650_000;

/// A policy with the effect of the constraint, which the tests' control plane does not have.
fn like_restricted_v2() -> [Value; 2] {
    let fields = ["runAsUser", "runAsGroup", "fsGroup"];
    let validations = fields.map(|field| {
        let path = format!("object.spec.securityContext.{field}");
        json!({
            "expression": format!("!has({path}) || {path} >= {FIRST_USER}"),
            "message": format!("{field} is out of range"),
        })
    });
    let metadata = json!({ "name": "like-restricted-v2" });
    [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["pods"],
                }] },
                "validations": validations,
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": { "policyName": "like-restricted-v2", "validationActions": ["Deny"] },
        }),
    ]
}

/// Waits until the policy is in force, which the API server takes up after a while.
async fn until_enforced(pods: &Api<Pod>) {
    let pod = json!({
        "metadata": { "generateName": "probe-" },
        "spec": {
            "securityContext": { "runAsUser": 65532 },
            "containers": [{ "name": "c", "image": "c" }],
        },
    });
    let pod = serde_json::from_value(pod).unwrap();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    until("the policy is in force", async || {
        let refused = pods.create(&params, &pod).await.err()?;
        refused.to_string().contains("out of range").then_some(())
    })
    .await;
}

#[tokio::test]
async fn pods_are_created_where_the_cluster_chooses_their_users() {
    let reader = Reader::new().await;
    let pods: Api<Pod> = Api::namespaced(reader.client.clone(), NAMESPACE);
    reader.types(&format!("kubectl create namespace {NAMESPACE}"));
    for object in like_restricted_v2() {
        apply(&reader.client, &object, false).await.unwrap();
    }
    until_enforced(&pods).await;

    reader.types(INSTALL);
    let sets: Api<ReplicaSet> = Api::namespaced(reader.client.clone(), NAMESPACE);
    until("the chart's own user is refused", async || {
        let sets = sets.list(&ListParams::default()).await.ok()?.items;
        let conditions = sets.into_iter().find_map(|set| set.status?.conditions)?;
        conditions.into_iter().find(|c| {
            c.message
                .as_ref()
                .is_some_and(|m| m.contains("out of range"))
        })
    })
    .await;
    reader.types("helm uninstall targetgate --namespace targetgate-system --wait");

    let typed = commands(&section("docs/installing.md", "## OpenShift"));
    reader.types(the(&typed, "helm install"));
    until("both pods", async || {
        let listed = pods.list(&ListParams::default()).await.ok()?;
        (listed.items.len() == 2).then_some(())
    })
    .await;
}
