//! Why a gate has nothing left to wait for (contract 5.5).

use std::sync::Arc;

use crate::reason::Reason;

/// Why a gate has nothing left to wait for. A watch may be behind, so a gate opens for an absence only once a
/// live read has confirmed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// A binding of that name does not exist.
    BindingGone,
    /// The binding's Service does not exist.
    ServiceGone { service: Arc<str> },
    /// The binding's Service does not select the pod.
    NotSelected {
        binding: Arc<str>,
        service: Arc<str>,
    },
    /// The binding registers nodes, not pods.
    TargetTypeInstance { binding: Arc<str> },
    /// The binding is being deleted. Its gate opens for that only if ELB does not have the target, or
    /// deregisters it.
    BindingTerminating { binding: Arc<str> },
}

impl Absence {
    /// The reason in metrics, logs and explanations.
    pub fn reason(&self) -> Reason {
        match self {
            Self::BindingGone => Reason::BindingGone,
            Self::ServiceGone { .. } => Reason::ServiceGone,
            Self::NotSelected { .. } => Reason::NotSelected,
            Self::TargetTypeInstance { .. } => Reason::TargetTypeInstance,
            Self::BindingTerminating { .. } => Reason::BindingTerminating,
        }
    }
}
