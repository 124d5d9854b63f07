//! What it means for a binding that AWS does not describe its target group, in words (contract 3).

use crate::binding::field::{GroupField, ROLE};
use crate::elb::query::{DescribeError, FailureKind, GroupQuery, GroupSelector};
use crate::text::cut;

/// The action of the call, as a policy of IAM spells it.
const ACTION: &str = "elasticloadbalancing:DescribeTargetGroups";
/// A message repeats at most this many bytes of a name or ARN. Chosen so that an ARN is shown whole.
const MAX_SHOWN: usize = 300;

/// What a failed description says of the binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The binding is wrong: AWS does not have the group, or refuses its ARN or name.
    Refused,
    /// Nothing: AWS refuses our role, or there are no credentials.
    Denied,
    /// Nothing: AWS did not answer in time, throttles, or failed inside.
    Unavailable,
}

/// A failed description of a binding's group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub meaning: Meaning,
    /// The call, the group, the Region, AWS's error code and what to do about that error; last, what may be cut of
    /// a long warning, AWS's own words.
    pub message: String,
}

impl Failure {
    /// The failure of `query`. A name is looked up in the Region `home`, if one is known.
    ///
    /// ```
    /// use targetgate_core::binding::failure::{Failure, Meaning};
    /// use targetgate_core::elb::query::{DescribeError, GroupQuery, GroupSelector};
    ///
    /// let query = GroupQuery { selector: GroupSelector::Name("web".into()), role: None };
    /// let failure = Failure::of(&query, Some("eu-west-1"), &DescribeError::NotFound);
    /// assert_eq!(failure.meaning, Meaning::Refused);
    /// let call = r#"DescribeTargetGroups for target group "web" in eu-west-1 failed"#;
    /// assert!(failure.message.starts_with(call));
    /// ```
    pub fn of(query: &GroupQuery, home: Option<&str>, error: &DescribeError) -> Self {
        let group = cut(query.selector.as_str(), MAX_SHOWN);
        let region = match &query.selector {
            GroupSelector::Arn(arn) => Some(arn.region()),
            GroupSelector::Name(_) => home,
        };
        let region = region.map_or_else(String::new, |region| format!(" in {region}"));
        let (code, remedy) = (error.code(), remedy(query, error));
        Self {
            meaning: meaning(error),
            message: format!(
                "DescribeTargetGroups for target group {group:?}{region} failed with {code}: {remedy} ({error})"
            ),
        }
    }
}

fn meaning(error: &DescribeError) -> Meaning {
    match error {
        DescribeError::NotFound | DescribeError::Ambiguous { .. } => Meaning::Refused,
        DescribeError::TimedOut => Meaning::Unavailable,
        DescribeError::Failed { kind, .. } => match kind {
            FailureKind::Invalid => Meaning::Refused,
            FailureKind::Denied | FailureKind::NoCredentials => Meaning::Denied,
            FailureKind::Unavailable => Meaning::Unavailable,
        },
    }
}

/// What to do about this very error.
fn remedy(query: &GroupQuery, error: &DescribeError) -> String {
    let arn = GroupField::Arn;
    match error {
        DescribeError::NotFound => not_found(query),
        DescribeError::Ambiguous { .. } => format!("set {arn} to that of the group that is meant"),
        DescribeError::TimedOut => unavailable("Timeout").to_owned(),
        DescribeError::Failed { kind, code, .. } => match kind {
            FailureKind::Invalid => format!(
                "correct {}; a group of another account is described as a role of that account, {ROLE}",
                field(query)
            ),
            FailureKind::Denied => denied(query, code),
            FailureKind::NoCredentials => no_credentials(query),
            FailureKind::Unavailable => unavailable(code).to_owned(),
        },
    }
}

fn not_found(query: &GroupQuery) -> String {
    let caller = caller(query);
    match &query.selector {
        GroupSelector::Arn(_) => {
            format!("correct {}, or create the group first", GroupField::Arn)
        }
        GroupSelector::Name(_) => format!(
            "correct {}, or create the group first; a name is looked up in this Region alone, in the account of {caller}: a group elsewhere is bound by {}",
            GroupField::Name,
            GroupField::Arn
        ),
    }
}

