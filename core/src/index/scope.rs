//! For which pods the hook is called, as the webhooks are registered.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::Namespace;
use crate::names::{INJECT_ENABLED, INJECT_LABEL};
use crate::selector::LabelSet;

/// Where the label that opts in is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OptIn {
    /// On the Namespace.
    #[default]
    Namespace,
    /// On the pods themselves.
    Object,
    /// On one of the two.
    Either,
}

/// The pods for which the hook is called. By default all of the Namespaces that opt in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HookScope {
    pub opt_in: OptIn,
    /// Namespaces that are left out whatever their labels.
    pub excluded: BTreeSet<Arc<str>>,
}

impl HookScope {
    /// The condition on the labels of a Namespace's pods; `None` if the hook is called for none of them.
    pub(super) fn of(&self, name: &str, namespace: &Namespace) -> Option<PodScope> {
        if self.excluded.contains(name) {
            return None;
        }
        match (self.opt_in, namespace.opted_in) {
            (OptIn::Namespace | OptIn::Either, true) => Some(PodScope::All),
            (OptIn::Object | OptIn::Either, _) => Some(PodScope::Labelled),
            (OptIn::Namespace, false) => None,
        }
    }
}

/// For which pods of one Namespace the hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodScope {
    All,
    /// Those that carry the label that opts in.
    Labelled,
}

impl PodScope {
    pub(super) fn covers(self, labels: &impl LabelSet) -> bool {
        match self {
            Self::All => true,
            Self::Labelled => labels.value(INJECT_LABEL) == Some(INJECT_ENABLED),
        }
    }
}
