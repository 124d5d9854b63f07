//! Names of the field (gates, ARNs, keys), parsed once into types that cannot be wrong.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::text::cut;

mod api;
mod aws;
mod gates;

pub use crate::names::api::BindingApi;
pub use crate::names::aws::{AssumedRole, GroupKey, NamedGroup, Quota, TargetGroupArn, VpcId};
pub use crate::names::gates::{
    ConditionPrefix, DEFAULT_CONDITION_PREFIX, GateName, LEGACY_CONDITION_PREFIX,
    OWN_CONDITION_PREFIX, is_legacy_gate,
};

/// The label that opts in a Namespace, or a Pod where the deployed `objectSelector` asks for it.
pub const INJECT_LABEL: &str = "elbv2.k8s.aws/pod-readiness-gate-inject";
/// The value of [`INJECT_LABEL`] that opts in.
pub const INJECT_ENABLED: &str = "enabled";
/// The annotation that opts out a Pod, Service or binding with the value `"false"`.
pub const GATE_ANNOTATION: &str = "targetgate.dev/gate";

/// The annotation of a Pod, binding or Namespace that says what a gate does while no load balancer uses its target
/// group: `wait` or `open`.
pub const WHEN_UNUSED_ANNOTATION: &str = "targetgate.dev/when-unused";
/// The annotation of a Pod, binding or Namespace with the time after which a gate opens whatever ELB says, such as
/// `10m`.
pub const OPEN_AFTER_ANNOTATION: &str = "targetgate.dev/open-after";
/// The annotation of a Pod, binding or Namespace that says what an open gate does once ELB calls its target
/// anything but healthy: `hold` or `follow`.
pub const AFTER_OPEN_ANNOTATION: &str = "targetgate.dev/after-open";

/// The label of a Namespace that says whether its pods sleep before their end: `sleep` or `off`.
pub const DRAIN_LABEL: &str = "targetgate.dev/drain";
/// The annotation of a Pod that says the same, and comes before the label.
pub const DRAIN_ANNOTATION: &str = DRAIN_LABEL;
/// The annotation of a Pod with the seconds that it sleeps, 1 to 600.
pub const DRAIN_SECONDS_ANNOTATION: &str = "targetgate.dev/drain-seconds";
/// The annotation that a Pod gets with its sleep: `<sleep>/<given>`, both in seconds.
pub const DRAINED_ANNOTATION: &str = "targetgate.dev/drained";

/// The annotation of a binding that says whether we register its targets: `"true"` or `"false"`.
pub const REGISTER_ANNOTATION: &str = "targetgate.dev/register";
/// The annotation of a binding that, with the value `"true"`, lets its deletion leave targets in the group.
pub const ABANDON_ANNOTATION: &str = "targetgate.dev/abandon";
/// Our finalizer on bindings whose targets we register.
pub const FINALIZER: &str = "targetgate.dev/targets";
/// The incumbent's finalizer, which it puts on every binding that it watches.
pub const INCUMBENT_FINALIZER: &str = "elbv2.k8s.aws/resources";

/// Whether this value of [`GATE_ANNOTATION`] opts out, for admissions and watches alike.
pub fn opts_out(value: &str) -> bool {
    value == "false"
}

/// An error shows at most this many bytes of a text. Chosen.
const MAX_SHOWN: usize = 300;

/// A text that does not have the expected form.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{value:?} is not {expected}")]
pub struct NameError {
    value: String,
    expected: &'static str,
}

impl NameError {
    pub(crate) fn new(value: &str, expected: &'static str) -> Self {
        Self {
            value: cut(value, MAX_SHOWN).to_owned(),
            expected,
        }
    }
}

/// The key of a namespaced object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key of this namespace and name.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_false_opts_out() {
        assert!(opts_out("false"));
        assert!(!["true", "", "False", "no"].into_iter().any(opts_out));
    }
}
