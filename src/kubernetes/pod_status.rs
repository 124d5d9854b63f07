//! Writes conditions of one pod (contract 5.3).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Patch, PatchParams};
use kube::client::Body;
use kube::core::{Request, Status};
use serde_json::{Value, json};
use targetgate_core::model::Condition;
use targetgate_core::names::{GateName, ObjectKey};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::kubernetes::decode::url_path;
use crate::kubernetes::{CALL_TIMEOUT, MANAGER, WrittenObject, is_absence, why};
use crate::state::cache::WatchedResource;

/// Maximum length of a response, in bytes: the API server's limit on the body of a request.
const LARGEST_ANSWER: usize = 3 << 20;

/// The pod to write to, and the state on which the write is based.
#[derive(Debug, Clone, Copy)]
pub struct Revision<'a> {
    pub pod: &'a ObjectKey,
    /// Its `metadata.uid`, because another pod can get the same name later.
    pub uid: &'a str,
    /// The `metadata.resourceVersion` on which the decision is based.
    pub version: &'a str,
}

/// One condition to write.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub gate: &'a GateName,
    /// The rest of it, except its time.
    pub condition: &'a Condition,
    /// The time to write as `lastTransitionTime`; `None` if the status does not change: then the
    /// time does not change either.
    pub transition: Option<Timestamp>,
}

/// The result of a successful write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The pod's `metadata.resourceVersion` after the write.
    pub resource_version: Arc<str>,
}

/// Why a write failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The pod does not exist, or another pod has its name: the write is obsolete.
    #[error("pod {0} is gone")]
    Gone(ObjectKey),
    /// Another client wrote in between: decide again.
    #[error("pod {0} was changed by another client at the same moment")]
    Conflict(ObjectKey),
    /// The API server is overloaded (429).
    #[error("the API server puts off writing pods/status of {pod}: {why}")]
    TooManyRequests {
        pod: ObjectKey,
        /// The `Retry-After` of the response.
        retry_after: Option<Duration>,
        /// The message of the response.
        why: String,
    },
    /// Another failure; whether the API server wrote the conditions is unknown.
    #[error("cannot write pods/status of {pod}: {why}; ours needs the verb patch on pods/status")]
    Failed { pod: ObjectKey, why: String },
}

/// Writes conditions into `pods/status`, all or none, if the pod still has that `resourceVersion`, and changes
/// nothing else. Waits for the response until `by`.
///
/// A strategic merge patch merges `status.conditions` by `type`, and keeps what it does not name
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-update>).
///
/// # Errors
///
/// The API server rejects another version with 409, [`WriteError::Conflict`], and a wrong UID alone
/// with 422 Invalid on `metadata.uid`: the pod is [`WriteError::Gone`].
pub async fn write_conditions(
    client: &Client,
    revision: Revision<'_>,
    entries: &[Entry<'_>],
    by: Instant,
) -> Result<Written, WriteError> {
    let Revision { pod, .. } = revision;
    let begun = Instant::now();
    let by = by.min(begun + CALL_TIMEOUT);
    let call = send(client, pod, patch(revision, entries));
    let failed = |why| WriteError::Failed {
        pod: pod.clone(),
        why,
    };
    match timeout_at(by, call).await {
        Ok(Ok(answer)) if answer.status().is_success() => match read(answer.body()) {
            Ok(written) => Ok(written),
            Err(error) => Err(failed(why(&error))),
        },
        Ok(Ok(answer)) => Err(refusal(pod, &answer)),
        Ok(Err(error)) => Err(failed(why(&error))),
        Err(_) => Err(failed(format!("no answer within {:?}", by - begun))),
    }
}

/// Sends a patch, and reads the response also of a failure: `kube::Api` does not expose its `Retry-After`.
async fn send(client: &Client, pod: &ObjectKey, patch: Value) -> kube::Result<Response<Bytes>> {
    let url = url_path(WatchedResource::Pods, Some(&pod.namespace));
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let request = Request::new(url)
        .patch_subresource("status", &pod.name, &params, &Patch::Strategic(patch))
        .map_err(kube::Error::BuildRequest)?;
    let answer = client.send(request.map(Body::from)).await?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER).collect().await;
    let body = body.map_err(kube::Error::Service)?.to_bytes();
    Ok(Response::from_parts(parts, body))
}

fn read(body: &[u8]) -> kube::Result<Written> {
    let answer: WrittenObject = serde_json::from_slice(body).map_err(kube::Error::SerdeError)?;
    Ok(Written {
        resource_version: answer.metadata.resource_version.into(),
    })
}

fn patch(revision: Revision<'_>, entries: &[Entry<'_>]) -> Value {
    let conditions: Vec<Value> = entries.iter().map(written).collect();
    let metadata = json!({ "uid": revision.uid, "resourceVersion": revision.version });
    json!({ "metadata": metadata, "status": { "conditions": conditions } })
}

