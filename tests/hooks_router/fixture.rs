//! A router in front of a small cluster, and reviews for it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{pending, ready};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use targetgate::admission::binding::BindingReviewer;
use targetgate::admission::body::Limits;
use targetgate::admission::pod::PodPolicy;
use targetgate::admission::{Hooks, POD_PATH, router};
use targetgate::metrics::Metrics;
use targetgate::state::cache::{Cache, InitialList, WatchedResource};
use targetgate_core::elb::query::DescribeError;
use targetgate_core::fixtures;
use targetgate_core::model::{Binding, TargetType};
use targetgate_core::names::ObjectKey;
use tower::ServiceExt as _;

/// The uid of every review that [`review`] makes.
pub(crate) const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

/// The behaviour of a call of AWS.
#[derive(Clone, Copy)]
pub(crate) enum Aws {
    /// It says at once that AWS has not answered in time.
    IsLate,
    /// It never returns.
    Hangs,
    /// It panics, as a bug would.
    Panics,
}

/// A cluster whose namespace `shop` has the Service `web` (`app=web`) and its binding `web`.
pub(crate) struct Fixture {
    pub(crate) cache: Arc<Cache>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) aws: Aws,
    pub(crate) limits: Limits,
    pub(crate) policy: PodPolicy,
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
            aws: Aws::IsLate,
            limits: Limits::default(),
            policy: PodPolicy::default(),
        };
        fixture.add_binding("web", Some(TargetType::Ip));
        let key = ObjectKey::new("shop", "web");
        let service = fixtures::service().selecting("app", "web");
        fixture
            .cache
            .write(|index| index.apply_service(&key, service));
        fixture
    }
}

impl Fixture {
    /// Adds a binding of the Service `web` in the namespace `shop`.
    pub(crate) fn add_binding(&self, name: &str, target_type: Option<TargetType>) {
        let binding = Binding {
            target_type,
            service: "web".into(),
            ..fixtures::binding(name)
        };
        let namespace = "shop".into();
        self.cache
            .write(|index| index.apply_binding(&namespace, binding));
    }

    pub(crate) fn router(&self) -> Router {
        router(Hooks {
            cache: self.cache.clone(),
            policy: self.policy.clone(),
            metrics: self.metrics.clone(),
            bindings: Arc::new(self.reviewer()),
            limits: self.limits.clone(),
        })
    }

    fn reviewer(&self) -> BindingReviewer {
        let aws = self.aws;
        let describe = move |_, _| match aws {
            Aws::IsLate => ready(Err(DescribeError::TimedOut)).boxed(),
            Aws::Hangs => pending().boxed(),
            Aws::Panics => panic!("as a bug would"),
        };
        BindingReviewer::new(self.cache.clone(), Box::new(describe), None)
    }

    /// Posts a body to a hook as kube-apiserver does.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Response<Bytes> {
        self.post_to(&self.router(), path, body).await
    }

    /// Posts a body to a hook of this router.
    pub(crate) async fn post_to(
        &self,
        router: &Router,
        path: &str,
        body: impl Into<Body>,
    ) -> Response<Bytes> {
        let request = Request::post(format!("{path}?timeout=2s"))
            .header("content-type", "application/json")
            .body(body.into());
        send(router.clone(), request.unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Bytes> {
        send(self.router(), request).await
    }

    /// Sends a review to the pod hook. Returns the `response` of the answer.
    pub(crate) async fn pod(&self, review: &Value) -> Value {
        answer(&self.post(POD_PATH, review.to_string()).await)
    }

    /// Fails unless the metrics have this line.
    #[track_caller]
    pub(crate) fn assert_measured(&self, line: &str) {
        let text = self.metrics.encode();
        assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
    }
}

async fn send(router: Router, request: Request<Body>) -> Response<Bytes> {
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

/// The `response` of a complete answer.
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

pub(crate) fn patch(answer: &Value) -> Value {
    let patch = STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&patch).unwrap()
}

/// Status and sentence of a refusal.
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

/// A pod that the Service `web` selects. Its own namespace is empty, as in many reviews.
pub(crate) fn pod() -> Value {
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": { "generateName": "web-7c9f-", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
        "status": {},
    })
}

/// [`pod`] with one field set below the JSON pointer `parent`, whose value may be `null`.
pub(crate) fn pod_with(parent: &str, field: &str, value: Value) -> Value {
    let mut pod = pod();
    pod.pointer_mut(parent).unwrap()[field] = value;
    pod
}
