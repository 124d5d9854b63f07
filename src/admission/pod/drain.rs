//! The end of a pod that has a gate: what is asked for, and the containers, which are read only where drain is on
//! (contract 9).

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use targetgate_core::drain::Asked;
use targetgate_core::drain::inject::{Annotations, Injection, NewPod, PreStop, inject};
use targetgate_core::reason::Reason;

use crate::admission::answer::Answer;
use crate::admission::pod::KEPT_WITH_END;
use crate::admission::pod::object::Pod;
use crate::admission::prune_json::prune;
use crate::admission::review;
use crate::admission::review::{Object, Review};

/// Where the fields are that decide about a pod's end.
#[derive(Debug, Clone, Copy)]
pub(super) enum End<'a> {
    /// In the pod, which was read with them.
    Read,
    /// In this body, of which the pod was read without them.
    In(&'a [u8]),
}

/// Carries out what is asked for. Returns the answer, and why it is as it is about the pod's end.
pub(super) fn answered(
    answer: Answer,
    asked: Asked,
    pod: &Pod<'_>,
    end: End<'_>,
) -> (Answer, Reason) {
    let injected = asked.and_then(|sleep| {
        let new = match end {
            End::Read => read(pod),
            End::In(body) => read_again(body),
        };
        Ok(inject(&new.ok_or(Reason::BadObject)?, sleep))
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
fn read(pod: &Pod<'_>) -> Option<NewPod> {
    let Object(spec) = pod.spec.as_ref()?;
    let metadata = pod.metadata.as_ref().map(|Object(metadata)| metadata);
    let annotations = metadata.map(|metadata| metadata.annotations.as_ref());
    let owners: Option<Vec<Object<Owner<'_>>>> =
        parsed(metadata.and_then(|metadata| metadata.owner_references))?;
    let containers: Option<Vec<Object<Container>>> = parsed(spec.containers)?;
    Some(NewPod {
        containers: containers.iter().flatten().map(pre_stop).collect(),
        grace: parsed(spec.termination_grace_period_seconds)?,
        of_job: owners.iter().flatten().any(is_job),
        annotations: match annotations {
            None => Annotations::NoMetadata,
            Some(None) => Annotations::Absent,
            Some(Some(_)) => Annotations::Present,
        },
        drained: annotations.flatten().and_then(|own| own.drained),
    })
}

/// As [`read`], of the pod of a whole review.
fn read_again(body: &[u8]) -> Option<NewPod> {
    let of = |source| -> Option<NewPod> {
        let review: Review<'_, Object<Pod<'_>>, IgnoredAny> = review::decode(source).ok()?;
        let Object(pod) = review.request?.object?;
        read(&pod)
    };
    match prune(body, &KEPT_WITH_END) {
        Some(kept) => of(&kept),
        None => of(body),
    }
}

/// A field that may be absent or `null`; `None` if it cannot be read.
fn parsed<'a, T: Deserialize<'a>>(field: Option<&'a RawValue>) -> Option<Option<T>> {
    let read = field.map(|raw| serde_json::from_str(raw.get()));
    read.transpose().ok()
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

/// Whether the owner is the controller, and a Job of any version of `batch`.
fn is_job(Object(owner): &Object<Owner<'_>>) -> bool {
    let batch = owner.api_version.starts_with("batch/");
    batch && owner.kind == "Job" && owner.controller == Some(true)
}

fn pre_stop(Object(container): &Object<Container>) -> PreStop {
    let Some(Object(lifecycle)) = &container.lifecycle else {
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