fn written(entry: &Entry<'_>) -> Value {
    let condition = entry.condition;
    let mut written = json!({
        "type": entry.gate.as_str(),
        "status": if condition.status { "True" } else { "False" },
        "reason": &*condition.reason,
        "message": &*condition.message,
    });
    if let Some(transition) = entry.transition {
        // Kubernetes stores whole seconds.
        let time = transition.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        written["lastTransitionTime"] = json!(time);
    }
    written
}

fn refusal(pod: &ObjectKey, answer: &Response<Bytes>) -> WriteError {
    let pod = pod.clone();
    let code = answer.status();
    let status = status(answer);
    let of_uid = || {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes
            .map(|cause| cause.field.as_str())
            .any(|field| field == "metadata.uid")
            || status.message.contains("metadata.uid")
    };
    let why = || why(&kube::Error::Api(status.clone().boxed()));
    match code {
        StatusCode::NOT_FOUND if is_absence(&status) => WriteError::Gone(pod),
        StatusCode::UNPROCESSABLE_ENTITY if of_uid() => WriteError::Gone(pod),
        StatusCode::CONFLICT => WriteError::Conflict(pod),
        StatusCode::TOO_MANY_REQUESTS => WriteError::TooManyRequests {
            pod,
            retry_after: retry_after(answer),
            why: why(),
        },
        _ => WriteError::Failed { pod, why: why() },
    }
}

/// Reads the `Status` of a failed response. A 429 is plain text: the API server sends it before the code that writes
/// a `Status`.
fn status(answer: &Response<Bytes>) -> Status {
    let body = answer.body();
    let status = serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body);
        Status::failure(text.trim(), "")
    });
    status.with_code(answer.status().as_u16())
}

