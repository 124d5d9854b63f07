//! Kubernetes Events: what an operator should see with `kubectl describe`.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use crate::cluster::cache::Watched;
use crate::cluster::objects::api_resource;
use crate::cluster::{CALL_TIMEOUT, MANAGER, why};
use crate::names::ObjectKey;

/// Events on their way at one time. One more is dropped: Events are a courtesy.
const AT_ONCE: usize = 8;
/// The API takes notes of up to 1 kB.
const MAX_NOTE: usize = 1000;

/// What an Event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// A pod, or a binding of one API group.
    pub kind: Watched,
    /// Namespace and name.
    pub object: ObjectKey,
    /// `metadata.uid`, where it is known: `kubectl describe` shows Events by it.
    pub uid: Option<String>,
}

/// Tells operators what happened, as Events of `events.k8s.io/v1`.
///
/// The same Event again within six minutes is counted in its `series`. Needs the verbs `create` and
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

    /// Something to be worried about. `reason` and `action` are words in `PascalCase`.
    ///
    /// Returns when it is told, has failed or has taken too long; nobody depends on which.
    pub async fn warn(&self, about: &About, action: &str, reason: &str, note: &str) {
        self.publish(EventType::Warning, about, action, reason, note)
            .await;
    }

    /// Something to know. As [`Self::warn`].
    pub async fn note(&self, about: &About, action: &str, reason: &str, note: &str) {
        self.publish(EventType::Normal, about, action, reason, note)
            .await;
    }

    async fn publish(
        &self,
        type_: EventType,
        about: &About,
        action: &str,
        reason: &str,
        note: &str,
    ) {
        let Ok(_permit) = self.permits.try_acquire() else {
            return debug!(object = %about.object, reason, "Event dropped: too many on their way");
        };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(cut_to_bytes(note, MAX_NOTE)),
            action: action.to_owned(),
            secondary: None,
        };
        let reference = about.reference();
        let call = self.recorder.publish(&event, &reference);
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                debug!(object = %about.object, reason, error = why(&error), "Event not published");
            }
            Err(_) => debug!(object = %about.object, reason, "Event not published in time"),
        }
    }
}

impl About {
    fn reference(&self) -> ObjectReference {
        let resource = api_resource(self.kind);
        ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            namespace: Some(self.object.namespace.to_string()),
            name: Some(self.object.name.to_string()),
            uid: self.uid.clone(),
            ..ObjectReference::default()
        }
    }
}

fn cut_to_bytes(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
