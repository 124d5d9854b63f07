//! Names of the field (gates, ARNs, keys), parsed once into types that cannot be wrong.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::text::cut;

/// The condition prefix of the incumbent, AWS Load Balancer Controller, and our default.
pub const DEFAULT_CONDITION_PREFIX: &str = "target-health.elbv2.k8s.aws";
/// The condition prefix to use beside a running incumbent, which rewrites conditions under its own.
pub const OWN_CONDITION_PREFIX: &str = "target-health.targetgate.dev";
/// The condition prefix of the incumbent's first generation, whose gates are replaced.
pub const LEGACY_CONDITION_PREFIX: &str = "target-health.alb.ingress.k8s.aws";
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

/// The most characters of the name part of a qualified name, such as a condition type. Kubernetes.
const MAX_NAME_PART: usize = 63;
/// The bytes of a long binding name that stay readable, before `-` and 8 hex digits. Contract 1.
const KEPT_OF_LONG_NAME: usize = 54;

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

/// `arn:PARTITION:elasticloadbalancing:REGION:ACCOUNT:targetgroup/NAME/ID`.
///
/// Any partition `aws[-a-z]*` is accepted, because AWS adds partitions without notice.
/// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awselasticloadbalancingv2.html>
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetGroupArn(Arc<str>);

impl TargetGroupArn {
    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The Region of the group. Calls have to name it, because the SDK does not take it from the ARN.
    pub fn region(&self) -> &str {
        self.field(3)
    }

    /// The account that owns the group.
    pub fn account(&self) -> &str {
        self.field(4)
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or("")
    }

    fn field(&self, position: usize) -> &str {
        self.0.split(':').nth(position).unwrap_or("")
    }
}

impl FromStr for TargetGroupArn {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let partition = |p: &str| {
            p.strip_prefix("aws")
                .is_some_and(|rest| rest.bytes().all(|b| b == b'-' || b.is_ascii_lowercase()))
        };
        let word =
            |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let fields: Vec<&str> = text.split(':').collect();
        let valid = match fields[..] {
            ["arn", p, "elasticloadbalancing", region, account, resource] => {
                let parts: Vec<&str> = resource.split('/').collect();
                partition(p)
                    && word(region)
                    && account.len() == 12
                    && account.bytes().all(|b| b.is_ascii_digit())
                    && matches!(parts[..], ["targetgroup", name, id] if word(name) && word(id))
            }
            _ => false,
        };
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(NameError::new(
                text,
                "a target group ARN, arn:aws:elasticloadbalancing:REGION:ACCOUNT:targetgroup/NAME/ID",
            ))
        }
    }
}

impl fmt::Display for TargetGroupArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A VPC's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpcId(Arc<str>);

impl VpcId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VpcId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match text.strip_prefix("vpc-") {
            Some(id) if matches!(id.len(), 8 | 17 | 32) && id.bytes().all(hex) => {
                Ok(Self(text.into()))
            }
            _ => Err(NameError::new(
                text,
                "a VPC's id: vpc- and 8, 17 or 32 lowercase hex digits",
            )),
        }
    }
}

/// A role to assume for calls about a group of another account (`spec.iamRoleArnToAssume`,
/// `spec.assumeRoleExternalId`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssumedRole {
    pub arn: Arc<str>,
    /// The external id that the role's trust policy may demand.
    pub external_id: Option<Arc<str>>,
}

impl AssumedRole {
    /// The account of the role; `None` if its ARN does not name one.
    fn account(&self) -> Option<&str> {
        let account = self.arn.split(':').nth(4)?;
        let valid = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        valid.then_some(account)
    }
}

/// A target group as a binding without an ARN names it, in the SDK's own Region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedGroup {
    pub name: Arc<str>,
    /// The role with which its ARN is looked up; `None` for the process's own credentials.
    pub role: Option<AssumedRole>,
}

/// A quota: an account in a Region. AWS counts and throttles the calls of each by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quota {
    account: Arc<str>,
    region: Arc<str>,
}

impl Quota {
    /// The quota of calls that name this group by its ARN.
    pub fn of(arn: &TargetGroupArn) -> Self {
        Self {
            account: arn.account().into(),
            region: arn.region().into(),
        }
    }

    /// The quota of calls in this Region that identify groups by name. The account is the role's, or our own,
    /// whose number we do not know.
    pub fn of_role(role: Option<&AssumedRole>, region: &str) -> Self {
        let account = role.and_then(AssumedRole::account);
        Self {
            account: account.unwrap_or("own").into(),
            region: region.into(),
        }
    }

    /// The account's number, or `own`.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The Region.
    pub fn region(&self) -> &str {
        &self.region
    }
}

