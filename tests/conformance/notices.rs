//! Events for the owners of pods and for Namespaces (contract 2), on the real API server.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_core::names::OPEN_AFTER_ANNOTATION;
use targetgate_sandbox::harness::waiting::until;

use crate::install::Installed;
use crate::shop::of_app;

const LEGACY: &str = "target-health.alb.ingress.k8s.aws/web_web_80";

impl Installed {
    /// A ReplicaSet that the test, which is its controller too, does not act for.
    pub(crate) async fn replica_set(&self, name: &str) -> ReplicaSet {
        let labels = json!({ "app": name });
        let wanted = json!({ "metadata": { "name": name }, "spec": {
            "replicas": 0, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "main", "image": "main" }] } } } });
        let wanted = serde_json::from_value(wanted).unwrap();
        let sets = self.cluster.api::<ReplicaSet>();
        sets.create(&PostParams::default(), &wanted).await.unwrap()
    }

    pub(crate) async fn told(&self, namespace: &str, uid: &str, reason: &str) -> Event {
        let events: Api<Event> = Api::namespaced(self.cluster.client.clone(), namespace);
        until(&format!("{reason} is told"), async || {
            let all = events.list(&Default::default()).await.unwrap().items;
            all.into_iter().find(|event| {
                let of = event.regarding.as_ref().and_then(|of| of.uid.as_deref());
                of == Some(uid) && event.reason.as_deref() == Some(reason)
            })
        })
        .await
    }
}

/// The pod of a ReplicaSet, with this in its spec.
pub(crate) fn owned(mut pod: Value, set: &ReplicaSet, spec: Value) -> Value {
    let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set.name_any(),
        "uid": set.uid().unwrap(), "controller": true });
    let more = json!({ "metadata": { "ownerReferences": [owner] }, "spec": spec });
    json_patch::merge(&mut pod, &more);
    pod
}

#[tokio::test]
async fn a_replica_set_is_told_of_its_legacy_gate_and_a_namespace_of_what_cannot_be_read() {
    let installed = Installed::new().await;
    let cluster = &installed.cluster;
    let set = installed.replica_set("old").await;
    let gates = json!({ "readinessGates": [{ "conditionType": LEGACY }] });
    let pod = owned(of_app("old-1", "old"), &set, gates);
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pods = cluster.pods();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let annotation = json!({ "metadata": { "annotations": { OPEN_AFTER_ANNOTATION: "soon" } } });
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let (params, patch) = (PatchParams::default(), Patch::Merge(annotation));
    let patched = namespaces.patch(&cluster.namespace, &params, &patch).await;

    let namespace = &cluster.namespace;
    let uid = set.uid().unwrap();
    let event = installed.told(namespace, &uid, "LegacyGate").await;
    let note = event.note.unwrap();
    assert!(
        note.starts_with("Pod old-1: ") && note.contains(LEGACY),
        "{note}"
    );

    let uid = patched.unwrap().uid().unwrap();
    let event = installed
        .told("default", &uid, "AnnotationUnreadable")
        .await;
    let note = event.note.unwrap();
    assert!(note.contains("\"soon\""), "{note}");
}

#[tokio::test]
async fn a_replica_set_is_told_of_a_pre_stop_of_its_own_that_is_too_short() {
    let installed = Installed::with(&["--drain=sleep"]).await;
    installed.bind("web").await;
    let set = installed.replica_set("web").await;
    let pre_stop = json!({ "preStop": { "sleep": { "seconds": 5 } } });
    let containers = json!([{ "name": "main", "image": "main", "lifecycle": pre_stop }]);
    let spec = json!({ "containers": containers });
    let pod = owned(of_app("web-1", "web"), &set, spec);
    installed.cluster.pod_with_gates(pod, &["web"]).await;

    let (namespace, uid) = (&installed.cluster.namespace, set.uid().unwrap());
    let event = installed.told(namespace, &uid, "PreStopTooShort").await;
    let note = event.note.unwrap();
    let expected = "Pod web-1: Container main sleeps 5 s before SIGTERM, and its ALB needs 20 s";
    assert!(note.starts_with(expected), "{note}");
    let pods = "targetgate_pods_noticed{reason=\"PreStopTooShort\"}";
    // Pods of other tests on this server may count as well.
    until("the pod is counted", async || {
        let counted = installed.process().metric(pods).await.ok()?;
        (counted >= 1.0).then_some(())
    })
    .await;
}
