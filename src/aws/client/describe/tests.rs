use std::time::Duration;

use rstest::rstest;
use targetgate_core::elb::attributes::CrossZone;

use super::*;
use crate::aws::client::Timeouts;
use crate::aws::error::ElbErrorKind;
use crate::aws::fake::{Aws, Reply, arn, error_xml, wrapped};

const BALANCER: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/net/web/0123456789abcdef";

fn group() -> GroupKey {
    GroupKey {
        arn: arn(1).parse().unwrap(),
        role: None,
    }
}

/// The answer to an action, in the XML of the API.
fn answer(action: &str, inside: &str) -> Reply {
    Reply::Say(200, wrapped(action, inside))
}

fn attributes(action: &str, all: &[(&str, &str)]) -> Reply {
    let members = all
        .iter()
        .map(|(key, value)| format!("<member><Key>{key}</Key><Value>{value}</Value></member>"));
    let members: String = members.collect();
    answer(action, &format!("<Attributes>{members}</Attributes>"))
}

#[tokio::test]
async fn the_attributes_of_a_group_come_in_the_models_words() {
    let told = [
        ("stickiness.enabled", "false"),
        ("deregistration_delay.timeout_seconds", "120"),
        (
            "deregistration_delay.connection_termination.enabled",
            "true",
        ),
        ("load_balancing.cross_zone.enabled", "false"),
    ];
    let aws = Aws::saying([attributes("DescribeTargetGroupAttributes", &told)]);
    let read = aws.client().0.group_attributes(&group()).await.unwrap();
    let expected = GroupAttributes {
        deregistration_delay: Some(120),
        connection_termination: Some(true),
        cross_zone: Some(CrossZone::Off),
    };
    assert_eq!(read, expected);
    let asked = &aws.asked()[0];
    assert_eq!(asked.host, "elasticloadbalancing.eu-west-1.amazonaws.com");
    assert_eq!(asked.field("TargetGroupArn"), Some(arn(1).as_str()));
}

#[rstest]
#[case::alb("application", Some(true))]
#[case::nlb("network", None)]
#[case::of_a_later_kind("quantum", None)]
#[tokio::test]
async fn a_load_balancer_comes_with_its_zones(
    #[case] kind: &str,
    #[case] cross_zone: Option<bool>,
) {
    let zones = "<member><ZoneName>a</ZoneName></member>".repeat(3);
    let told = format!(
        "<LoadBalancers><member><Type>{kind}</Type><AvailabilityZones>{zones}</AvailabilityZones></member>\
         </LoadBalancers>"
    );
    let aws = Aws::saying([answer("DescribeLoadBalancers", &told)]);
    let read = aws.client().0.load_balancer(&group(), BALANCER).await;
    let expected = LoadBalancer {
        zones: Some(3),
        cross_zone,
    };
    assert_eq!(read.unwrap(), Some(expected));
    let asked = &aws.asked()[0];
    assert_eq!(asked.members("LoadBalancerArns"), [BALANCER]);
}

#[rstest]
#[case(&[("load_balancing.cross_zone.enabled", "true")], Some(true))]
#[case(&[("load_balancing.cross_zone.enabled", "false")], Some(false))]
#[case(&[], None)]
#[tokio::test]
async fn a_load_balancer_says_whether_it_crosses_zones(
    #[case] told: &[(&str, &str)],
    #[case] expected: Option<bool>,
) {
    let aws = Aws::saying([attributes("DescribeLoadBalancerAttributes", told)]);
    let (client, _) = aws.client();
    let read = client.load_balancer_crosses_zones(&group(), BALANCER).await;
    assert_eq!(read.unwrap(), expected);
    assert_eq!(aws.asked()[0].field("LoadBalancerArn"), Some(BALANCER));
}

/// Makes each call that only a command makes. Returns the errors.
async fn each_fails(client: &ElbClient) -> [ElbError; 3] {
    let group = group();
    [
        client.group_attributes(&group).await.unwrap_err(),
        client.load_balancer(&group, BALANCER).await.unwrap_err(),
        client
            .load_balancer_crosses_zones(&group, BALANCER)
            .await
            .unwrap_err(),
    ]
}

#[tokio::test]
async fn a_denial_names_the_action_and_the_policy_that_allows_it() {
    let aws = Aws::new(|_| error_xml(403, "AccessDenied", "not authorized"));
    for error in each_fails(&aws.client().0).await {
        assert_eq!(error.kind, ElbErrorKind::Denied);
        let action = error.action;
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("{action} for arn:aws:")),
            "{text}"
        );
        assert!(text.contains("deploy/iam/policy-doctor.json"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_in_time() {
    let aws = Aws::new(|_| Reply::Hang);
    let limit: Duration = Timeouts::default().target_groups;
    for error in each_fails(&aws.client().0).await {
        assert_eq!(error.kind, ElbErrorKind::Timeout);
        assert!(error.message.contains(&format!("{limit:?}")), "{error}");
    }
}