/// Parses `Retry-After` as whole seconds, the form of API servers, which copy `retryAfterSeconds` of a `Status` there,
/// too.
/// Source: <https://www.rfc-editor.org/rfc/rfc9110#name-retry-after>
fn retry_after(answer: &Response<Bytes>) -> Option<Duration> {
    let header = answer.headers().get(RETRY_AFTER)?;
    let seconds = header.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::kubernetes::testing::{Answer, Scripted, status};
    use targetgate_core::names::ConditionPrefix;

    const STATUS: &str = "/api/v1/namespaces/shop/pods/web-1/status";

    async fn write(api: &Scripted, transition: Option<Timestamp>) -> Result<Written, WriteError> {
        let condition = Condition {
            status: true,
            reason: "NotSelected".into(),
            message: "".into(),
        };
        let gate = ConditionPrefix::default().gate("web");
        let revision = Revision {
            pod: &ObjectKey::new("shop", "web-1"),
            uid: "u-1",
            version: "41",
        };
        let entry = Entry {
            gate: &gate,
            condition: &condition,
            transition,
        };
        let by = Instant::now() + Duration::from_secs(60);
        write_conditions(&api.client(), revision, &[entry], by).await
    }

    fn pod() -> Answer {
        Answer::Json(
            200,
            json!({ "metadata": { "name": "web-1", "namespace": "shop", "resourceVersion": "42" } }),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn one_condition_is_written_under_uid_and_version_and_nothing_else() {
        let api = Scripted::default();
        api.answer(STATUS, pod());
        let transition = "2026-11-21T09:00:07.987Z".parse().unwrap();
        let written = write(&api, Some(transition)).await.unwrap();
        assert_eq!(&*written.resource_version, "42");
        let patch = api.seen(STATUS).remove(0);
        assert_eq!(patch.method, "PATCH");
        assert_eq!(patch.content_type, "application/strategic-merge-patch+json");
        assert!(
            patch.uri.contains("fieldManager=targetgate"),
            "{}",
            patch.uri
        );
        let condition = json!({
            "type": "target-health.elbv2.k8s.aws/web", "status": "True",
            "reason": "NotSelected", "message": "", "lastTransitionTime": "2026-11-21T09:00:07Z",
        });
        let metadata = json!({ "uid": "u-1", "resourceVersion": "41" });
        let expected = json!({ "metadata": metadata, "status": { "conditions": [condition] } });
        assert_eq!(patch.body, expected);
    }

    #[test]
    fn conditions_that_are_due_together_share_one_patch_and_each_has_its_own_time() {
        let revision = Revision {
            pod: &ObjectKey::new("shop", "web-1"),
            uid: "u-1",
            version: "41",
        };
        let condition = |status| Condition {
            status,
            reason: "R".into(),
            message: "M".into(),
        };
        let (open, closed) = (condition(true), condition(false));
        let gates = ["web", "public"].map(|name| ConditionPrefix::default().gate(name));
        let entries = [
            Entry {
                gate: &gates[0],
                condition: &open,
                transition: Some("2026-11-21T09:00:07Z".parse().unwrap()),
            },
            Entry {
                gate: &gates[1],
                condition: &closed,
                transition: None,
            },
        ];
        let patch = patch(revision, &entries);
        let conditions = json!([
            { "type": "target-health.elbv2.k8s.aws/web", "status": "True", "reason": "R",
                "message": "M", "lastTransitionTime": "2026-11-21T09:00:07Z" },
            { "type": "target-health.elbv2.k8s.aws/public", "status": "False", "reason": "R",
                "message": "M" },
        ]);
        assert_eq!(patch["status"]["conditions"], conditions);
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_that_stays_keeps_its_time() {
        let api = Scripted::default();
        api.answer(STATUS, pod());
        write(&api, None).await.unwrap();
        let condition = &api.seen(STATUS)[0].body["status"]["conditions"][0];
        assert_eq!(condition.get("lastTransitionTime"), None);
    }

    #[rstest]
    #[case::deleted(404, "pods \"web-1\" not found", json!({ "name": "web-1", "kind": "pods" }), "Gone")]
    #[case::of_the_path(404, "the server could not find the requested resource", json!({}), "Failed")]
    #[case::replaced(422, "Pod \"web-1\" is invalid: metadata.uid: Invalid value: \"u-1\": field is immutable",
        json!({ "causes": [{ "reason": "FieldValueInvalid", "field": "metadata.uid" }] }), "Gone")]
    #[case::invalid(422, "Pod \"web-1\" is invalid: status.conditions[0].type: Invalid value",
        json!({ "causes": [{ "reason": "FieldValueInvalid", "field": "status.conditions[0].type" }] }), "Failed")]
    #[case::changed(409, "the object has been modified", json!({ "name": "web-1" }), "Conflict")]
    #[case::denied(403, "pods \"web-1\" is forbidden", json!({}), "Failed")]
    #[case::broken(500, "etcd is away", json!({}), "Failed")]
    #[tokio::test(start_paused = true)]
    async fn each_refusal_has_its_meaning(
        #[case] code: u16,
        #[case] message: &str,
        #[case] details: serde_json::Value,
        #[case] meaning: &str,
    ) {
        let api = Scripted::default();
        api.answer(
            STATUS,
            Answer::Json(code, status(code, "Reason", message, details)),
        );
        let error = write(&api, None).await.unwrap_err();
        let found = match &error {
            WriteError::Gone(_) => "Gone",
            WriteError::Conflict(_) => "Conflict",
            WriteError::TooManyRequests { .. } => "TooManyRequests",
            WriteError::Failed { .. } => "Failed",
        };
        assert_eq!(found, meaning, "{error}");
        assert!(error.to_string().contains("shop/web-1"), "{error}");
    }

    #[rstest]
    #[case::seconds(Some("3"), Some(3))]
    #[case::at_once(Some("0"), None)]
    #[case::a_date(Some("Sat, 21 Nov 2026 09:00:00 GMT"), None)]
    #[case::unsaid(None, None)]
    #[tokio::test(start_paused = true)]
    async fn a_server_with_too_much_to_do_is_heard_though_it_answers_in_plain_text(
        #[case] retry_after: Option<&'static str>,
        #[case] seconds: Option<u64>,
    ) {
        let api = Scripted::default();
        api.answer(STATUS, Answer::TooManyRequests(retry_after));
        let error = write(&api, None).await.unwrap_err();
        let expected = WriteError::TooManyRequests {
            pod: ObjectKey::new("shop", "web-1"),
            retry_after: seconds.map(Duration::from_secs),
            why: "Too many requests, please try again later. (429)".to_owned(),
        };
        assert_eq!(error, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_404_of_a_proxy_does_not_mean_that_the_pod_is_gone() {
        let api = Scripted::default();
        api.answer(STATUS, Answer::Text(404, "404 page not found\n"));
        let error = write(&api, None).await.unwrap_err();
        assert!(matches!(error, WriteError::Failed { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_a_version_does_not_count_as_written() {
        let api = Scripted::default();
        api.answer(STATUS, Answer::Json(200, json!({ "metadata": {} })));
        let error = write(&api, None).await.unwrap_err().to_string();
        assert!(error.contains("resourceVersion"), "{error}");
    }

    #[rstest]
    #[case::silent(Answer::Silence, "no answer within 10s")]
    #[case::away(Answer::Refused, "Connection refused")]
    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_does_not_answer_is_not_waited_for(
        #[case] answer: Answer,
        #[case] why: &str,
    ) {
        let api = Scripted::default();
        api.answer(STATUS, answer);
        let error = write(&api, None).await.unwrap_err().to_string();
        assert_eq!(error.matches(why).count(), 1, "{error}");
    }
}
