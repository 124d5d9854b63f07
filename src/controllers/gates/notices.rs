//! Events for the owners of pods, and for bindings, Services and Namespaces, about what the index shows and what was
//! seen since (contract 2).

use std::time::Instant;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::EventType;
use targetgate_core::endings::EndedEarly;
use targetgate_core::notices::{self, AllFound, Due, Finding, Found, LASTING, Regarded, Topic};
use targetgate_core::reason::Reason;
use tokio::task::JoinSet;
use tracing::debug;

use crate::controllers::gates::{Done, Loop, Work};
use crate::kubernetes::decode::api_resource;
use crate::kubernetes::events::Told;
use crate::kubernetes::live_read;
use crate::state::cache::WatchedResource;

impl Loop {
    /// Tells what the index shows, and what was seen since. Returns the next wake-up.
    pub(super) fn tell_owners(
        &self,
        work: &mut Work,
        tasks: &mut JoinSet<Done>,
        now: Instant,
    ) -> Option<Instant> {
        let leads = work.tracker.leads();
        // Before the initial lists are complete, a gate that is due would seem not to be.
        if !leads || !self.cache.pending().is_empty() {
            work.notices.look_away();
            if !leads {
                work.seen.clear();
                work.notices.rest();
            }
            self.metrics.set_noticed(&AllFound::new());
            return None;
        }
        if work.notices.looks(now) {
            let mut found = self.shown(work, now);
            self.metrics.set_noticed(&found);
            found.append(&mut work.seen);
            let due = work.notices.due(found, now);
            self.send(due, tasks);
        }
        work.notices.looks_at()
    }

    /// What there is to tell by what is known now.
    fn shown(&self, work: &mut Work, now: Instant) -> AllFound {
        let (apis, wall) = (&self.settings.apis, (self.now)());
        let (tracker, lost) = (&work.tracker, &mut work.lost);
        self.cache.read(|index| {
            let mut found = notices::found(index, apis, &self.drain, wall);
            lost.add(index, apis, wall, &mut found);
            found.extend(notices::rules_too_large(index, &self.too_large.borrow()));
            if let Some(since) = now.checked_sub(LASTING) {
                found.extend(notices::waits(tracker.waiting_since(since), index));
            }
            found
        })
    }

    fn send(&self, due: Due, tasks: &mut JoinSet<Done>) {
        for topic in &due.dropped {
            self.metrics.noticed(topic.reason, "dropped");
        }
        if due.told.is_empty() {
            return;
        }
        let sender = self.clone();
        tasks.spawn(async move {
            // One after the other: Events are few at a time.
            for (topic, found) in due.told {
                sender.send_one(&topic, &found).await;
            }
            Done::Told
        });
    }

    async fn send_one(&self, topic: &Topic, found: &Found) {
        let mut object = reference(&topic.regarded);
        if object.uid.is_none()
            && let Some((watched, namespace, name)) = without_uid(&topic.regarded)
        {
            match live_read::uid(&self.kube, watched, namespace, name).await {
                Ok(None) => return,
                Ok(uid) => object.uid = uid,
                // Such an Event is shown by `kubectl get events` alone.
                Err(why) => debug!(name, why, "the UID of an Event's object is not known"),
            }
        }
        self.metrics.noticed(topic.reason, "sent");
        let told = Told {
            kind: match topic.reason {
                Reason::TargetHealthy => EventType::Normal,
                _ => EventType::Warning,
            },
            related: found.related.as_ref().map(reference),
            action: found.action,
            reason: topic.reason.as_str(),
            note: &found.note(),
        };
        self.events.publish(&object, told).await;
    }
}

/// Adds a pod that ended early to what is told.
pub(super) fn ended_early(seen: &mut AllFound, early: &EndedEarly) {
    let topic = Topic::new(Regarded::owner(&early.pod), Reason::EndedEarly);
    let found = notices::add_pod(seen, topic, &early.pod.key.name, || {
        format!("{}. {}", early.finding.message, Reason::EndedEarly.remedy())
    });
    found.finding = Finding::Happened;
}

/// An object whose UID the index does not keep.
fn without_uid(regarded: &Regarded) -> Option<(WatchedResource, &str, &str)> {
    match regarded {
        Regarded::Pod {
            namespace, name, ..
        } => Some((WatchedResource::Pods, namespace, name)),
        Regarded::Service { namespace, name } => Some((WatchedResource::Services, namespace, name)),
        Regarded::Controller { .. } | Regarded::Binding { .. } | Regarded::Namespace { .. } => None,
    }
}

fn reference(regarded: &Regarded) -> ObjectReference {
    let of = |watched| {
        let resource = api_resource(watched);
        (resource.api_version, resource.kind)
    };
    let ((api_version, kind), namespace, name, uid): (_, _, &str, Option<&str>) = match regarded {
        Regarded::Controller {
            namespace,
            controller,
        } => {
            let kind = (
                controller.api_version.to_string(),
                controller.kind.to_string(),
            );
            let uid = Some(&*controller.uid);
            (kind, Some(namespace), &controller.name, uid)
        }
        Regarded::Pod {
            namespace,
            name,
            uid,
        } => {
            let kind = of(WatchedResource::Pods);
            (kind, Some(namespace), name, uid.as_deref())
        }
        Regarded::Binding {
            namespace,
            name,
            api,
            uid,
        } => {
            let kind = of(WatchedResource::Bindings(*api));
            (kind, Some(namespace), name, uid.as_deref())
        }
        Regarded::Service { namespace, name } => {
            let kind = of(WatchedResource::Services);
            (kind, Some(namespace), name, None)
        }
        Regarded::Namespace { name, uid } => {
            let kind = of(WatchedResource::Namespaces);
            (kind, None, name, uid.as_deref())
        }
    };
    ObjectReference {
        api_version: Some(api_version),
        kind: Some(kind),
        namespace: namespace.map(ToString::to_string),
        name: Some(name.to_owned()),
        uid: uid.map(ToOwned::to_owned),
        ..ObjectReference::default()
    }
}
