//! What the registrar puts on bindings: finalizers, and the condition `Ready`.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Method;
use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::client::Body;
use kube::{Client, ResourceExt as _};
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::json;
use targetgate::kubernetes::targets::bindings::{patch_finalizer, write_status};
use targetgate_core::index::BindingKey;
use targetgate_core::names::{BindingApi, ObjectKey};
use targetgate_core::reason::Reason;
use targetgate_core::targets::machine::action::{Finalizer, Status, Written};
use targetgate_sandbox::harness::waiting::until;

use crate::servers::{ARN, Cluster, Server, create, resource};
use crate::targets::in_time;

const INCUMBENTS: &str = "elbv2.k8s.aws/resources";
const OURS: &str = "targetgate.dev/targets";

impl Cluster {
    fn bindings(&self) -> Api<DynamicObject> {
        self.dynamic(&resource("elbv2.k8s.aws", "v1beta1", "TargetGroupBinding"))
    }

    /// A binding with these finalizers, and its key and UID.
    async fn held_by(&self, finalizers: &[&str]) -> (BindingKey, String) {
        self.serve_bindings(BindingApi::Elbv2).await;
        let binding = json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": { "name": "web", "finalizers": finalizers },
            "spec": { "serviceRef": { "name": "web", "port": 80 }, "targetGroupARN": ARN,
                "targetType": "ip" },
        });
        let made = until("bindings are served", async || {
            create(&self.bindings(), binding.clone()).await.ok()
        })
        .await;
        let key = BindingKey {
            object: ObjectKey::new(self.namespace.as_str(), "web"),
            api: BindingApi::Elbv2,
        };
        (key, made.uid().unwrap())
    }

    async fn finalizers(&self) -> Vec<String> {
        let binding = self.bindings().get("web").await.unwrap();
        binding.metadata.finalizers.unwrap_or_default()
    }

    async fn set_finalizers(&self, finalizers: &[&str]) {
        set_finalizers(
            self.bindings(),
            finalizers.iter().map(|f| (*f).to_owned()).collect(),
        )
        .await;
    }
}

async fn set_finalizers(bindings: Api<DynamicObject>, finalizers: Vec<String>) {
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    bindings
        .patch("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// The client, through which something else happens before the first patch is sent.
fn disturbed(client: &Client, happens: impl Future<Output = ()> + Send + 'static) -> Client {
    let happens = Arc::new(Mutex::new(Some(happens.boxed())));
    let client = client.clone();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let is_patch = *request.method() == Method::PATCH;
        let happens: Option<BoxFuture<'static, ()>> =
            is_patch.then(|| happens.lock().take()).flatten();
        let client = client.clone();
        async move {
            if let Some(happens) = happens {
                happens.await;
            }
            client.send(request).await
        }
    });
    Client::new(service, "default")
}

#[rstest]
#[tokio::test]
async fn a_finalizer_that_comes_or_goes_in_between_is_kept_as_it_is(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.own_cluster().await;
    let (key, uid) = cluster.held_by(&[]).await;
    let others = "example.com/other".to_owned();
    let patch = async |between: &[&str], finalizer| {
        let between = between.iter().map(|f| (*f).to_owned()).collect();
        let client = disturbed(&cluster.client, set_finalizers(cluster.bindings(), between));
        let written = patch_finalizer(&client, &key, &uid, finalizer, in_time()).await;
        assert_eq!(written, Written::Done(None));
        cluster.finalizers().await
    };
    // The binding has no finalizer when it is read.
    let held = patch(&[INCUMBENTS, &others], Finalizer::AddOurs).await;
    assert_eq!(held, [INCUMBENTS, &others, OURS]);
    // Another finalizer comes between the read and the removal.
    cluster.set_finalizers(&[INCUMBENTS, OURS]).await;
    let held = patch(&[INCUMBENTS, OURS, &others], Finalizer::RemoveIncumbents).await;
    assert_eq!(held, [OURS, &others]);
    // Another goes.
    let held = patch(&[OURS], Finalizer::RemoveOurs).await;
    assert!(held.is_empty());
}

