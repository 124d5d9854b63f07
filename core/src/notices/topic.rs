//! What an Event is about, and what is found of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::index::{BindingKey, Index};
use crate::model::{Binding, ControllerRef, Pod};
use crate::names::BindingApi;
use crate::reason::Reason;

/// The action of an Event about gates.
const CHECKED: &str = "CheckReadinessGates";

/// The object that an Event regards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regarded {
    Controller {
        namespace: Arc<str>,
        controller: Arc<ControllerRef>,
    },
    /// A pod that has no controller. The index does not keep the UID of one without gates.
    Pod {
        namespace: Arc<str>,
        name: Arc<str>,
        uid: Option<Arc<str>>,
    },
    Binding {
        namespace: Arc<str>,
        name: Arc<str>,
        api: BindingApi,
        uid: Option<Arc<str>>,
    },
    /// The index does not keep the UID of a Service.
    Service { namespace: Arc<str>, name: Arc<str> },
    Namespace {
        name: Arc<str>,
        uid: Option<Arc<str>>,
    },
}

impl Regarded {
    /// The controller of a pod, or the pod itself.
    pub fn owner(pod: &Pod) -> Self {
        let controller = pod.template.controller.as_ref();
        let (namespace, name) = (&pod.key.namespace, &pod.key.name);
        Self::owner_of(namespace, name, Some(&pod.uid), controller)
    }

    pub(super) fn owner_of(
        namespace: &Arc<str>,
        name: &Arc<str>,
        uid: Option<&Arc<str>>,
        controller: Option<&Arc<ControllerRef>>,
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
                uid: uid.cloned(),
            },
        }
    }

    pub(super) fn binding(namespace: &Arc<str>, binding: &Binding) -> Self {
        Self::Binding {
            namespace: namespace.clone(),
            name: binding.name.clone(),
            api: binding.api,
            uid: binding.uid.clone(),
        }
    }

    /// The binding of this key, with the UID that the index knows.
    pub fn binding_of(key: &BindingKey, index: &Index) -> Self {
        let BindingKey { object, api } = key;
        Self::Binding {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            api: *api,
            uid: index.binding(key).and_then(|binding| binding.uid.clone()),
        }
    }
}

/// What is told once an hour: one reason of one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic {
    pub regarded: Regarded,
    /// The reason of the Event.
    pub reason: Reason,
    pub of: Of,
}

/// What tells a topic from others of the same object and reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    Itself,
    /// The binding that a gate names: its name, or a part of it where that is long.
    Binding(Arc<str>),
    /// Why it is so, by a reason that is more precise than the Event's.
    Cause(Reason),
}

impl Topic {
    /// A topic of an object and a reason alone.
    pub fn new(regarded: Regarded, reason: Reason) -> Self {
        Self {
            regarded,
            reason,
            of: Of::Itself,
        }
    }

    /// The topic by which it was told that the same pods wait.
    pub(super) fn of_waiting(&self) -> Self {
        Self {
            reason: Reason::WaitingForTarget,
            ..self.clone()
        }
    }

    /// The most precise reason.
    pub fn cause(&self) -> Reason {
        match self.of {
            Of::Cause(cause) => cause,
            Of::Itself | Of::Binding(_) => self.reason,
        }
    }
}

/// Whether later looks at what is known find something again, and how often it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Each look finds it while it lasts. It is told once an hour.
    Lasting,
    /// It happened, and no later look finds it. It is told once an hour.
    Happened,
    /// The same, but it comes once each time that something begins to fail or changes, and is told each time.
    News,
}

/// What is found of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What is wrong and what to do, without the pods.
    pub text: String,
    /// The name of the first pod of which it was found; `None` for objects that are told of themselves.
    pub example: Option<Arc<str>>,
    pub pods: usize,
    /// The other object that is concerned. An Event that differs from another in nothing else is sent as well.
    pub related: Option<Regarded>,
    pub finding: Finding,
    /// What was done when it was found: the action of the Event.
    pub action: &'static str,
}

impl Found {
    /// Something found of one pod.
    pub(super) fn of_pod(text: String, name: Arc<str>) -> Self {
        Self {
            example: Some(name),
            ..Self::of_object(text, 1)
        }
    }

    /// Something found of an object itself, which concerns so many pods.
    pub(super) fn of_object(text: String, pods: usize) -> Self {
        Self {
            text,
            example: None,
            pods,
            related: None,
            finding: Finding::Lasting,
            action: CHECKED,
        }
    }

    /// News of an object.
    pub fn news(text: String) -> Self {
        Self {
            finding: Finding::News,
            ..Self::of_object(text, 0)
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
pub fn add_pod<'a>(
    all: &'a mut AllFound,
    topic: Topic,
    name: &Arc<str>,
    text: impl FnOnce() -> String,
) -> &'a mut Found {
    let known = all.entry(topic).and_modify(|found| found.pods += 1);
    known.or_insert_with(|| Found::of_pod(text(), name.clone()))
}
