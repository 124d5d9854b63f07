//! What ELB has to be asked before pods are explained.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::explain::facts::{Facts, PodFacts};
use crate::explain::gate::requirements;
use crate::gates::requirements::Resolution;
use crate::model::Binding;
use crate::names::{GroupKey, NamedGroup};

/// What ELB is asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// The targets, by their group.
    pub groups: BTreeMap<GroupKey, BTreeSet<(IpAddr, u16)>>,
    /// Groups that bindings name without an ARN, and that are not resolved yet.
    pub names: BTreeSet<NamedGroup>,
}

/// The questions about the gates of these pods: of one that is closed only once the pod is due, as in the health loop.
pub fn questions<'a>(
    facts: &Facts,
    pods: impl IntoIterator<Item = &'a PodFacts>,
    open_too: bool,
) -> Questions {
    let mut questions = Questions::default();
    for pod in pods {
        let pod = &pod.pod;
        for (gate, condition) in pod.gates.iter().filter(|_| pod.is_due()) {
            let open = condition.as_ref().is_some_and(|condition| condition.status);
            if open && !open_too {
                continue;
            }
            let requirements = requirements(facts, pod, gate);
            for query in requirements.queries {
                let targets = questions.groups.entry(query.group).or_default();
                targets.insert(query.target);
            }
            let names = requirements.names.into_iter();
            let unresolved = |name: &NamedGroup| facts.resolve(name) == Resolution::Unresolved;
            questions.names.extend(names.filter(unresolved));
        }
    }
    questions
}

/// The question whether a binding's group exists, which an answer about all of its targets tells.
pub fn of_binding(facts: &Facts, binding: &Binding) -> Questions {
    let mut questions = Questions::default();
    let named = binding.named_group();
    let resolved = named.as_ref().and_then(|name| match facts.resolve(name) {
        Resolution::Found(arn) => Some(arn),
        Resolution::Unresolved | Resolution::NotFound => None,
    });
    let unresolved = |name: &NamedGroup| facts.resolve(name) == Resolution::Unresolved;
    questions.names.extend(named.filter(unresolved));
    if let Some(arn) = binding.arn.clone().or(resolved) {
        let role = binding.role.clone();
        questions
            .groups
            .insert(GroupKey { arn, role }, BTreeSet::new());
    }
    questions
}
