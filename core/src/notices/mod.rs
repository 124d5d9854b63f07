//! Notices: which Events the owners of pods, bindings and Namespaces get, once an hour for each object and reason
//! (contract 2), and no more of them together than a token bucket grants (contract 10). Time is passed in.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{ControllerRef, Pod};
use crate::names::BindingApi;
use crate::reason::Reason;

mod found;
#[cfg(test)]
mod tests;

pub use crate::notices::found::found;

/// An object is told a reason once in this time. Contract 2.
const ONCE_IN: Duration = Duration::from_secs(3600);
/// The index is asked again after this time. Chosen: it costs a walk over all bindings, and nobody waits for it.
const EVERY: Duration = Duration::from_secs(10);
/// Events that can be sent at once. Contract 10.
const BURST: u32 = 25;
/// After this time there is room for one more. Contract 10.
const REFILL: Duration = Duration::from_secs(1);
/// At most so many notices are remembered, as many as the bucket grants in the hour, and the burst.
const MOST: usize = 3625;

/// The object that an Event regards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regarded {
    Controller {
        namespace: Arc<str>,
        controller: ControllerRef,
    },
    /// A pod that has no controller.
    Pod {
        namespace: Arc<str>,
        name: Arc<str>,
        uid: Arc<str>,
    },
    Binding {
        namespace: Arc<str>,
        name: Arc<str>,
        api: BindingApi,
        uid: Option<Arc<str>>,
    },
    Namespace {
        name: Arc<str>,
        uid: Option<Arc<str>>,
    },
}

impl Regarded {
    /// The controller of a pod, or the pod itself.
    pub fn owner(pod: &Pod) -> Self {
        let controller = pod.template.controller.as_deref();
        Self::owner_of(&pod.key.namespace, &pod.key.name, &pod.uid, controller)
    }

    fn owner_of(
        namespace: &Arc<str>,
        name: &Arc<str>,
        uid: &Arc<str>,
        controller: Option<&ControllerRef>,
    ) -> Self {
        let namespace = namespace.clone();
        match controller.cloned() {
            Some(controller) => Self::Controller {
                namespace,
                controller,
            },
            None => Self::Pod {
                namespace,
                name: name.clone(),
                uid: uid.clone(),
            },
        }
    }
}

/// What is told once an hour: one reason of one object.
pub type Topic = (Regarded, Reason);

/// What is found of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What is wrong and what to do, without the pods.
    pub text: String,
    /// The name of the first pod of which it was found; `None` for objects that are told of themselves.
    pub example: Option<Arc<str>>,
    pub pods: usize,
}

impl Found {
    /// Something found of one pod.
    fn of_pod(text: String, name: Arc<str>) -> Self {
        Self {
            text,
            example: Some(name),
            pods: 1,
        }
    }

    /// The text of the Event.
    pub fn note(&self) -> String {
        let text = &self.text;
        match (&self.example, self.pods) {
            (None, _) => text.clone(),
            (Some(pod), 1) => format!("Pod {pod}: {text}"),
            (Some(pod), pods) => format!("{pods} pods, such as {pod}: {text}"),
        }
    }
}

/// What is found, by topic.
pub type AllFound = BTreeMap<Topic, Found>;

/// Adds a pod to what is found of a topic; the text is that of its first pod.
pub fn add_pod(all: &mut AllFound, topic: Topic, name: &Arc<str>, text: impl FnOnce() -> String) {
    let known = all.entry(topic).and_modify(|found| found.pods += 1);
    known.or_insert_with(|| Found::of_pod(text(), name.clone()));
}

/// Decides which of what is found is told.
#[derive(Debug)]
pub struct Notices {
    told: BTreeMap<Topic, Instant>,
    tokens: u32,
    refilled: Instant,
    looked: Option<Instant>,
}

/// A decision about what is found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    pub told: Vec<(Topic, Found)>,
    /// The topics that exceed the rate. What is still found later is due again.
    pub dropped: Vec<Topic>,
}

impl Notices {
    /// Nothing was told yet.
    pub fn new(now: Instant) -> Self {
        Self {
            told: BTreeMap::new(),
            tokens: BURST,
            refilled: now,
            looked: None,
        }
    }

    /// Whether it is time to ask the index again; if so, the next time is counted from now.
    pub fn looks(&mut self, now: Instant) -> bool {
        let due = self.looks_at().is_none_or(|at| at <= now);
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// When the index is asked next; `None` if it never was.
    pub fn looks_at(&self) -> Option<Instant> {
        self.looked.map(|looked| looked + EVERY)
    }

    /// Decides what is told now, and takes it for told. What concerns most pods goes first.
    pub fn due(&mut self, found: AllFound, now: Instant) -> Due {
        self.refill(now);
        self.told.retain(|_, at| now.duration_since(*at) < ONCE_IN);
        let fresh = |(topic, _): &(Topic, Found)| !self.told.contains_key(topic);
        let mut fresh: Vec<_> = found.into_iter().filter(fresh).collect();
        fresh.sort_by_key(|(_, found)| Reverse(found.pods));
        let room = MOST
            .saturating_sub(self.told.len())
            .min(self.tokens as usize);
        let late = fresh.split_off(room.min(fresh.len()));
        // At most as many as there are tokens.
        self.tokens -= fresh.len() as u32;
        let topics = fresh.iter().map(|(topic, _)| (topic.clone(), now));
        self.told.extend(topics);
        Due {
            told: fresh,
            dropped: late.into_iter().map(|(topic, _)| topic).collect(),
        }
    }

    fn refill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.refilled);
        let gained = u32::try_from(since.as_secs() / REFILL.as_secs()).unwrap_or(BURST);
        self.refilled += REFILL * gained;
        self.tokens = self.tokens.saturating_add(gained).min(BURST);
    }
}
