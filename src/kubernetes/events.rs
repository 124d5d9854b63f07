//! Kubernetes Events, for operators who use `kubectl describe`.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use targetgate_core::text::cut;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use crate::kubernetes::{CALL_TIMEOUT, MANAGER, why};

/// Maximum number of concurrent calls; further Events are dropped, because they are best effort. Chosen.
const AT_ONCE: usize = 8;
/// Maximum length of a note, in bytes: the API accepts up to 1 kB.
const MAX_NOTE: usize = 1000;

/// What an Event tells of its object.
#[derive(Debug)]
pub struct Told<'a> {
    pub kind: EventType,
    /// The other object that is concerned.
    pub related: Option<ObjectReference>,
    /// A word in `PascalCase`, as [`Self::reason`] is.
    pub action: &'a str,
    pub reason: &'a str,
    pub note: &'a str,
}

/// Publishes Events of `events.k8s.io/v1`.
///
/// An equal Event within six minutes increments the `series` of the first. Needs the verbs `create` and
/// `patch` on `events.events.k8s.io`.
pub struct Events {
    recorder: Recorder,
    permits: Semaphore,
}

impl Events {
    /// `instance` is the name of our own pod.
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance,
        };
        Self {
            recorder: Recorder::new(client, reporter),
            permits: Semaphore::new(AT_ONCE),
        }
    }

    /// Publishes a warning. `reason` and `action` are words in `PascalCase`.
    ///
    /// Returns when the call has succeeded, failed or timed out; the caller does not learn which.
    pub async fn warn(&self, object: &ObjectReference, action: &str, reason: &str, note: &str) {
        let told = Told {
            kind: EventType::Warning,
            related: None,
            action,
            reason,
            note,
        };
        self.publish(object, told).await;
    }

    /// Publishes an Event about any object; Events of objects without a namespace go to `default`.
    pub async fn publish(&self, object: &ObjectReference, told: Told<'_>) {
        let (name, reason) = (object.name.as_deref(), told.reason);
        let Ok(_permit) = self.permits.try_acquire() else {
            return debug!(name, reason, "Event dropped: too many on their way");
        };
        let event = Event {
            type_: told.kind,
            reason: reason.to_owned(),
            note: Some(cut(told.note, MAX_NOTE).to_owned()),
            action: told.action.to_owned(),
            secondary: told.related,
        };
        let call = self.recorder.publish(&event, object);
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(name, reason, error = why(&error), "Event not published");
            }
            Err(_) => debug!(name, reason, "Event not published in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::testing::{Answer, Scripted};

    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

    fn about() -> ObjectReference {
        ObjectReference {
            api_version: Some("elbv2.k8s.aws/v1beta1".into()),
            kind: Some("TargetGroupBinding".into()),
            namespace: Some("shop".into()),
            name: Some("web".into()),
            uid: Some("u-1".into()),
            ..ObjectReference::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_about_an_object_and_short() {
        let api = Scripted::default();
        api.answer(
            EVENTS,
            Answer::Json(201, json!({ "metadata": { "name": "web.1" } })),
        );
        let events = Events::new(api.client(), Some("targetgate-0".into()));
        events
            .warn(
                &about(),
                "Describe",
                "TargetGroupNotFound",
                &"é".repeat(600),
            )
            .await;
        let body = api.seen(EVENTS).remove(0).body;
        assert_eq!(body["type"], "Warning");
        assert_eq!(body["reason"], "TargetGroupNotFound");
        assert_eq!(body["reportingController"], "targetgate");
        assert_eq!(body["reportingInstance"], "targetgate-0");
        assert_eq!(body["regarding"]["kind"], "TargetGroupBinding");
        assert_eq!(body["regarding"]["apiVersion"], "elbv2.k8s.aws/v1beta1");
        assert_eq!(body["regarding"]["uid"], "u-1");
        assert_eq!(body["note"], "é".repeat(500));
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_takes_no_events_holds_nobody_up() {
        let api = Scripted::default();
        let events = Events::new(api.client(), None);
        for answer in [Answer::Refused, Answer::Silence] {
            api.answer(EVENTS, answer);
            events
                .warn(&about(), "Describe", "TargetGroupNotFound", "it is gone")
                .await;
        }
        assert_eq!(api.seen(EVENTS).len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn more_events_than_can_be_on_their_way_are_dropped() {
        let api = Scripted::default();
        let events = Events::new(api.client(), None);
        let about = about();
        (0..AT_ONCE + 3).for_each(|_| {
            api.answer(EVENTS, Answer::Silence);
        });
        let each = |number| {
            let (events, about) = (&events, &about);
            async move {
                events
                    .warn(about, "Describe", &format!("Reason{number}"), "")
                    .await
            }
        };
        futures::future::join_all((0..AT_ONCE + 3).map(each)).await;
        assert_eq!(api.seen(EVENTS).len(), AT_ONCE);
    }
}
