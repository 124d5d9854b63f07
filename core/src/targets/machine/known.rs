//! What the registrar knows of the bindings of a namespace, for the answers of `explain` (contract 10).

use std::sync::Arc;

use crate::index::BindingKey;
use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::calls::Kind;
use crate::targets::machine::Registrar;
use crate::targets::machine::action::Counts;
use crate::targets::machine::group::{Group, words_of};
use crate::targets::machine::held::Held;
use crate::targets::standing::Standing;
use crate::targets::wanted::LeftOut;

/// What the registrar knows of one binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingKnown {
    pub key: BindingKey,
    pub standing: Standing,
    /// Whether its targets are registered and deregistered now.
    pub active: bool,
    /// What the binding is told of its group: whether all is well, why not, and in which words.
    pub verdict: Option<(bool, Reason, String)>,
    /// The counts of its group, over all bindings of that.
    pub counts: Counts,
    /// The targets that ELB refuses alone, with its words; at most [`MOST_NAMED`].
    pub refused: Vec<(Target, Reason, String)>,
    /// The endpoints of EndpointSlices that are left out, each with the pod that it names; at most [`MOST_NAMED`].
    pub left_out: Vec<(Target, Option<Arc<str>>)>,
    /// The number of all of these.
    pub endpoints_left_out: usize,
}

/// At most this many targets of a binding are named for each fault. Chosen: they fit a screen.
pub const MOST_NAMED: usize = 20;

impl Registrar {
    /// What is known of the bindings of a namespace: of at most so many, with the number of those that are left out.
    pub fn known(&self, namespace: &str, at_most: usize) -> (Vec<BindingKnown>, usize) {
        let held = self.held.values();
        let mut held = held.filter(|held| *held.key.object.namespace == *namespace);
        let known = held.by_ref().take(at_most);
        let known = known.map(|held| self.known_of(held)).collect();
        (known, held.count())
    }

    fn known_of(&self, held: &Held) -> BindingKnown {
        let group = held.group.as_ref();
        let group = group.and_then(|group| self.groups.get(&group.arn));
        let left_out = self.wanted.left_out(&held.key);
        let left_out = left_out.filter(|_| held.is_active());
        let named = left_out.into_iter().flatten().take(MOST_NAMED);
        BindingKnown {
            key: held.key.clone(),
            standing: held.standing,
            active: held.is_active(),
            verdict: group.and_then(|group| group.verdict.clone()),
            counts: group.map_or_else(Counts::default, |group| group.counts.clone()),
            refused: group.map_or(vec![], refused),
            left_out: named.map(|(target, pod)| (*target, pod.clone())).collect(),
            endpoints_left_out: left_out.map_or(0, LeftOut::len),
        }
    }
}

fn refused(group: &Group) -> Vec<(Target, Reason, String)> {
    let refused = group.register.refused().take(MOST_NAMED);
    let refused = refused.map(|(target, why)| {
        let words = words_of(Kind::Register, Some(*target), why);
        (*target, why.reason, words)
    });
    refused.collect()
}
