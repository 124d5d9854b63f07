//! For which pods the hook is called, as the webhooks are registered.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::Namespace;
use crate::names::{INJECT_ENABLED, INJECT_LABEL};
use crate::reason::Reason;
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
    /// Why the hook is not called for a pod with these labels; `None` if it is.
    pub fn refusal(
        &self,
        name: &str,
        namespace: &Namespace,
        labels: &impl LabelSet,
    ) -> Option<Reason> {
        match self.of(name, namespace) {
            None if self.excluded.contains(name) => Some(Reason::NamespaceExcluded),
            None => Some(Reason::NamespaceNotOptedIn),
            Some(scope) => (!scope.covers(labels)).then_some(Reason::PodNotOptedIn),
        }
    }

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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::model::Labels;

    #[rstest]
    #[case::both(OptIn::Namespace, true, false, None)]
    #[case::of_no_use(OptIn::Namespace, false, true, Some(Reason::NamespaceNotOptedIn))]
    #[case::of_the_pod(OptIn::Object, false, true, None)]
    #[case::of_the_namespace_alone(OptIn::Object, true, false, Some(Reason::PodNotOptedIn))]
    #[case::one_of_the_two(OptIn::Either, true, false, None)]
    #[case::neither(OptIn::Either, false, false, Some(Reason::PodNotOptedIn))]
    fn the_hook_is_called_where_the_label_is(
        #[case] opt_in: OptIn,
        #[case] opted_in: bool,
        #[case] labelled: bool,
        #[case] refusal: Option<Reason>,
    ) {
        let excluded = BTreeSet::from(["kube-system".into()]);
        let scope = HookScope { opt_in, excluded };
        let namespace = Namespace {
            opted_in,
            ..Namespace::default()
        };
        let label = labelled.then(|| (INJECT_LABEL.into(), INJECT_ENABLED.into()));
        let labels: Labels = label.into_iter().collect();
        assert_eq!(scope.refusal("shop", &namespace, &labels), refusal);
        let excluded = scope.refusal("kube-system", &namespace, &labels);
        assert_eq!(excluded, Some(Reason::NamespaceExcluded));
    }
}
