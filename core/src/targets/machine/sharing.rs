//! Targets that pass from one record to another, because another binding wants them, and those that are adopted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::index::BindingKey;
use crate::names::TargetGroupArn;
use crate::targets::Target;
use crate::targets::machine::action::Action;
use crate::targets::machine::held::Held;
use crate::targets::wanted::GroupWants;

/// The targets in the records of bindings that want nothing any more.
pub(super) fn given_up_by<'a>(
    held: &'a BTreeMap<BindingKey, Held>,
    arn: &'a TargetGroupArn,
) -> impl Iterator<Item = Target> + 'a {
    let leaving = held
        .values()
        .filter(|held| held.is_cleaned_up() || held.has_moved());
    leaving.flat_map(|held| held.recorded(arn)).copied()
}

/// Takes targets out of the records of bindings that want nothing any more, once each binding that wants one, and is ours
/// or about to be, has it in its own.
pub(super) fn pass_on(
    held: &mut BTreeMap<BindingKey, Held>,
    shared: &BTreeSet<Target>,
    wants: &GroupWants,
) {
    let passed = shared.iter().filter(|target| {
        let wanting = wants.wanted.get(*target).map(|want| &want.bindings);
        let wanting = wanting.into_iter().flatten();
        let mut wanting = wanting.filter_map(|key| held.get(key));
        wanting.all(|held| !held.will_record() || held.has_recorded(target))
    });
    let passed: Vec<Target> = passed.copied().collect();
    for held in held
        .values_mut()
        .filter(|held| held.is_cleaned_up() || held.has_moved())
    {
        held.drop_targets(passed.iter().copied());
    }
}

/// Has targets recorded that are registered already: each by the active bindings that want it, or by the first of them.
pub(super) fn adopt_into(
    held: &mut BTreeMap<BindingKey, Held>,
    active: &BTreeSet<BindingKey>,
    adopt: &BTreeSet<Target>,
    wants: &GroupWants,
    now: Instant,
    actions: &mut Vec<Action>,
) {
    let first = active.first();
    for held in held.values_mut().filter(|held| active.contains(&held.key)) {
        let its = adopt
            .iter()
            .filter(|target| match wants.wanted.get(*target) {
                Some(want) => want.bindings.contains(&held.key),
                None => first == Some(&held.key),
            });
        let its: BTreeSet<Target> = its.copied().collect();
        if !its.is_empty() {
            actions.extend(held.record(&its, now));
        }
    }
}
