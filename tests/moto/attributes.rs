//! What only `targetgate doctor` reads, over sockets, against moto and against the sandbox's ELB: the attributes of
//! groups, and load balancers with their zones.

use rstest::rstest;
use targetgate::aws::error::ElbErrorKind;
use targetgate_core::elb::attributes::{CrossZone, GroupAttributes, LoadBalancer};
use targetgate_core::names::GroupKey;
use targetgate_sandbox::elb::LoadBalancerKind;

use crate::account::{Account, open};
use crate::wire::{ACCOUNT, Aws, Double, shape};

/// What moto tells of a load balancer and the sandbox does not model.
const NOT_MODELLED: [&str; 6] = [
    "/DNSName",
    "/CanonicalHostedZoneId",
    "/CreatedTime",
    "/LoadBalancers/member/VpcId",
    "/SubnetId",
    "/SecurityGroups",
];

/// A load balancer in two zones.
async fn balancer(aws: &Aws, name: &str, kind: LoadBalancerKind) -> String {
    let word = match kind {
        LoadBalancerKind::Application => "application",
        LoadBalancerKind::Network => "network",
    };
    match &aws.elb {
        Some(elb) => elb.create_load_balancer(name, kind, &["eu-west-1a", "eu-west-1b"]),
        None => {
            let moto = open().await;
            let account = Account { moto, id: ACCOUNT };
            account.balancer(name, word, &aws.vpc_id).await
        }
    }
}

/// Lets the load balancer forward to the group.
async fn forward(aws: &Aws, balancer: &str, group: &GroupKey) {
    match &aws.elb {
        Some(elb) => elb
            .add_listener(balancer, &[(group.arn.as_str(), 1)])
            .unwrap(),
        None => {
            let moto = open().await;
            let account = Account { moto, id: ACCOUNT };
            account.listener(balancer, group.arn.as_str()).await;
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_new_group_has_the_attributes_that_aws_documents(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let group = aws.ipv4_group("attributes").await;
    let expected = GroupAttributes {
        deregistration_delay: Some(300),
        connection_termination: None,
        cross_zone: Some(CrossZone::Inherited),
    };
    let read = aws.client.group_attributes(&group).await;
    assert_eq!(read.unwrap(), expected);
}

#[rstest]
#[case::alb(LoadBalancerKind::Application, Some(true))]
#[case::nlb(LoadBalancerKind::Network, None)]
#[tokio::test]
async fn a_load_balancer_comes_with_its_zones(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
    #[case] kind: LoadBalancerKind,
    #[case] cross_zone: Option<bool>,
) {
    let aws = Aws::new(double).await;
    let name = format!("zones-{kind:?}");
    let group = aws.ipv4_group(&name).await;
    let arn = balancer(&aws, &name, kind).await;
    let expected = LoadBalancer {
        zones: Some(2),
        cross_zone,
    };
    let read = aws.client.load_balancer(&group, &arn).await;
    assert_eq!(read.unwrap(), Some(expected));
}

#[rstest]
#[tokio::test]
async fn a_group_names_the_load_balancer_that_uses_it(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let group = aws.ipv4_group("used").await;
    let arn = balancer(&aws, "used", LoadBalancerKind::Application).await;
    forward(&aws, &arn, &group).await;
    let described = aws.client.described_group(&group).await.unwrap().unwrap();
    assert_eq!(described.load_balancers, [arn.as_str()]);
}

#[rstest]
#[tokio::test]
async fn an_nlb_does_not_cross_zones_by_itself(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let group = aws.ipv4_group("crossing").await;
    let arn = balancer(&aws, "crossing", LoadBalancerKind::Network).await;
    let read = aws.client.load_balancer_crosses_zones(&group, &arn).await;
    assert_eq!(read.unwrap(), Some(false));
}

#[rstest]
#[tokio::test]
async fn what_is_absent_is_not_found(#[values(Double::Moto, Double::Sandbox)] double: Double) {
    let aws = Aws::new(double).await;
    let group = aws.ipv4_group("no-attributes").await;
    aws.delete(&group).await;
    let error = aws.client.group_attributes(&group).await.unwrap_err();
    assert_eq!(error.kind, ElbErrorKind::GroupNotFound);
    let none = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/none/0";
    let errors = [
        aws.client.load_balancer(&group, none).await.unwrap_err(),
        aws.client
            .load_balancer_crosses_zones(&group, none)
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code(), "LoadBalancerNotFound");
    }
}

#[rstest]
#[case::attributes("DescribeTargetGroupAttributes", "TargetGroupArn", "GROUP")]
#[case::attributes_of_absent("DescribeTargetGroupAttributes", "TargetGroupArn", "GONE")]
#[case::balancers("DescribeLoadBalancers", "LoadBalancerArns.member.1", "BALANCER")]
#[case::absent_balancer("DescribeLoadBalancers", "LoadBalancerArns.member.1", "NONE")]
#[case::of_balancer("DescribeLoadBalancerAttributes", "LoadBalancerArn", "BALANCER")]
#[case::of_absent_balancer("DescribeLoadBalancerAttributes", "LoadBalancerArn", "NONE")]
#[tokio::test]
async fn the_sandbox_answers_in_motos_shape(
    #[case] action: &'static str,
    #[case] parameter: &'static str,
    #[case] value: &str,
) {
    let name = format!(
        "{}-{}",
        action.replace("Describe", ""),
        value.to_lowercase()
    );
    let name = &name[..name.len().min(30)];
    let mut shapes = Vec::new();
    for double in [Double::Moto, Double::Sandbox] {
        let aws = Aws::new(double).await;
        let group = aws.ipv4_group(name).await;
        let balancer = balancer(&aws, name, LoadBalancerKind::Application).await;
        let value = match value {
            "GROUP" => group.arn.to_string(),
            "GONE" => {
                aws.delete(&group).await;
                group.arn.to_string()
            }
            "BALANCER" => balancer,
            _ => {
                "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/none/0".into()
            }
        };
        let call = [("Action", action.to_owned()), (parameter, value)];
        let mut shape = shape(aws.address, call.into_iter()).await;
        let is_modelled = |path: &String| !NOT_MODELLED.iter().any(|end| path.ends_with(end));
        shape.elements.retain(is_modelled);
        shapes.push(shape);
    }
    assert_eq!(shapes[0], shapes[1]);
}
