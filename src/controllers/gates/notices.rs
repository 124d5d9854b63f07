//! Events for the owners of pods, and for bindings and Namespaces, about what the index shows (contract 2).

use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use targetgate_core::endings::EndedEarly;
use targetgate_core::model::ControllerRef;
use targetgate_core::notices::{self, AllFound, Due, Regarded};
use targetgate_core::reason::Reason;
use tokio::task::JoinSet;

use crate::controllers::gates::{Done, Loop, Work};
use crate::kubernetes::decode::api_resource;
use crate::state::cache::WatchedResource;

/// The action of each such Event: what was done when it was found.
const ACTION: &str = "CheckReadinessGates";

impl Loop {
    /// Tells what the index shows, and what was seen since. Returns the next wake-up.
    pub(super) fn tell_owners(
        &self,
        work: &mut Work,
        tasks: &mut JoinSet<Done>,
        now: Instant,
    ) -> Option<Instant> {
        let mut found = std::mem::take(&mut work.seen);
        // Before the initial lists are complete, a gate that is due would seem not to be.
        if !work.tracker.leads() || !self.cache.pending().is_empty() {
            self.metrics.set_noticed(&AllFound::new());
            return None;
        }
        if work.notices.looks(now) {
            let apis = &self.settings.apis;
            let shown = self
                .cache
                .read(|index| notices::found(index, apis, &self.drain));
            self.metrics.set_noticed(&shown);
            found.extend(shown);
        }
        if !found.is_empty() {
            let due = work.notices.due(found, now);
            self.send(due, tasks);
        }
        work.notices.looks_at()
    }

    fn send(&self, due: Due, tasks: &mut JoinSet<Done>) {
        for (_, reason) in &due.dropped {
            self.metrics.noticed(*reason, "dropped");
        }
        if due.told.is_empty() {
            return;
        }
        let sender = self.clone();
        tasks.spawn(async move {
            // One after the other: Events are few at a time.
            for ((regarded, reason), found) in due.told {
                let (object, note) = (reference(&regarded), found.note());
                sender.metrics.noticed(reason, "sent");
                let reason = reason.as_str();
                sender.events.warn_of(&object, ACTION, reason, &note).await;
            }
            Done::Told
        });
    }
}

/// Adds a pod that ended early to what is told.
pub(super) fn ended_early(seen: &mut AllFound, early: &EndedEarly) {
    let topic = (Regarded::owner(&early.pod), Reason::EndedEarly);
    notices::add_pod(seen, topic, &early.pod.key.name, || {
        format!("{}. {}", early.finding.message, Reason::EndedEarly.remedy())
    });
}

fn reference(regarded: &Regarded) -> ObjectReference {
    let of = |watched| {
        let resource = api_resource(watched);
        (resource.api_version, resource.kind)
    };
    let ((api_version, kind), namespace, name, uid) = match regarded {
        Regarded::Controller {
            namespace,
            controller,
        } => {
            let kind = (
                controller.api_version.to_string(),
                controller.kind.to_string(),
            );
            let ControllerRef { name, uid, .. } = controller;
            (kind, Some(namespace), &**name, Some(&**uid))
        }
        Regarded::Pod {
            namespace,
            name,
            uid,
        } => (
            of(WatchedResource::Pods),
            Some(namespace),
            &**name,
            Some(&**uid),
        ),
        Regarded::Binding {
            namespace,
            name,
            api,
            uid,
        } => {
            let kind = of(WatchedResource::Bindings(*api));
            (kind, Some(namespace), &**name, uid.as_deref())
        }
        Regarded::Namespace { name, uid } => (
            of(WatchedResource::Namespaces),
            None,
            &**name,
            uid.as_deref(),
        ),
    };
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind),
        namespace: namespace.map(ToString::to_string),
        name: Some(name.to_string()),
        uid: uid.map(ToString::to_string),
        ..ObjectReference::default()
    }
}
