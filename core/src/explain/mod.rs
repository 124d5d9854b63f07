//! Why a pod has the gates that it has, why one is closed, and what to do: the answers of `targetgate explain`
//! (contract 10).
//!
//! Hook and health loop decide by the same functions: [`crate::gates::inject`] says which gates a pod gets,
//! [`crate::gates::requirements`] what each waits for, [`crate::gates::condition`] what ELB's answer means,
//! [`crate::index::HookScope`] for which pods the hook is called, [`crate::drain`] and [`crate::lint`] what becomes of
//! a pod's end. What is added here is words.

mod answer;
mod binding;
mod by_leader;
mod elb_codes;
mod end;
mod facts;
mod frame;
mod gate;
pub mod leader;
mod lost;
pub(crate) mod mode;
mod namespace;
mod pod;
mod questions;
mod registration;
mod selection;
#[cfg(test)]
mod tests;
mod text;
mod ungated;

pub use crate::explain::answer::{
    Answer, ApiVersion, BindingAnswer, BindingOfPod, ConditionAnswer, EndAnswer, Evidence,
    GateAnswer, Lacking, NamespaceAnswer, OtherGate, PodAnswer, PodCounts, PodsAlike,
    RegistrationAnswer, SettingsAnswer, Source, TargetAnswer, Verdict, Why, schema,
};
pub use crate::explain::binding::explain as binding;
pub use crate::explain::facts::{
    Elb, EndFacts, Facts, GroupLook, Looks, PodFacts, PolicyFacts, ReadinessGate, Registration,
    Settings, Told,
};
pub use crate::explain::frame::{Frame, frame};
pub use crate::explain::lost::explain as lost;
pub use crate::explain::namespace::explain as namespace;
pub use crate::explain::pod::{explain as pod, workload};
pub use crate::explain::questions::{Questions, of_binding as questions_of_binding, questions};
pub(crate) use crate::explain::text::Page;
pub use crate::explain::text::render;
