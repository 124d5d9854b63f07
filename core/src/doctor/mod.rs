//! Which hop between the API server and ELB is broken, and what to do: the answer of `targetgate doctor` (contract 10).
//!
//! The command reads facts, as far as it may and can; what is not known is never taken for sound.

mod answer;
mod cluster;
mod facts;
mod hooks;
#[cfg(test)]
mod tests;
mod text;

pub use crate::doctor::answer::{Answer, Check, Finding, State, schema};
pub use crate::doctor::facts::{
    Binding, BindingTrial, Bundle, Crd, Facts, Group, Hook, HookKind, HookService, Known, Lease,
    Namespace, PodTrial,
};
pub use crate::doctor::text::render;

/// What the facts amount to, hop by hop.
pub fn diagnose(facts: &Facts) -> Answer {
    let hops = [
        cluster::crd(facts),
        hooks::registered(facts),
        hooks::trusted(facts),
        hooks::services(facts),
        hooks::pod_trial(facts),
        hooks::binding_trial(facts),
        cluster::lease(facts),
        cluster::groups(facts),
        cluster::bindings(facts),
        cluster::namespaces(facts),
    ];
    Answer::new(facts.now, hops.concat())
}
