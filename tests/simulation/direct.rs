//! Requests to the API server that bypass the lines and faults of the replicas.

use std::convert::Infallible;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, header};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::Value;
use targetgate_sandbox::api::Api;
use tower::Service as _;

/// The code and the object of an answer. The code is 0 if the server is down.
pub(crate) type Answer = (u16, Value);

pub(crate) async fn call(api: &Api, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let kind = match method {
        "PATCH" => "application/strategic-merge-patch+json",
        "MERGE" => "application/merge-patch+json",
        _ => "application/json",
    };
    let method = if method == "MERGE" { "PATCH" } else { method };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, kind)
        .body(Body::from(
            body.map(Value::to_string).unwrap_or_default().into_bytes(),
        ))
        .unwrap();
    match api.service().call(request).await {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            let read: Result<_, Infallible> = body.collect().await;
            let bytes: Bytes = read.map(|body| body.to_bytes()).unwrap_or_default();
            let object = serde_json::from_slice(&bytes).unwrap_or_default();
            (head.status.as_u16(), object)
        }
        Err(_) => (0, Value::Null),
    }
}

/// The present object. Nothing can happen while it is read.
pub(crate) fn get(api: &Api, path: &str) -> Option<Value> {
    let (code, object) = call(api, "GET", path, None).now_or_never()?;
    (code == 200).then_some(object)
}
