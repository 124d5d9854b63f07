//! Names of AWS: target groups, VPCs, roles, and the quotas that calls count against.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::names::NameError;

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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

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
}
