//! Events for the owners of pods, and for bindings and Namespaces, about what the index shows (contract 2).

use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use targetgate_core::endings::EndedEarly;
use targetgate_core::names::ObjectKey;
use targetgate_core::notices::{self, AllFound, Due, Found, Regarded};
use targetgate_core::reason::Reason;
use tokio::task::JoinSet;

use crate::controllers::gates::{Done, Loop, Work};
use crate::kubernetes::decode::api_resource;
use crate::kubernetes::events::About;
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
            return None;
        }
        if work.notices.looks(now) {
            let apis = &self.settings.apis;
            found.extend(self.cache.read(|index| notices::found(index, apis)));
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
    let text = || {
        let remedy = Reason::EndedEarly.remedy();
        format!("{}. {remedy}", early.finding.message)
    };
    let name = &early.pod.key.name;
    let known = seen.entry(topic).and_modify(|found| found.pods += 1);
    known.or_insert_with(|| Found::of_pod(text(), name.clone()));
}

fn reference(regarded: &Regarded) -> ObjectReference {
    match regarded {
        Regarded::Controller {
            namespace,
            controller,
        } => ObjectReference {
            api_version: Some(controller.api_version.to_string()),
            kind: Some(controller.kind.to_string()),
            namespace: Some(namespace.to_string()),
            name: Some(controller.name.to_string()),
            uid: Some(controller.uid.to_string()),
            ..ObjectReference::default()
        },
        Regarded::Pod {
            namespace,
            name,
            uid,
        } => About {
            kind: WatchedResource::Pods,
            object: ObjectKey::new(namespace.clone(), name.clone()),
            uid: Some(uid.to_string()),
        }
        .reference(),
        Regarded::Binding {
            namespace,
            name,
            api,
            uid,
        } => About {
            kind: WatchedResource::Bindings(*api),
            object: ObjectKey::new(namespace.clone(), name.clone()),
            uid: uid.as_deref().map(str::to_owned),
        }
        .reference(),
        Regarded::Namespace { name, uid } => {
            let resource = api_resource(WatchedResource::Namespaces);
            ObjectReference {
                api_version: Some(resource.api_version),
                kind: Some(resource.kind),
                name: Some(name.to_string()),
                uid: uid.as_deref().map(str::to_owned),
                ..ObjectReference::default()
            }
        }
    }
}
