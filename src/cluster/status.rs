//! Writing one condition of one pod (contract 5.3).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;

use crate::cluster::cache::Watched;
use crate::cluster::objects::{PodObject, api_resource};
use crate::cluster::{CALL_TIMEOUT, MANAGER, why};
use crate::model::Condition;
use crate::names::{GateName, ObjectKey};

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

/// Writes one condition into `pods/status` of the pod with this UID, and touches nothing else.
///
/// `transition` is the time to write as `lastTransitionTime`; `None` where the status stays as it was:
/// then the time stays, too. A strategic merge patch merges `status.conditions` by `type`, and keeps
/// what it does not name
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-update>).
///
/// # Errors
///
/// An API server answers a wrong UID with 422 Invalid on `metadata.uid`: the pod is [`WriteError::Gone`].
pub async fn write_condition(
    client: &Client,
    pod: &ObjectKey,
    uid: &str,
    gate: &GateName,
    condition: &Condition,
    transition: Option<Timestamp>,
) -> Result<Written, WriteError> {
    let resource = api_resource(Watched::Pods);
    let api: Api<PodObject> = Api::namespaced_with(client.clone(), &pod.namespace, &resource);
    let patch = Patch::Strategic(patch(uid, gate, condition, transition));
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let call = api.patch_status(&pod.name, &params, &patch);
    let failed = |why| WriteError::Failed {
        pod: pod.clone(),
        why,
    };
    match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(written)) => Ok(Written {
            resource_version: written.resource_version().unwrap_or_default().into(),
        }),
        Ok(Err(kube::Error::Api(status))) => Err(refusal(pod, &status)),
        Ok(Err(error)) => Err(failed(why(&error))),
        Err(_) => Err(failed(format!("no answer within {CALL_TIMEOUT:?}"))),
    }
}

fn patch(
    uid: &str,
    gate: &GateName,
    condition: &Condition,
    transition: Option<Timestamp>,
) -> Value {
    let mut entry = json!({
        "type": gate.as_str(),
        "status": if condition.status { "True" } else { "False" },
        "reason": &*condition.reason,
        "message": &*condition.message,
    });
    if let Some(transition) = transition {
        // Kubernetes keeps whole seconds.
        entry["lastTransitionTime"] = json!(transition.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    json!({ "metadata": { "uid": uid }, "status": { "conditions": [entry] } })
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
