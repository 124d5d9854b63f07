//! Events for the owners of pods and for Namespaces (contract 2), on the real API server.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_core::names::{BindingApi, OPEN_AFTER_ANNOTATION};
use targetgate_sandbox::harness::waiting::until;
use tokio::time::{sleep, timeout};

use crate::install::{Installed, Site};
use crate::servers::{create, strategic};
use crate::shop::of_app;

/// The deadline of an Event, of which some tell of what has lasted for a minute. Chosen, far above what any takes.
const LONGEST: Duration = Duration::from_secs(180);
/// Two objects that are created so long after one another do not have the same `creationTimestamp`.
const A_SECOND: Duration = Duration::from_millis(1100);
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

    /// Waits for an Event. Other tests on this server leave causes behind, of which is told first.
    pub(crate) async fn told(&self, namespace: &str, uid: &str, reason: &str) -> Event {
        let told = async {
            loop {
                if let Some(event) = self.tells(namespace, uid, reason).await {
                    return event;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        let told = timeout(LONGEST, told).await;
        told.unwrap_or_else(|_| panic!("{reason} is never told"))
    }

    async fn tells(&self, namespace: &str, uid: &str, reason: &str) -> Option<Event> {
        let events: Api<Event> = Api::namespaced(self.cluster.client.clone(), namespace);
        let all = events.list(&Default::default()).await.unwrap().items;
        all.into_iter().find(|event| {
            let of = event.regarding.as_ref().and_then(|of| of.uid.as_deref());
            of == Some(uid) && event.reason.as_deref() == Some(reason)
        })
    }

    async fn note_of(&self, uid: &str, reason: &str) -> String {
        let told = self.told(&self.cluster.namespace, uid, reason).await;
        told.note.unwrap()
    }

    async fn uid_of_binding(&self, name: &str) -> String {
        let binding = self.bindings(BindingApi::Elbv2).get(name).await;
        binding.unwrap().uid().unwrap()
    }

    async fn uid_of_pod(&self, name: &str) -> String {
        self.cluster.pods().get(name).await.unwrap().uid().unwrap()
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
    let ready = json!({ "type": "ContainersReady", "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let status = json!({ "status": { "conditions": [ready] } });
    strategic(&pods, "old-1", status).await.unwrap();
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
async fn a_replica_set_is_told_of_a_legacy_gate_though_new_pods_lose_theirs() {
    let installed = Installed::new().await;
    let cluster = &installed.cluster;
    let set = installed.replica_set("web").await;
    let gates = json!({ "readinessGates": [{ "conditionType": LEGACY }] });
    let pod = owned(of_app("web-1", "web"), &set, gates);
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pods = cluster.pods();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    installed.bind("web").await;
    // Once the hook gives gates, the binding is known.
    let new = of_app("web-2", "web");
    cluster.pod_with_gates(new, &["web"]).await;
    let ready = json!({ "type": "ContainersReady", "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let status = json!({ "status": { "conditions": [ready] } });
    strategic(&pods, "web-1", status).await.unwrap();

    let note = installed.note_of(&set.uid().unwrap(), "LegacyGate").await;
    assert!(
        note.starts_with("Pod web-1: ") && note.contains("Create the pod anew"),
        "{note}"
    );
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

#[tokio::test]
async fn a_replica_set_is_told_of_a_gate_that_its_age_has_opened() {
    let installed = Installed::new().await;
    let cluster = &installed.cluster;
    installed.bind("slow").await;
    let set = installed.replica_set("slow").await;
    let mut pod = owned(of_app("slow-1", "slow"), &set, json!({}));
    pod["metadata"]["annotations"] = json!({ OPEN_AFTER_ANNOTATION: "1s" });
    cluster.pod_with_gates(pod, &["slow"]).await;
    cluster.containers_become_ready("slow-1", "10.0.0.60").await;
    let open = cluster.gate_becomes("slow-1", "slow", "True").await;
    assert_eq!(open.reason.as_deref(), Some("GateTimeout"));

    let (namespace, uid) = (&cluster.namespace, set.uid().unwrap());
    let event = installed.told(namespace, &uid, "GateTimeout").await;
    let note = event.note.unwrap();
    let begins = "Pod slow-1: its gate was opened: Not open after 1s";
    assert!(note.starts_with(begins), "{note}");
}

/// One test, since each of these takes a minute.
#[tokio::test]
async fn what_lasts_for_a_minute_is_told_to_the_owner_service_or_binding_that_it_concerns() {
    let installed = Installed::without_hooks(Site::new().await).await;
    let cluster = &installed.cluster;
    // Our own hook would deny the second one.
    let shared = installed.group("shared");
    for binding in ["older", "younger"] {
        installed
            .bind_whole(BindingApi::Elbv2, binding, &shared)
            .await;
        sleep(A_SECOND).await;
    }
    let hooks = installed.process().hooks;
    installed.register_hooks(hooks, json!({})).await;

    let early = installed.replica_set("early").await;
    let by_hand = of_app("early-2", "early");
    for pod in [
        owned(of_app("early-1", "early"), &early, json!({})),
        by_hand,
    ] {
        create(&cluster.pods(), pod).await.unwrap();
    }
    sleep(A_SECOND).await;
    installed.bind("early").await;

    let waits = installed.replica_set("waits").await;
    let group = installed.bind("waits").await;
    let pod = owned(of_app("waits-1", "waits"), &waits, json!({}));
    cluster.pod_with_gates(pod, &["waits"]).await;
    cluster
        .containers_become_ready("waits-1", "10.0.0.61")
        .await;

    installed.bind("lost").await;
    cluster.gated_pod("lost-1", "lost", &["lost"]).await;
    let bindings = installed.bindings(BindingApi::Elbv2);
    let params = DeleteParams::default();
    bindings.delete("lost", &params).await.unwrap();

    let told = async |uid: &str, reason| installed.note_of(uid, reason).await;
    let note = told(&early.uid().unwrap(), "Ungated").await;
    let begins = "Pod early-1: no gate of binding early (PodOlderThanBinding). ";
    assert!(note.starts_with(begins), "{note}");
    // The index does not keep the UID of such a pod.
    let note = told(&installed.uid_of_pod("early-2").await, "Ungated").await;
    assert!(note.starts_with("Pod early-2: no gate"), "{note}");

    let note = told(&waits.uid().unwrap(), "WaitingForTarget").await;
    let ends = "keeps the gate closed: Elb.RegistrationInProgress: Target registration is in progress. \
                Look at the controller that registers the binding's targets.";
    assert!(
        note.starts_with("Pod waits-1: ") && note.ends_with(ends),
        "{note}"
    );
    installed.register(&group, "10.0.0.61");
    cluster.gate_becomes("waits-1", "waits", "True").await;
    let waits = waits.uid().unwrap();
    let healthy = installed
        .told(&cluster.namespace, &waits, "TargetHealthy")
        .await;
    assert_eq!(healthy.type_.as_deref(), Some("Normal"));
    let related = healthy.related.and_then(|related| related.uid);
    assert_eq!(related, Some(installed.uid_of_binding("waits").await));

    let service = cluster.api::<Service>().get("lost").await.unwrap();
    let note = told(&service.uid().unwrap(), "BindingLost").await;
    let begins = "it had binding lost of ip targets until ";
    assert!(note.starts_with(begins), "{note}");

    let note = told(&installed.uid_of_binding("younger").await, "OlderBinding").await;
    let older = format!(
        "binding {}/older names target group {shared}",
        cluster.namespace
    );
    assert!(note.starts_with(&older), "{note}");
    let uid = installed.uid_of_binding("older").await;
    told(&uid, "ServiceMissing").await;
    let tells = installed.tells(&cluster.namespace, &uid, "OlderBinding");
    assert!(tells.await.is_none());
    let sharing = installed
        .process()
        .metric("targetgate_bindings_sharing_group");
    assert!(sharing.await.unwrap() >= 1.0);
}