fn denied(query: &GroupQuery, code: &str) -> String {
    let caller = caller(query);
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            format!("renew the credentials of {caller}, and check the clock of targetgate's node")
        }
        "IncompleteSignature"
        | "InvalidClientTokenId"
        | "MissingAuthenticationToken"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => {
            format!("replace the credentials of {caller}, which AWS does not accept")
        }
        "OptInRequired" => {
            "enable the Region, or subscribe to the service, in the account".to_owned()
        }
        _ => format!("allow {ACTION} to {caller}"),
    }
}

fn no_credentials(query: &GroupQuery) -> String {
    match &query.role {
        Some(role) => format!(
            "allow sts:AssumeRole on {:?} to targetgate's own role, let that role's trust policy admit it{}, and allow {ACTION} to it",
            shown(&role.arn),
            match role.external_id {
                Some(_) => " with the external id",
                None => "",
            }
        ),
        None => format!(
            "give targetgate's ServiceAccount a role (IRSA or EKS Pod Identity), or the nodes, and allow {ACTION} to it"
        ),
    }
}

/// The remedy for a code in whose case AWS may answer later.
fn unavailable(code: &str) -> &'static str {
    match code {
        "NoRegion" => "set AWS_REGION for targetgate, or bind the group by its ARN",
        "Timeout" | "Unreachable" => {
            "try again; if it lasts, check targetgate's way to the Region's elasticloadbalancing endpoint (DNS, NAT or VPC endpoint, proxy)"
        }
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "TooManyRequestsException" => {
            "try again in a few seconds: all callers of the account share its quota in the Region"
        }
        _ => "try again in a few seconds",
    }
}

/// The role that makes the call.
fn caller(query: &GroupQuery) -> String {
    match &query.role {
        Some(role) => format!("role {:?}", shown(&role.arn)),
        None => "targetgate's own role".to_owned(),
    }
}

fn field(query: &GroupQuery) -> GroupField {
    match query.selector {
        GroupSelector::Arn(_) => GroupField::Arn,
        GroupSelector::Name(_) => GroupField::Name,
    }
}

