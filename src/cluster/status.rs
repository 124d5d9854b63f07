//! Writing one condition of one pod (contract 5.3).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::cluster::cache::Watched;
use crate::cluster::objects::{PodObject, api_resource};
use crate::cluster::{CALL_TIMEOUT, MANAGER, why};
use crate::model::Condition;
use crate::names::{GateName, ObjectKey};

/// Which pod is written to, and in which state of it.
#[derive(Debug, Clone, Copy)]
pub struct Revision<'a> {
    /// Its name.
    pub pod: &'a ObjectKey,
    /// Its `metadata.uid`: a pod replaced under its name is another pod.
    pub uid: &'a str,
    /// The `metadata.resourceVersion` that the decision is based on.
    pub version: &'a str,
}

/// What is written.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The condition's type.
    pub gate: &'a GateName,
    /// The rest of it, but for its time.
    pub condition: &'a Condition,
    /// The time to write as `lastTransitionTime`; `None` where the status stays as it was: then the
    /// time stays, too.
    pub transition: Option<Timestamp>,
}

/// A condition is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The pod's `metadata.resourceVersion` since then.
    pub resource_version: Arc<str>,
}

/// Why a condition is not written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The pod is gone, or another pod has its name: there is nothing to write.
    #[error("pod {0} is gone")]
    Gone(ObjectKey),
    /// Somebody else wrote in between: decide again.
    #[error("pod {0} was changed by somebody else at the same moment")]
    Conflict(ObjectKey),
    /// The API server has too much to do (429).
    #[error("the API server puts off writing pods/status of {pod}: {why}")]
    TooManyRequests {
        /// The pod.
        pod: ObjectKey,
        /// How long it asks to wait, where it does.
        retry_after: Option<Duration>,
        /// What it says.
        why: String,
    },
    /// Anything else; whether it was written is not known.
    #[error("cannot write pods/status of {pod}: {why}; ours needs the verb patch on pods/status")]
    Failed {
        /// The pod.
        pod: ObjectKey,
        /// What went wrong.
        why: String,
    },
}

/// Writes one condition into `pods/status`, if nobody has written to the pod since that revision of
/// it, and touches nothing else. The answer is not awaited beyond `by`.
///
/// A strategic merge patch merges `status.conditions` by `type`, and keeps what it does not name
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-update>).
///
/// # Errors
///
/// An API server answers another version with 409, [`WriteError::Conflict`], and a wrong UID alone
/// with 422 Invalid on `metadata.uid`: the pod is [`WriteError::Gone`].
pub async fn write_condition(
    client: &Client,
    revision: Revision<'_>,
    entry: Entry<'_>,
    by: Instant,
) -> Result<Written, WriteError> {
    let Revision { pod, .. } = revision;
    let resource = api_resource(Watched::Pods);
    let api: Api<PodObject> = Api::namespaced_with(client.clone(), &pod.namespace, &resource);
    let patch = Patch::Strategic(patch(revision, entry));
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let begun = Instant::now();
    let by = by.min(begun + CALL_TIMEOUT);
    let call = api.patch_status(&pod.name, &params, &patch);
    let failed = |why| WriteError::Failed {
        pod: pod.clone(),
        why,
    };
    match timeout_at(by, call).await {
        Ok(Ok(written)) => Ok(Written {
            resource_version: written.resource_version().unwrap_or_default().into(),
        }),
        Ok(Err(kube::Error::Api(status))) => Err(refusal(pod, &status)),
        Ok(Err(error)) => Err(failed(why(&error))),
        Err(_) => Err(failed(format!("no answer within {:?}", by - begun))),
    }
}

fn patch(revision: Revision<'_>, entry: Entry<'_>) -> Value {
    let condition = entry.condition;
    let mut written = json!({
        "type": entry.gate.as_str(),
        "status": if condition.status { "True" } else { "False" },
        "reason": &*condition.reason,
        "message": &*condition.message,
    });
    if let Some(transition) = entry.transition {
        // Kubernetes keeps whole seconds.
        let time = transition.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        written["lastTransitionTime"] = json!(time);
    }
    let metadata = json!({ "uid": revision.uid, "resourceVersion": revision.version });
    json!({ "metadata": metadata, "status": { "conditions": [written] } })
}

fn refusal(pod: &ObjectKey, status: &Status) -> WriteError {
    let pod = pod.clone();
    let details = status.details.as_ref();
    let of_uid = || {
        let causes = details.iter().flat_map(|details| &details.causes);
        causes
            .map(|cause| cause.field.as_str())
            .any(|field| field == "metadata.uid")
            || status.message.contains("metadata.uid")
    };
    let why = why(&kube::Error::Api(status.clone().boxed()));
    match status.code {
        404 => WriteError::Gone(pod),
        422 if of_uid() => WriteError::Gone(pod),
        409 => WriteError::Conflict(pod),
        429 => WriteError::TooManyRequests {
            pod,
            retry_after: details
                .map(|details| Duration::from_secs(details.retry_after_seconds.into()))
                .filter(|wait| !wait.is_zero()),
            why,
        },
        _ => WriteError::Failed { pod, why },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::cluster::testing::{Answer, Scripted, status};
    use crate::names::ConditionPrefix;

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
        write_condition(&api.client(), revision, entry, by).await
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
    #[case::replaced(422, "Pod \"web-1\" is invalid: metadata.uid: Invalid value: \"u-1\": field is immutable",
        json!({ "causes": [{ "reason": "FieldValueInvalid", "field": "metadata.uid" }] }), "Gone")]
    #[case::invalid(422, "Pod \"web-1\" is invalid: status.conditions[0].type: Invalid value",
        json!({ "causes": [{ "reason": "FieldValueInvalid", "field": "status.conditions[0].type" }] }), "Failed")]
    #[case::changed(409, "the object has been modified", json!({ "name": "web-1" }), "Conflict")]
    #[case::busy(429, "too many requests", json!({ "retryAfterSeconds": 3 }), "TooManyRequests")]
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
        let (found, wait) = match &error {
            WriteError::Gone(_) => ("Gone", None),
            WriteError::Conflict(_) => ("Conflict", None),
            WriteError::TooManyRequests { retry_after, .. } => ("TooManyRequests", *retry_after),
            WriteError::Failed { .. } => ("Failed", None),
        };
        assert_eq!(found, meaning, "{error}");
        assert_eq!(wait, (code == 429).then(|| Duration::from_secs(3)));
        assert!(error.to_string().contains("shop/web-1"), "{error}");
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
