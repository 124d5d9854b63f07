//! Targets that another cluster registers in a group: its bindings cannot be read from here, and its targets can.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::doctor::answer::{Check, Finding};
use crate::doctor::facts::{Binding, Facts, Group};
use crate::doctor::installation::names;
use crate::reason::Reason;
use crate::text::agreeing;

/// The targets of each group are of pods here, unless its bindings say that other clusters use it.
pub(super) fn targets(facts: &Facts) -> Vec<Finding> {
    let groups = facts.groups.iter().flatten();
    groups.filter_map(|group| of_group(facts, group)).collect()
}

fn of_group(facts: &Facts, group: &Group) -> Option<Finding> {
    let targets = group.targets.as_ref().ok()?;
    let here = addresses_here(facts, group)?;
    let foreign: Vec<&IpAddr> = targets.addresses.difference(&here).collect();
    (!foreign.is_empty()).then(|| {
        let (number, all) = (foreign.len(), targets.addresses.len());
        let addresses = agreeing(all, "address", "addresses");
        let are = agreeing(number, "is", "are");
        let message = format!(
            "{number} of its {all} {addresses} {are} of no pod in the namespaces of its bindings, and \
             multiClusterTargetGroup is not set: {}.",
            names(&foreign)
        );
        let about = group.arn.as_str();
        Finding::advice(Check::Binding, about, Reason::ForeignTargets, message)
    })
}

/// The addresses of the pods in the namespaces of the group's bindings; `None` if others may be registered for these
/// bindings, or that is not known.
fn addresses_here(facts: &Facts, group: &Group) -> Option<BTreeSet<IpAddr>> {
    let bindings = facts.bindings.as_ref().ok()?.iter();
    let of_group = bindings.filter(|binding| binding.arn.as_deref() == Some(group.arn.as_str()));
    let mut here = BTreeSet::new();
    for binding in of_group {
        here.extend(addresses(facts, binding)?);
    }
    Some(here)
}

fn addresses<'a>(facts: &'a Facts, binding: &Binding) -> Option<&'a BTreeSet<IpAddr>> {
    let place = facts.pods.get(&*binding.key.namespace)?;
    let service = binding.service.as_deref()?;
    // The endpoints of a Service without a selector need not be pods.
    let known = !binding.multi_cluster && place.selecting.contains(service);
    known.then_some(&place.addresses)
}