/// The key by which groups are polled and their timings learned: the ARN, with the role that is assumed for
/// calls about the group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    pub arn: TargetGroupArn,
    /// The role to assume, if a binding names one.
    pub role: Option<AssumedRole>,
}

/// The two API groups that serve the kind `TargetGroupBinding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BindingApi {
    /// `elbv2.k8s.aws/v1beta1`: the incumbent's and ours.
    Elbv2,
    /// `eks.amazonaws.com/v1`: EKS Auto Mode's.
    Eks,
}

impl BindingApi {
    /// Both API groups, the incumbent's first.
    pub const ALL: [Self; 2] = [Self::Elbv2, Self::Eks];

    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::Elbv2 => "elbv2.k8s.aws",
            Self::Eks => "eks.amazonaws.com",
        }
    }

    /// The version that targetgate reads.
    pub fn version(self) -> &'static str {
        match self {
            Self::Elbv2 => "v1beta1",
            Self::Eks => "v1",
        }
    }
}

impl FromStr for BindingApi {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|api| api.group() == text)
            .ok_or_else(|| NameError::new(text, "one of elbv2.k8s.aws, eks.amazonaws.com"))
    }
}

impl fmt::Display for BindingApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.group())
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
    fn only_the_word_false_opts_out() {
        assert!(opts_out("false"));
        assert!(!["true", "", "False", "no"].into_iter().any(opts_out));
    }

    #[test]
    fn a_quota_is_an_accounts_in_a_region() {
        let arn =
            "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";
        let role = |arn: &str| AssumedRole {
            arn: arn.into(),
            external_id: None,
        };
        let by_name = |arn| Quota::of_role(Some(&role(arn)), "eu-west-1");
        assert_eq!(
            Quota::of(&arn.parse().unwrap()),
            by_name("arn:aws:iam::123456789012:role/targets")
        );
        let own = Quota::of_role(None, "eu-west-1");
        assert_eq!((own.account(), own.region()), ("own", "eu-west-1"));
        assert_eq!(by_name("arn:aws:iam::no-account:role/targets"), own);
    }

    #[test]
    fn names_are_written_as_they_are_read() {
        let prefix = ConditionPrefix::default();
        assert_eq!(prefix.to_string(), prefix.as_str());
        let gate = prefix.gate("web");
        assert_eq!(gate.to_string(), format!("{prefix}/web"));
        let vpc: VpcId = "vpc-0a1b2c3d".parse().unwrap();
        assert_eq!(vpc.as_str(), "vpc-0a1b2c3d");
        for api in BindingApi::ALL {
            assert_eq!(api.to_string().parse(), Ok(api));
        }
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
    #[case("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef")]
    #[case("arn:aws-cn:elasticloadbalancing:cn-north-1:123456789012:targetgroup/k8s-web-1/0f")]
    #[case("arn:aws-iso-b:elasticloadbalancing:us-isob-east-1:123456789012:targetgroup/a/b")]
    #[case("arn:aws-eusc:elasticloadbalancing:eusc-de-east-1:123456789012:targetgroup/a/b")]
    fn arns_of_every_partition_are_taken(#[case] text: &str) {
        let arn: TargetGroupArn = text.parse().unwrap();
        assert_eq!(arn.as_str(), text);
        assert_eq!(arn.region(), text.split(':').nth(3).unwrap());
        assert_eq!(arn.account(), "123456789012");
        assert_eq!(arn.name(), text.split('/').nth(1).unwrap());
    }

    #[rstest]
    #[case("")]
    #[case("arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/0f")]
    #[case("arn:aws:elasticloadbalancing::123456789012:targetgroup/web/0f")]
    #[case("arn:aws:elasticloadbalancing:eu-west-1:1234:targetgroup/web/0f")]
    #[case("arn:aws:elasticloadbalancing:eu-west-1:12345678901x:targetgroup/web/0f")]
    #[case("arn:AWS:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0f")]
    #[case("arn:awsX:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0f")]
    #[case("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web")]
    #[case("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0f/extra")]
    #[case("arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/w b/0f")]
    fn what_is_no_target_group_arn_is_refused(#[case] text: &str) {
        assert!(text.parse::<TargetGroupArn>().is_err());
    }

    #[rstest]
    #[case("vpc-0a1b2c3d", true)]
    #[case("vpc-0123456789abcdef0", true)]
    #[case("vpc-0123456789abcdef0123456789abcdef", true)]
    #[case("vpc-0123456789ABCDEF0", false)]
    #[case("vpc-0123456789abcdef", false)]
    #[case("vpc-", false)]
    #[case("0a1b2c3d", false)]
    fn a_vpc_id_has_8_17_or_32_hex_digits(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<VpcId>().is_ok(), valid);
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
}
