//! Names of gates: condition types, and their prefixes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::names::NameError;
use crate::text::cut;

/// The condition prefix of the incumbent, AWS Load Balancer Controller, and our default.
pub const DEFAULT_CONDITION_PREFIX: &str = "target-health.elbv2.k8s.aws";
/// The condition prefix to use beside a running incumbent, which rewrites conditions under its own.
pub const OWN_CONDITION_PREFIX: &str = "target-health.targetgate.dev";
/// The condition prefix of the incumbent's first generation, whose gates are replaced.
pub const LEGACY_CONDITION_PREFIX: &str = "target-health.alb.ingress.k8s.aws";

/// The most characters of the name part of a qualified name, such as a condition type. Kubernetes.
const MAX_NAME_PART: usize = 63;
/// The bytes of a long binding name that stay readable, before `-` and 8 hex digits. Contract 1.
const KEPT_OF_LONG_NAME: usize = 54;

/// The part of a condition type before the `/`: a DNS subdomain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConditionPrefix(Arc<str>);

impl ConditionPrefix {
    /// The gate for the binding of this name.
    ///
    /// A binding's name may be 253 characters long, but the name part of a condition type only 63. A longer
    /// name is cut to 54 characters plus `-` and the first 8 hex digits of its SHA-256.
    ///
    /// ```
    /// use targetgate_core::names::ConditionPrefix;
    ///
    /// let prefix = ConditionPrefix::default();
    /// assert_eq!(prefix.gate("web").as_str(), "target-health.elbv2.k8s.aws/web");
    ///
    /// let long = "w".repeat(100);
    /// let gate = prefix.gate(&long);
    /// assert_eq!(gate.name().len(), 63);
    /// assert!(gate.is_of(&long));
    /// ```
    pub fn gate(&self, binding: &str) -> GateName {
        GateName(format!("{}/{}", self.0, name_part(binding)).into())
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ConditionPrefix {
    fn default() -> Self {
        Self(DEFAULT_CONDITION_PREFIX.into())
    }
}

impl FromStr for ConditionPrefix {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::new(
                text,
                "a DNS subdomain, such as target-health.elbv2.k8s.aws",
            ))
        }
    }
}

impl fmt::Display for ConditionPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name part of a binding's gate: the binding's name, shortened if it is too long.
fn name_part(binding: &str) -> String {
    if binding.len() <= MAX_NAME_PART {
        return binding.to_owned();
    }
    let kept = cut(binding, KEPT_OF_LONG_NAME);
    let hash = Sha256::digest(binding.as_bytes());
    let hex: String = hash.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("{kept}-{hex}")
}

/// The condition type of one gate, `<prefix>/<binding name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GateName(Arc<str>);

impl GateName {
    /// Reads a condition type with one of `prefixes`; `None` if it has another prefix.
    pub fn under(prefixes: &[ConditionPrefix], condition_type: &str) -> Option<Self> {
        let (prefix, name) = condition_type.split_once('/')?;
        let known = prefixes.iter().any(|known| known.as_str() == prefix);
        (known && !name.is_empty()).then(|| Self(condition_type.into()))
    }

    /// The whole condition type.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a binding of this name has this gate, under any prefix.
    pub fn is_of(&self, binding: &str) -> bool {
        self.name() == name_part(binding)
    }

    /// The part after the prefix: a binding's name, possibly shortened.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }

    /// The number of clones, which share one text.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Whether [`Self::name`] may be shortened, so that the binding's name does not follow from it.
    pub fn may_be_shortened(&self) -> bool {
        self.name().len() == MAX_NAME_PART
    }
}

impl fmt::Display for GateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a condition type is a gate of the incumbent's first generation.
pub fn is_legacy_gate(condition_type: &str) -> bool {
    condition_type.starts_with(LEGACY_CONDITION_PREFIX)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_binding_name_of_63_characters_stays_whole() {
        let name = "a".repeat(63);
        let gate = ConditionPrefix::default().gate(&name);
        assert_eq!(gate.name(), name);
        assert!(gate.is_of(&name));
    }

    #[test]
    fn a_short_gate_tells_its_binding() {
        let gate = ConditionPrefix::default().gate(&"a".repeat(62));
        assert!(!gate.may_be_shortened());
    }

    #[test]
    fn a_binding_name_of_64_characters_is_cut_and_hashed() {
        let name = "a".repeat(64);
        let gate = ConditionPrefix::default().gate(&name);
        // The digits are those of `printf 'a%.0s' {1..64} | sha256sum`.
        assert_eq!(gate.name(), format!("{}-ffe054fe", "a".repeat(54)));
        assert!(gate.may_be_shortened());
        assert!(gate.is_of(&name));
        assert!(!gate.is_of(&"a".repeat(65)));
    }

    #[test]
    fn a_gate_is_known_by_its_prefix() {
        let prefixes = [ConditionPrefix::default()];
        assert!(GateName::under(&prefixes, "target-health.elbv2.k8s.aws/web").is_some());
        assert!(GateName::under(&prefixes, "target-health.elbv2.k8s.aws/").is_none());
        assert!(GateName::under(&prefixes, "target-health.elbv2.k8s.awsx/web").is_none());
        assert!(GateName::under(&prefixes, "Ready").is_none());
    }

    #[rstest]
    #[case("target-health.targetgate.dev", true)]
    #[case("a", true)]
    #[case("", false)]
    #[case("Upper.case", false)]
    #[case("-a.b", false)]
    #[case("a-.b", false)]
    #[case("a..b", false)]
    #[case("a/b", false)]
    fn a_condition_prefix_is_a_dns_subdomain(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<ConditionPrefix>().is_ok(), valid);
    }

    #[test]
    fn prefixes_and_gates_are_written_as_they_are_read() {
        let prefix = ConditionPrefix::default();
        assert_eq!(prefix.to_string(), prefix.as_str());
        let gate = prefix.gate("web");
        assert_eq!(gate.to_string(), format!("{prefix}/web"));
    }
}
