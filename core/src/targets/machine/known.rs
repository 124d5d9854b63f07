//! What the registrar knows of the bindings of a namespace, for the answers of `explain` (contract 10).

use crate::index::BindingKey;
use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::calls::Kind;
use crate::targets::machine::Registrar;
use crate::targets::machine::action::Counts;
use crate::targets::machine::group::{Group, words_of};
use crate::targets::machine::held::Held;
use crate::targets::standing::Standing;

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
    /// The targets that ELB refuses alone, with its words; at most [`MOST_REFUSED`].
    pub refused: Vec<(Target, Reason, String)>,
}

/// At most this many refused targets of a binding are named. Chosen: they fit a screen.
pub const MOST_REFUSED: usize = 20;

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
        BindingKnown {
            key: held.key.clone(),
            standing: held.standing,
            active: held.is_active(),
            verdict: group.and_then(|group| group.verdict.clone()),
            counts: group.map_or_else(Counts::default, |group| group.counts.clone()),
            refused: group.map_or(vec![], refused),
        }
    }
}

fn refused(group: &Group) -> Vec<(Target, Reason, String)> {
    let refused = group.register.refused().take(MOST_REFUSED);
    let refused = refused.map(|(target, why)| {
        let words = words_of(Kind::Register, Some(*target), why);
        (*target, why.reason, words)
    });
    refused.collect()
}
