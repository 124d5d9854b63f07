//! Tests of the attributes of groups, and of load balancers with their zones.

use super::*;

async fn of_group(client: &Client, arn: &str) -> Vec<(String, String)> {
    let answer = client.describe_target_group_attributes();
    let answer = answer.target_group_arn(arn).send().await.unwrap();
    let attributes = answer.attributes().iter();
    let told = attributes.map(|told| {
        let (key, value) = (told.key().unwrap(), told.value().unwrap());
        (key.to_owned(), value.to_owned())
    });
    told.collect()
}

async fn of_balancer(client: &Client, arn: &str) -> String {
    let answer = client.describe_load_balancer_attributes();
    let answer = answer.load_balancer_arn(arn).send().await.unwrap();
    let [told] = answer.attributes() else {
        panic!("{answer:?}");
    };
    assert_eq!(told.key(), Some("load_balancing.cross_zone.enabled"));
    told.value().unwrap().to_owned()
}

#[rstest]
#[case::alb(TargetGroupSpec::http("web"), "use_load_balancer_configuration", None)]
#[case::nlb(
    TargetGroupSpec::tcp("web"),
    "use_load_balancer_configuration",
    Some("false")
)]
#[case::set(
    TargetGroupSpec { cross_zone: Some(false), connection_termination: true, ..TargetGroupSpec::tcp("web") },
    "false",
    Some("true")
)]
#[tokio::test(start_paused = true)]
async fn a_group_tells_how_its_targets_end(
    #[case] spec: TargetGroupSpec,
    #[case] cross_zone: &str,
    #[case] termination: Option<&str>,
) {
    let elb = simulated();
    let arn = elb.create_target_group(spec);
    let mut expected = vec![
        ("deregistration_delay.timeout_seconds", "300"),
        ("load_balancing.cross_zone.enabled", cross_zone),
    ];
    expected.extend(
        termination.map(|told| ("deregistration_delay.connection_termination.enabled", told)),
    );
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let expected: Vec<_> = expected.into_iter().map(owned).collect();
    assert_eq!(of_group(&client(&elb), &arn).await, expected);
}

#[rstest]
#[case::alb(LoadBalancerKind::Application, "application", "true")]
#[case::nlb(LoadBalancerKind::Network, "network", "false")]
#[tokio::test(start_paused = true)]
async fn a_load_balancer_tells_its_zones_and_whether_it_crosses_them(
    #[case] kind: LoadBalancerKind,
    #[case] word: &str,
    #[case] crosses: &str,
) {
    let elb = simulated();
    let (some, every) = (
        elb.create_load_balancer("some", kind, &["eu-west-1c", "eu-west-1a"]),
        elb.create_load_balancer("every", kind, &[]),
    );
    let client = client(&elb);
    let asked = client.describe_load_balancers();
    let asked = asked.load_balancer_arns(&some).load_balancer_arns(&every);
    let answer = asked.send().await.unwrap();
    let told = answer.load_balancers().iter().map(|told| {
        let zones = told.availability_zones().iter();
        let zones: Vec<_> = zones.map(|zone| zone.zone_name().unwrap()).collect();
        (
            told.load_balancer_name().unwrap(),
            told.r#type().unwrap().as_str(),
            zones.join(" "),
        )
    });
    let expected = [
        ("some", word, "eu-west-1a eu-west-1c".to_owned()),
        ("every", word, "eu-west-1a eu-west-1b eu-west-1c".to_owned()),
    ];
    assert_eq!(Vec::from_iter(told), expected);
    assert_eq!(of_balancer(&client, &some).await, crosses);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_not_found() {
    let client = client(&simulated());
    let none = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/a/0";
    let asked = client.describe_load_balancers().load_balancer_arns(none);
    let error = asked.send().await.unwrap_err();
    assert_eq!(code(&error), Some("LoadBalancerNotFound"));
    let asked = client.describe_load_balancer_attributes();
    let error = asked.load_balancer_arn(none).send().await.unwrap_err();
    assert_eq!(code(&error), Some("LoadBalancerNotFound"));
}