#[rstest]
#[tokio::test]
async fn a_binding_that_is_being_deleted_goes_with_our_finalizer_and_gets_none(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.own_cluster().await;
    let (key, uid) = cluster.held_by(&[INCUMBENTS, OURS]).await;
    let patch = |uid: String, finalizer| {
        let (client, key) = (cluster.client.clone(), key.clone());
        async move { patch_finalizer(&client, &key, &uid, finalizer, in_time()).await }
    };
    let another = "00000000-0000-0000-0000-000000000000".to_owned();
    let written = patch(another, Finalizer::RemoveOurs).await;
    assert_eq!(written, Written::Conflict, "it has another UID");
    let params = DeleteParams::default();
    cluster.bindings().delete("web", &params).await.unwrap();
    let written = patch(uid.clone(), Finalizer::RemoveOurs).await;
    assert_eq!(written, Written::Done(None));
    assert_eq!(cluster.finalizers().await, [INCUMBENTS]);
    if server == Server::Kubernetes {
        let written = patch(uid.clone(), Finalizer::AddOurs).await;
        let Written::Failed(why) = written else {
            panic!("{written:?}");
        };
        assert!(why.contains("metadata.finalizers"), "{why}");
    }
    let written = patch(uid.clone(), Finalizer::RemoveIncumbents).await;
    assert_eq!(written, Written::Done(None));
    assert!(cluster.bindings().get_opt("web").await.unwrap().is_none());
    let written = patch(uid, Finalizer::RemoveOurs).await;
    assert_eq!(written, Written::Conflict, "it is gone");
}

#[rstest]
#[tokio::test]
async fn the_condition_is_written_beside_others_that_come_in_between(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.own_cluster().await;
    let (key, uid) = cluster.held_by(&[OURS]).await;
    let status = Status {
        binding: key.clone(),
        uid: uid.as_str().into(),
        ready: false,
        reason: Reason::Registering,
        message: "2 of 3 targets are registered".into(),
        generation: 1,
    };
    let bindings = cluster.bindings();
    let another = async move {
        let other = json!({ "type": "Other", "status": "True", "reason": "Tested", "message": "",
            "lastTransitionTime": "2026-11-30T00:00:00Z" });
        let patch = Patch::Merge(json!({ "status": { "conditions": [other] } }));
        let params = PatchParams::default();
        bindings.patch_status("web", &params, &patch).await.unwrap();
    };
    let client = disturbed(&cluster.client, another);
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let first = write_status(&client, &status, at("2026-11-30T08:00:00Z"), in_time());
    assert_eq!(first.await, Written::Done(None));
    let again = write_status(&client, &status, at("2026-11-30T09:00:00Z"), in_time());
    assert_eq!(again.await, Written::Done(None));
    let binding = cluster.bindings().get("web").await.unwrap();
    assert_eq!(binding.metadata.generation, Some(1));
    let written = &binding.data["status"];
    assert_eq!(written["observedGeneration"], 1);
    assert_eq!(written["conditions"][0]["type"], "Other");
    let expected = json!({ "type": "Ready", "status": "False", "reason": "Registering",
        "message": "2 of 3 targets are registered", "observedGeneration": 1,
        "lastTransitionTime": "2026-11-30T08:00:00Z" });
    assert_eq!(written["conditions"][1], expected);
}

/// The incumbent's CRD of some releases has no conditions.
#[tokio::test]
async fn a_crd_without_conditions_drops_them_which_is_no_error() {
    let cluster = Server::Kubernetes.own_cluster().await;
    let (key, uid) = cluster.held_by(&[OURS]).await;
    let crds: Api<DynamicObject> = Api::all_with(
        cluster.client.clone(),
        &resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    );
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/conditions";
    let patch: json_patch::Patch =
        serde_json::from_value(json!([{ "op": "remove", "path": path }])).unwrap();
    let name = "targetgroupbindings.elbv2.k8s.aws";
    let params = PatchParams::default();
    crds.patch(name, &params, &Patch::Json::<()>(patch))
        .await
        .unwrap();
    let status = Status {
        binding: key,
        uid: uid.as_str().into(),
        ready: true,
        reason: Reason::Registered,
        message: "".into(),
        generation: 1,
    };
    until("the condition is dropped", async || {
        let written = write_status(&cluster.client, &status, Timestamp::now(), in_time()).await;
        assert_eq!(written, Written::Done(None));
        let binding = cluster.bindings().get("web").await.unwrap();
        binding.data["status"]["conditions"].is_null().then_some(())
    })
    .await;
}
