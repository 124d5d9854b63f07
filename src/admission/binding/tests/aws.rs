//! What becomes of a binding where AWS fails, hangs, or refuses us.

use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::elb::query::{DescribeError, FailureKind};
use tokio::time::Instant;

use super::{ARN, Aws, PATIENCE, Setting, complete, with};

fn throttled() -> Aws {
    failing(FailureKind::Unavailable, "Throttling")
}

fn failing(kind: FailureKind, code: &str) -> Aws {
    Aws::Fails(DescribeError::Failed {
        kind,
        code: code.to_owned(),
        message: "what AWS says".to_owned(),
    })
}

fn denied_role() -> Aws {
    failing(FailureKind::Denied, "AccessDenied")
}

#[rstest]
#[case::throttled(throttled(), "AwsUnavailable", "Throttling")]
#[case::slow(Aws::Fails(DescribeError::TimedOut), "AwsUnavailable", "Timeout")]
#[case::hanging(Aws::Hangs, "AwsUnavailable", "Timeout")]
#[case::denied(denied_role(), "AwsDenied", "AccessDenied")]
#[case::without_credentials(
    failing(FailureKind::NoCredentials, "NoCredentials"),
    "AwsDenied",
    "NoCredentials"
)]
#[tokio::test(start_paused = true)]
async fn what_only_aws_knows_is_denied_when_it_does_not_tell(
    #[case] aws: Aws,
    #[case] reason: &str,
    #[case] code: &str,
) {
    let setting = Setting::new(aws);
    let start = Instant::now();
    let spec = with(json!({ "vpcID": null, "targetType": null }));
    let answer = setting.mutate("CREATE", &spec).await;
    assert!(start.elapsed() <= PATIENCE);
    assert_eq!(answer.reason.as_str(), reason);
    let message = answer.denied.unwrap();
    let parts = [
        "DescribeTargetGroups",
        ARN,
        "eu-west-1",
        code,
        "or set the absent fields, which only AWS knows: spec.targetType, spec.vpcID",
    ];
    for part in parts {
        assert!(message.contains(part), "{message}");
    }
}

#[rstest]
#[case::not_found(DescribeError::NotFound, "TargetGroupNotFound")]
#[case::of_two_groups(DescribeError::Ambiguous { groups: 2 }, "2 target groups have this name")]
#[tokio::test]
async fn what_aws_refuses_is_denied_with_the_region_and_no_advice_that_cannot_help(
    #[case] error: DescribeError,
    #[case] words: &str,
) {
    let setting = Setting::new(Aws::Fails(error));
    let bare = json!({ "targetGroupName": "web", "serviceRef": { "name": "web", "port": 80 } });
    let answer = setting.mutate("CREATE", &bare).await;
    assert_eq!(answer.reason.as_str(), "Incomplete");
    let message = answer.denied.unwrap();
    assert!(
        message.contains(words) && message.contains("in eu-west-1"),
        "{message}"
    );
    assert!(
        !message.contains("absent fields") && !message.contains("try again"),
        "{message}"
    );
}

#[rstest]
#[case(throttled(), "AwsUnavailable", "Throttling")]
#[case(Aws::Hangs, "AwsUnavailable", "Timeout")]
#[case(
    denied_role(),
    "AwsDenied",
    "allow elasticloadbalancing:DescribeTargetGroups to targetgate's own role"
)]
#[case(
    failing(FailureKind::NoCredentials, "NoCredentials"),
    "AwsDenied",
    "NoCredentials"
)]
#[tokio::test(start_paused = true)]
async fn a_complete_binding_is_allowed_unchecked_when_aws_says_nothing_about_it(
    #[case] aws: Aws,
    #[case] reason: &str,
    #[case] code: &str,
) {
    let setting = Setting::new(aws);
    let start = Instant::now();
    let answer = setting.validate("CREATE", Some(&complete()), None).await;
    assert!(start.elapsed() <= PATIENCE);
    assert_eq!((answer.reason.as_str(), answer.denied), (reason, None));
    let [warning] = &answer.warnings[..] else {
        panic!("{:?}", answer.warnings);
    };
    for part in ["not checked against AWS", "DescribeTargetGroups", ARN, code] {
        assert!(warning.contains(part), "{warning}");
    }
}

#[tokio::test]
async fn what_is_wrong_without_aws_is_denied_when_aws_does_not_answer() {
    let setting = Setting::new(throttled());
    let spec = with(json!({ "nodeSelector": {} }));
    let answer = setting.validate("CREATE", Some(&spec), None).await;
    assert_eq!(answer.reason.as_str(), "Invalid");
    assert_eq!(answer.warnings.len(), 1);
}

#[rstest]
#[case(Aws::Fails(DescribeError::NotFound), "TargetGroupNotFound")]
#[case(failing(FailureKind::Invalid, "ValidationError"), "ValidationError")]
#[tokio::test]
async fn a_group_that_aws_refuses_to_describe_is_refused(#[case] aws: Aws, #[case] code: &str) {
    let setting = Setting::new(aws);
    let answer = setting.validate("CREATE", Some(&complete()), None).await;
    assert_eq!(answer.reason.as_str(), "Invalid");
    let message = answer.denied.unwrap();
    assert!(
        message.starts_with("spec.targetGroupARN: Describe"),
        "{message}"
    );
    assert!(
        message.contains(code) && message.contains("in eu-west-1"),
        "{message}"
    );
    assert_eq!(answer.warnings, Vec::<String>::new());
}

#[rstest]
#[case::the_groups_own("vpc-01234567", false)]
#[case::another("vpc-fedcba98", true)]
#[tokio::test]
async fn a_vpc_is_compared_with_the_groups_where_our_own_is_not_known(
    #[case] vpc_id: &str,
    #[case] denied: bool,
) {
    let mut setting = Setting::new(Aws::Answers);
    setting.reviewer.vpc_id = None;
    let (old, new) = (
        with(json!({ "vpcID": null })),
        with(json!({ "vpcID": vpc_id })),
    );
    let answer = setting.validate("UPDATE", Some(&new), Some(&old)).await;
    assert_eq!(answer.denied.is_some(), denied, "{:?}", answer.denied);
    assert_eq!(setting.asked().len(), 1);
}

#[rstest]
#[case::not_asked(json!({ "multiClusterTargetGroup": true }), 0)]
#[case::of_the_protocol(json!({ "targetGroupProtocol": "HTTP" }), 1)]
#[tokio::test]
async fn an_update_asks_aws_only_about_the_protocol(#[case] change: Value, #[case] calls: usize) {
    let setting = Setting::new(Aws::Answers);
    let old = with(json!({ "targetGroupProtocol": null }));
    let mut new = old.clone();
    json_patch::merge(&mut new, &change);
    let answer = setting.validate("UPDATE", Some(&new), Some(&old)).await;
    assert_eq!((answer.reason.as_str(), answer.denied), ("Valid", None));
    assert_eq!(setting.asked().len(), calls);
}
