//! A router with a small cluster behind it, and reviews to send to it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use targetgate::admission::body::Limits;
use targetgate::admission::{BindingRoutes, Hooks, POD_PATH, router};
use targetgate::metrics::Metrics;
use targetgate::state::cache::{Cache, InitialList, WatchedResource};
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::model::{Binding, IpFamily, Service, TargetType};
use targetgate_core::names::{BindingApi, ObjectKey};
use tower::ServiceExt as _;

/// The uid of every review that [`review`] makes.
pub(crate) const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

/// A cluster whose namespace `shop` has the Service `web` (`app=web`) and its binding `web`.
pub(crate) struct Fixture {
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) bindings: Option<BindingRoutes>,
    pub(crate) limits: Limits,
}

impl Default for Fixture {
    fn default() -> Self {
        let cache = Arc::new(Cache::default());
        for watched in WatchedResource::ALL {
            cache.looked(watched, InitialList::Listed);
        }
        let fixture = Self {
            cache,
            metrics: Arc::default(),
            bindings: None,
            limits: Limits::default(),
        };
        fixture.add_binding("web", Some(TargetType::Ip));
        let key = ObjectKey::new("shop", "web");
        fixture
            .cache
            .write(|index| index.apply_service(&key, service()));
        fixture
    }
}

impl Fixture {
    /// Adds a binding of the Service `web` in the namespace `shop`.
    pub(crate) fn add_binding(&self, name: &str, target_type: Option<TargetType>) {
        let binding = Binding {
            api: BindingApi::Elbv2,
            name: name.into(),
            arn: None,
            target_type,
            family: IpFamily::V4,
            service: "web".into(),
            port: None,
            role: None,
            multi_cluster: false,
            opted_out: false,
        };
        let namespace = "shop".into();
        self.cache
            .write(|index| index.apply_binding(&namespace, binding));
    }

    pub(crate) fn router(&self) -> Router {
        router(Hooks {
            cache: self.cache.clone(),
            policy: GatePolicy::default(),
            metrics: self.metrics.clone(),
            bindings: self.bindings.clone(),
            limits: self.limits.clone(),
        })
    }

    /// Posts a body to a hook as kube-apiserver does.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Response<Bytes> {
        let request = Request::post(format!("{path}?timeout=2s"))
            .header("content-type", "application/json")
            .body(body.into());
        self.send(request.unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Bytes> {
        let (head, body) = self.router().oneshot(request).await.unwrap().into_parts();
        Response::from_parts(head, body.collect().await.unwrap().to_bytes())
    }

    /// The `response` of the answer to a review of the pod hook.
    pub(crate) async fn pod(&self, review: &Value) -> Value {
        answer(&self.post(POD_PATH, review.to_string()).await)
    }

    /// Whether the metrics have a line.
    #[track_caller]
    pub(crate) fn assert_measured(&self, line: &str) {
        let text = self.metrics.encode();
        assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
    }
}

fn service() -> Service {
    Service {
        selector: [("app".into(), "web".into())].into(),
        external_name: false,
        ports: vec![],
        opted_out: false,
    }
}

/// The `response` of a whole answer.
#[track_caller]
pub(crate) fn answer(response: &Response<Bytes>) -> Value {
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/json");
    let mut review: Value = serde_json::from_slice(response.body()).unwrap();
    let answer = review["response"].take();
    let envelope = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": null,
    });
    assert_eq!(review, envelope);
    answer
}

/// The JSON Patch in an answer.
pub(crate) fn patch(answer: &Value) -> Value {
    let patch = STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&patch).unwrap()
}

/// The sentence that refuses a request.
#[track_caller]
pub(crate) fn refusal(response: &Response<Bytes>) -> (u16, String) {
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    (response.status().as_u16(), text.trim_end().to_owned())
}

/// The review of a new object in the namespace `shop`.
pub(crate) fn review(object: Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": UID,
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" },
            "object": object,
            "oldObject": null,
            "dryRun": false,
        },
    })
}

/// A pod that the Service `web` selects; its own namespace is empty, as in many reviews.
pub(crate) fn pod() -> Value {
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": { "generateName": "web-7c9f-", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
        "status": {},
    })
}

/// [`pod`] with one field set, by JSON pointer; `null` in the pointed place is made.
pub(crate) fn pod_with(parent: &str, field: &str, value: Value) -> Value {
    let mut pod = pod();
    pod.pointer_mut(parent).unwrap()[field] = value;
    pod
}
