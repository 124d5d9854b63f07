//! Why nothing holds a gate any more (contract 5.5).

use std::sync::Arc;

use crate::reason::Reason;

/// Why nothing holds a gate any more. A watch may be behind, so an absence is only believed once it
/// is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// No binding of that name is there.
    BindingGone,
    /// The binding's Service is not there, or has no such port.
    ServiceGone {
        /// The Service's name.
        service: Arc<str>,
    },
    /// The binding's Service does not select the pod.
    NotSelected {
        /// The binding's name.
        binding: Arc<str>,
        /// The Service's name.
        service: Arc<str>,
    },
    /// The binding registers nodes.
    TargetTypeInstance {
        /// The binding's name.
        binding: Arc<str>,
    },
}

impl Absence {
    /// The reason in metrics, logs and explanations.
    pub fn reason(&self) -> Reason {
        match self {
            Self::BindingGone => Reason::BindingGone,
            Self::ServiceGone { .. } => Reason::ServiceGone,
            Self::NotSelected { .. } => Reason::NotSelected,
            Self::TargetTypeInstance { .. } => Reason::TargetTypeInstance,
        }
    }
}