fn shown(text: &str) -> &str {
    cut(text, MAX_SHOWN)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::names::AssumedRole;

    const ARN: &str =
        "arn:aws:elasticloadbalancing:us-west-2:123456789012:targetgroup/web/0123456789abcdef";
    const ROLE_ARN: &str = "arn:aws:iam::210987654321:role/bind";

    fn by_arn() -> GroupQuery {
        GroupQuery {
            selector: GroupSelector::Arn(ARN.parse().unwrap()),
            role: None,
        }
    }

    fn by_name() -> GroupQuery {
        GroupQuery {
            selector: GroupSelector::Name("web".to_owned()),
            ..by_arn()
        }
    }

    fn as_role(query: GroupQuery, external_id: Option<&str>) -> GroupQuery {
        let role = AssumedRole {
            arn: ROLE_ARN.into(),
            external_id: external_id.map(Into::into),
        };
        GroupQuery {
            role: Some(role),
            ..query
        }
    }

    fn failed(kind: FailureKind, code: &str) -> DescribeError {
        DescribeError::Failed {
            kind,
            code: code.to_owned(),
            message: "what AWS says".to_owned(),
        }
    }

    fn of(query: &GroupQuery, error: &DescribeError) -> Failure {
        Failure::of(query, Some("eu-west-1"), error)
    }

    #[rstest]
    #[case::not_found(DescribeError::NotFound, Meaning::Refused)]
    #[case::two_of_a_name(DescribeError::Ambiguous { groups: 2 }, Meaning::Refused)]
    #[case::late(DescribeError::TimedOut, Meaning::Unavailable)]
    #[case::invalid(failed(FailureKind::Invalid, "ValidationError"), Meaning::Refused)]
    #[case::denied(failed(FailureKind::Denied, "AccessDenied"), Meaning::Denied)]
    #[case::nobody(failed(FailureKind::NoCredentials, "NoCredentials"), Meaning::Denied)]
    #[case::throttled(failed(FailureKind::Unavailable, "Throttling"), Meaning::Unavailable)]
    fn an_error_says_something_of_the_binding_or_nothing(
        #[case] error: DescribeError,
        #[case] meaning: Meaning,
    ) {
        let failure = of(&by_name(), &error);
        assert_eq!(failure.meaning, meaning);
        let message = failure.message;
        for part in [
            "DescribeTargetGroups",
            r#""web""#,
            "in eu-west-1",
            error.code(),
        ] {
            assert!(message.contains(part), "{message}");
        }
        let of_arn = of(&by_arn(), &error).message;
        assert!(
            of_arn.contains(ARN) && of_arn.contains("in us-west-2"),
            "{of_arn}"
        );
    }

    #[rstest]
    #[case::not_found(by_name(), DescribeError::NotFound, &["correct spec.targetGroupName", "in the account of targetgate's own role", "bound by spec.targetGroupARN"])]
    #[case::not_found_by_arn(by_arn(), DescribeError::NotFound, &["correct spec.targetGroupARN, or create the group first"])]
    #[case::two_of_a_name(by_name(), DescribeError::Ambiguous { groups: 2 }, &["2 target groups", "set spec.targetGroupARN"])]
    #[case::invalid(by_arn(), failed(FailureKind::Invalid, "ValidationError"), &["what AWS says", "correct spec.targetGroupARN", "spec.iamRoleArnToAssume"])]
    #[case::denied(by_arn(), failed(FailureKind::Denied, "AccessDenied"), &["allow elasticloadbalancing:DescribeTargetGroups to targetgate's own role"])]
    #[case::denied_to_a_role(as_role(by_arn(), None), failed(FailureKind::Denied, "AccessDenied"), &[ROLE_ARN, "allow elasticloadbalancing:DescribeTargetGroups to role"])]
    #[case::expired(by_arn(), failed(FailureKind::Denied, "ExpiredToken"), &["renew the credentials of targetgate's own role"])]
    #[case::unknown_key(by_arn(), failed(FailureKind::Denied, "InvalidClientTokenId"), &["replace the credentials"])]
    #[case::nobody(by_arn(), failed(FailureKind::NoCredentials, "NoCredentials"), &["IRSA", "elasticloadbalancing:DescribeTargetGroups"])]
    #[case::no_other(as_role(by_arn(), Some("shop")), failed(FailureKind::NoCredentials, "NoCredentials"), &["sts:AssumeRole", ROLE_ARN, "with the external id"])]
    #[case::throttled(by_arn(), failed(FailureKind::Unavailable, "Throttling"), &["try again in a few seconds", "quota"])]
    #[case::unreachable(by_arn(), failed(FailureKind::Unavailable, "Unreachable"), &["endpoint"])]
    #[case::no_region(by_name(), failed(FailureKind::Unavailable, "NoRegion"), &["AWS_REGION"])]
    fn a_message_says_what_to_do_about_that_very_error(
        #[case] query: GroupQuery,
        #[case] error: DescribeError,
        #[case] words: &[&str],
    ) {
        let message = of(&query, &error).message;
        for word in words {
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_message_holds_no_external_id_and_stays_short() {
        let mut query = as_role(by_name(), Some("secret-id"));
        query.selector = GroupSelector::Name("é".repeat(10_000));
        let errors = [
            DescribeError::NotFound,
            failed(FailureKind::NoCredentials, "NoCredentials"),
            failed(FailureKind::Denied, "AccessDenied"),
        ];
        for error in errors {
            let message = Failure::of(&query, None, &error).message;
            assert!(!message.contains("secret-id"), "{message}");
            assert!(message.len() < 2_000, "{message}");
        }
    }
}
