//! Which hop between the API server and ELB is broken, and what to do: the answer of `targetgate doctor` (contract 10).
//!
//! The command reads facts, as far as it may and can; what is not known is never taken for sound.

mod answer;
mod aws;
mod certificate;
mod cluster;
mod ends;
mod facts;
mod foreign;
mod hooks;
mod incumbent;
mod installation;
mod policy;
#[cfg(test)]
mod tests;
mod text;

pub use crate::doctor::answer::{Answer, Check, Finding, State, schema};
pub use crate::doctor::facts::{
    Binding, BindingTrial, Bundle, ChangeOutcome, ChangeTrial, Crd, Described, End, Facts,
    GraceOutcome, GraceTrial, Group, Hook, HookKind, HookService, Identity, Incumbent,
    IncumbentHooks, Injection, Installation, Known, Lease, Lost, Namespace, NamespacePods,
    NamespaceRules, PodTrial, Policy, Read, Right, Targets, Unread, Validity,
};
pub use crate::doctor::policy::IMMUTABILITY;
pub use crate::doctor::text::render;

/// What the facts amount to, hop by hop.
pub fn diagnose(facts: &Facts) -> Answer {
    let hops = [
        installation::found(facts),
        cluster::crds(facts),
        hooks::registered(facts),
        certificate::trusted(facts),
        certificate::served(facts),
        hooks::services(facts),
        hooks::pod_trial(facts),
        hooks::binding_trial(facts),
        policy::injection(facts),
        policy::gate_rules(facts),
        policy::immutability(facts),
        installation::rights(facts),
        cluster::lease(facts),
        incumbent::registrars(facts),
        incumbent::hooks(facts),
        incumbent::listeners(facts),
        installation::finalizers(facts),
        aws::identity(facts),
        aws::groups(facts),
        aws::changes(facts),
        cluster::bindings(facts),
        foreign::targets(facts),
        cluster::lost(facts),
        cluster::namespaces(facts),
        ends::graces(facts),
        ends::ends(facts),
    ];
    Answer::new(facts.now, hops.concat())
}
