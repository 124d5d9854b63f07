//! The end of a pod that has a gate: what is asked for, and the containers, which are read only where drain is on
//! (contract 9).

use std::borrow::Cow;

use serde::Deserialize;
use targetgate_core::drain::Asked;
use targetgate_core::drain::inject::{Annotations, Injection, NewPod, PreStop, inject};
use targetgate_core::reason::Reason;

use crate::admission::answer::Answer;
use crate::admission::pod::object;
use crate::admission::pod::object::{CONTAINERS, GRACE, OWNERS};
use crate::admission::prune_json::{Keep, Member, prune};
use crate::admission::review::Object;

/// The members of a review that are parsed for a pod's end.
const KEPT: Keep = Keep::Only(&[("request", Keep::Only(&[("object", Keep::Only(OBJECT))]))]);
const OBJECT: &[Member] = &[
    ("metadata", Keep::Only(&[OWNERS])),
    ("spec", Keep::Only(&[GRACE, CONTAINERS])),
];

/// Carries out what is asked for. Returns the answer, and why it is as it is about the pod's end.
pub(super) fn answered(
    answer: Answer,
    asked: Asked,
    body: &[u8],
    pod: &object::Pod<'_>,
) -> (Answer, Reason) {
    let injected = asked.and_then(|sleep| {
        let new = read(body, pod).ok_or(Reason::BadObject)?;
        Ok(inject(&new, sleep))
    });
    let Injection { reason, operations } = injected.unwrap_or_else(|reason| Injection {
        reason,
        operations: vec![],
    });
    let mut answer = answer;
    answer.patch.0.extend(operations);
    // Drain is off by default, and the audit log of each new pod is not to grow by that.
    if reason != Reason::Off {
        answer.audit.insert("drain", reason.as_str().to_owned());
    }
    let untold = match reason {
        Reason::ServerTooOld => "the API server is older than 1.31",
        Reason::ServerUnknown => "the API server has not told its version yet",
        Reason::BadObject => "its containers cannot be read",
        _ => return (answer, reason),
    };
    let warning = format!("the pod was admitted without the sleep before its end: {untold}");
    (answer.warn(warning), reason)
}

/// The parts of the pod that decide about its end; `None` if the API server refuses it anyway.
fn read(body: &[u8], pod: &object::Pod<'_>) -> Option<NewPod> {
    let kept = prune(body, &KEPT);
    let read = kept
        .as_deref()
        .and_then(|kept| serde_json::from_slice(kept).ok());
    let Object(review): Object<Review<'_>> = match read {
        Some(read) => read,
        None => serde_json::from_slice(body).ok()?,
    };
    let Object(ending) = review.request.0.object;
    let metadata = pod.metadata.as_ref().map(|Object(metadata)| metadata);
    let annotations = metadata.map(|metadata| metadata.annotations.as_ref());
    let Object(spec) = ending.spec;
    let containers = spec.containers.into_iter().flatten();
    Some(NewPod {
        containers: containers.map(|Object(c)| c.pre_stop()).collect(),
        grace: spec.termination_grace_period_seconds,
        of_job: ending.metadata.is_some_and(|Object(m)| m.is_of_job()),
        annotations: match annotations {
            None => Annotations::NoMetadata,
            Some(None) => Annotations::Absent,
            Some(Some(_)) => Annotations::Present,
        },
        drained: annotations.flatten().and_then(|own| own.drained),
    })
}

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Object<Request<'a>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    object: Object<Pod<'a>>,
}

#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Option<Object<Metadata<'a>>>,
    spec: Object<Spec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    owner_references: Option<Vec<Object<Owner<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    controller: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    termination_grace_period_seconds: Option<i64>,
    containers: Option<Vec<Object<Container>>>,
}

#[derive(Deserialize)]
struct Container {
    lifecycle: Option<Object<Lifecycle>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    pre_stop: Option<Object<Handler>>,
}

#[derive(Deserialize)]
struct Handler {
    sleep: Option<Object<Sleep>>,
}

#[derive(Deserialize)]
struct Sleep {
    #[serde(default)]
    seconds: i64,
}

impl Metadata<'_> {
    /// Whether the controller is a Job of any version of `batch`.
    fn is_of_job(&self) -> bool {
        let mut owners = self.owner_references.iter().flatten();
        owners.any(|Object(owner)| {
            let batch = owner.api_version.starts_with("batch/");
            batch && owner.kind == "Job" && owner.controller == Some(true)
        })
    }
}

impl Container {
    fn pre_stop(&self) -> PreStop {
        let Some(Object(lifecycle)) = &self.lifecycle else {
            return PreStop::NoLifecycle;
        };
        match &lifecycle.pre_stop {
            None => PreStop::Absent,
            Some(Object(Handler {
                sleep: Some(Object(sleep)),
            })) => PreStop::Sleep(sleep.seconds),
            Some(_) => PreStop::Other,
        }
    }
}
