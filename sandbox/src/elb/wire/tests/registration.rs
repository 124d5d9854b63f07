//! Tests of what RegisterTargets checks, through the real SDK over a socket.

use std::ops::RangeInclusive;

use aws_sdk_elasticloadbalancingv2::types::builders::TargetDescriptionBuilder;

use super::*;
use crate::elb::{Quotas, Subnet};

const VPC: &str = "vpc-0123456789abcdef0";

/// An account on a socket, and a client of it. Its VPC has a subnet of 10.0.0.0/24 in zone `a`.
async fn served() -> (Elb, Client) {
    let elb = simulated();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(elb.clone().serve(listener, std::future::pending()));
    let client = Client::from_conf(config().endpoint_url(endpoint).build());
    elb.set_subnets(VPC, vec![Subnet::new("10.0.0.0/24", "a").unwrap()]);
    (elb, client)
}

fn named(ip: &str, zone: Option<&str>) -> TargetDescription {
    described(ip)
        .set_availability_zone(zone.map(str::to_owned))
        .build()
}

fn described(ip: &str) -> TargetDescriptionBuilder {
    TargetDescription::builder().id(ip).port(80)
}

/// Ports of one address, as targets.
fn ports(ip: &str, ports: RangeInclusive<i32>) -> Vec<TargetDescription> {
    ports.map(|port| target(ip, port)).collect()
}

/// Registers targets. Returns ELB's code and words if it refuses them.
async fn register(
    client: &Client,
    arn: &str,
    targets: Vec<TargetDescription>,
) -> Result<(), (String, String)> {
    let call = client.register_targets().target_group_arn(arn);
    let answer = call.set_targets(Some(targets)).send().await;
    answer.map(drop).map_err(|error| {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        (text(error.code()), text(error.message()))
    })
}

async fn refusal(client: &Client, arn: &str, targets: Vec<TargetDescription>) -> String {
    let (code, message) = register(client, arn, targets).await.unwrap_err();
    format!("{code}: {message}")
}

/// The zone of each target that DescribeTargetHealth tells.
async fn zones(client: &Client, arn: &str) -> Vec<Option<String>> {
    let call = client.describe_target_health().target_group_arn(arn);
    let answer = call.send().await.unwrap();
    let targets = answer.target_health_descriptions().iter();
    targets
        .map(|target| {
            target
                .target()
                .unwrap()
                .availability_zone()
                .map(str::to_owned)
        })
        .collect()
}

/// The state of one target that is asked for by name.
async fn state_of(client: &Client, arn: &str, target: TargetDescription) -> String {
    let call = client.describe_target_health().target_group_arn(arn);
    let answer = call.targets(target).send().await.unwrap();
    let health = answer.target_health_descriptions()[0].target_health();
    health.unwrap().state().unwrap().to_string()
}

#[rstest]
#[case::alb(
    TargetGroupSpec::http("web"),
    "You must specify a valid Availability Zone or select 'all' for all enabled Availability zones, since the IP address '10.0.1.1' is outside the VPC"
)]
#[case::nlb(
    TargetGroupSpec::tcp("web"),
    "The Availability Zone is required for IP address '10.0.1.1' because it is not in the VPC"
)]
#[tokio::test]
async fn an_address_outside_the_subnets_needs_a_zone(
    #[case] spec: TargetGroupSpec,
    #[case] words: &str,
) {
    let (elb, client) = served().await;
    let arn = elb.create_target_group(spec);
    let refused = refusal(&client, &arn, vec![named("10.0.1.1", None)]).await;
    assert_eq!(refused, format!("ValidationError: {words}"));
    let all = vec![named("10.0.1.1", Some("all"))];
    register(&client, &arn, all).await.unwrap();
    assert_eq!(zones(&client, &arn).await, [Some("all".to_owned())]);
}

#[tokio::test]
async fn an_address_inside_a_subnet_has_its_zone_and_takes_no_other() {
    let (elb, client) = served().await;
    let arn = elb.create_target_group(TargetGroupSpec::http("web"));
    let refused = refusal(&client, &arn, vec![named("10.0.0.1", Some("all"))]).await;
    let words = "ValidationError: The IP address '10.0.0.1' is within the VPC, and cannot have its \
                 Availability Zone overridden to 'all' from 'a'";
    assert_eq!(refused, words);
    register(&client, &arn, vec![named("10.0.0.1", None)])
        .await
        .unwrap();
    assert_eq!(zones(&client, &arn).await, [Some("a".to_owned())]);
}

#[tokio::test]
async fn an_alb_without_cross_zone_balancing_wants_the_zone_of_an_address_outside() {
    let (elb, client) = served().await;
    let spec = TargetGroupSpec {
        cross_zone: Some(false),
        ..TargetGroupSpec::http("web")
    };
    let arn = elb.create_target_group(spec);
    for zone in [None, Some("all")] {
        let refused = refusal(&client, &arn, vec![named("10.0.1.1", zone)]).await;
        let words = "ValidationError: When cross-zone load balancing is disabled on this target \
                     group, you must specify an Availability Zone for IP target '10.0.1.1' since \
                     it is outside of the VPC";
        assert_eq!(refused, words);
    }
    let own = vec![named("10.0.1.1", Some("b")), named("10.0.0.1", None)];
    register(&client, &arn, own).await.unwrap();
}

#[tokio::test]
async fn a_target_named_with_another_zone_than_its_own_is_not_found() {
    let (elb, client) = served().await;
    let arn = elb.create_target_group(TargetGroupSpec::http("web"));
    let all = named("10.0.1.1", Some("all"));
    register(&client, &arn, vec![all.clone()]).await.unwrap();
    let (elsewhere, anywhere) = (named("10.0.1.1", Some("a")), named("10.0.1.1", None));
    let mut reasons = Vec::new();
    for target in [all, anywhere, elsewhere] {
        let call = client.describe_target_health().target_group_arn(&arn);
        let answer = call.targets(target).send().await.unwrap();
        let health = answer.target_health_descriptions()[0].target_health();
        reasons.push(health.unwrap().reason().unwrap().to_string());
    }
    let expected = ["Target.NotInUse", "Target.NotInUse", "Target.NotRegistered"];
    assert_eq!(reasons, expected);
}

#[tokio::test]
async fn a_zone_that_is_not_enabled_leaves_the_target_unused_and_all_does_not() {
    let (elb, client) = served().await;
    let arn = elb.create_target_group(TargetGroupSpec::http("web"));
    let balancer = elb.create_load_balancer("lb", LoadBalancerKind::Application, &["b"]);
    elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
    let targets = vec![named("10.0.0.1", None), named("10.0.1.1", Some("all"))];
    register(&client, &arn, targets).await.unwrap();
    let inside = state_of(&client, &arn, named("10.0.0.1", None)).await;
    let outside = state_of(&client, &arn, named("10.0.1.1", None)).await;
    assert_eq!((&*inside, &*outside), ("unused", "initial"));
}

#[rstest]
#[case::v6_in_v4(
    "ipv4",
    "fd00::1",
    "The IP address 'fd00::1' is not a valid IPv4 address"
)]
#[case::v4_in_v6(
    "ipv6",
    "10.0.0.1",
    "The IP address '10.0.0.1' is not a valid IPv6 address"
)]
#[tokio::test]
async fn an_address_of_the_other_family_is_refused(
    #[case] family: &str,
    #[case] ip: &str,
    #[case] words: &str,
) {
    let (elb, client) = served().await;
    let spec = TargetGroupSpec {
        ip_address_type: Some(family.to_owned()),
        ..TargetGroupSpec::http("web")
    };
    let arn = elb.create_target_group(spec);
    let refused = refusal(&client, &arn, vec![target(ip, 80)]).await;
    assert_eq!(refused, format!("ValidationError: {words}"));
}

#[tokio::test]
async fn one_invalid_target_keeps_the_whole_call_out() {
    let (elb, client) = served().await;
    let arn = elb.create_target_group(TargetGroupSpec::http("web"));
    elb.refuse(ip("10.0.0.2"));
    let call = || {
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
            .map(|ip| target(ip, 80))
            .to_vec()
    };
    let refused = refusal(&client, &arn, call()).await;
    assert!(refused.starts_with("InvalidTarget: "), "{refused}");
    assert_eq!(health(&client, &arn).await, [""; 0]);
    elb.accept(ip("10.0.0.2"));
    register(&client, &arn, call()).await.unwrap();
    assert_eq!(health(&client, &arn).await.len(), 3);
}

#[tokio::test]
async fn a_full_group_takes_no_more_until_one_leaves() {
    let (elb, client) = served().await;
    let arn = attached(&elb, "web");
    elb.set_quotas(Quotas {
        targets_per_group: 3,
        ..Quotas::default()
    });
    register(&client, &arn, ports("10.0.0.1", 1..=3))
        .await
        .unwrap();
    register(&client, &arn, ports("10.0.0.1", 1..=3))
        .await
        .unwrap();
    let refused = refusal(&client, &arn, ports("10.0.0.1", 4..=4)).await;
    let words = format!(
        "TooManyTargets: The maximum number of targets per target group '3' has been reached on \
         target group '{arn}'"
    );
    assert_eq!(refused, words);
    let leave = client.deregister_targets().target_group_arn(&arn);
    leave.targets(target("10.0.0.1", 1)).send().await.unwrap();
    register(&client, &arn, ports("10.0.0.1", 4..=4))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_groups_of_a_load_balancer_share_its_quota() {
    let (elb, client) = served().await;
    let [one, two, elsewhere] =
        ["one", "two", "three"].map(|name| elb.create_target_group(TargetGroupSpec::http(name)));
    let balancer = elb.create_load_balancer("lb", LoadBalancerKind::Application, &[]);
    elb.add_listener(&balancer, &[(&one, 1), (&two, 1)])
        .unwrap();
    elb.set_quotas(Quotas {
        targets_per_load_balancer: 3,
        ..Quotas::default()
    });
    register(&client, &one, ports("10.0.0.1", 1..=2))
        .await
        .unwrap();
    let refused = refusal(&client, &two, ports("10.0.0.1", 1..=2)).await;
    let words = format!(
        "TooManyTargets: The maximum number of targets per load balancer '3' has been reached on \
         load balancer '{balancer}'"
    );
    assert_eq!(refused, words);
    register(&client, &two, ports("10.0.0.1", 1..=1))
        .await
        .unwrap();
    register(&client, &elsewhere, ports("10.0.0.1", 1..=4))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_address_is_registered_so_often_in_the_groups_of_a_load_balancer_and_no_more() {
    let (elb, client) = served().await;
    let groups =
        ["one", "two", "three"].map(|name| elb.create_target_group(TargetGroupSpec::http(name)));
    let [one, two, elsewhere] = &groups;
    let balancer = elb.create_load_balancer("lb", LoadBalancerKind::Application, &[]);
    elb.add_listener(&balancer, &[(one, 1), (two, 1)]).unwrap();
    elb.set_quotas(Quotas {
        registrations_per_target_id: 3,
        ..Quotas::default()
    });
    register(&client, one, ports("10.0.0.1", 1..=2))
        .await
        .unwrap();
    let refused = refusal(&client, two, ports("10.0.0.1", 1..=2)).await;
    assert!(
        refused.starts_with("TooManyRegistrationsForTargetId: "),
        "{refused}"
    );
    register(&client, two, ports("10.0.0.1", 1..=1))
        .await
        .unwrap();
    register(&client, two, ports("10.0.0.2", 1..=3))
        .await
        .unwrap();
    register(&client, elsewhere, ports("10.0.0.1", 1..=3))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_call_of_too_many_targets_is_refused() {
    let (elb, client) = served().await;
    let arn = elb.create_target_group(TargetGroupSpec::http("web"));
    elb.set_quotas(Quotas {
        targets_per_call: 200,
        registrations_per_target_id: 1_000,
        ..Quotas::default()
    });
    let refused = refusal(&client, &arn, ports("10.0.0.1", 1..=201)).await;
    assert!(refused.starts_with("ValidationError: "), "{refused}");
    register(&client, &arn, ports("10.0.0.1", 1..=200))
        .await
        .unwrap();
    let leave = client.deregister_targets().target_group_arn(&arn);
    let leave = leave.set_targets(Some(ports("10.0.0.1", 1..=201)));
    let error = leave.send().await.unwrap_err();
    assert_eq!(code(&error), Some("ValidationError"));
    assert_eq!(health(&client, &arn).await.len(), 200);
}

#[tokio::test]
async fn an_absent_group_takes_no_target() {
    let (elb, client) = served().await;
    let arn = elb.create_target_group(TargetGroupSpec::http("web"));
    elb.remove_target_group(&arn).unwrap();
    let refused = refusal(&client, &arn, ports("10.0.0.1", 1..=1)).await;
    let words = format!("TargetGroupNotFound: Target groups '{arn}' not found");
    assert_eq!(refused, words);
}

#[tokio::test]
async fn registration_and_deregistration_share_a_bucket_apart_from_describe() {
    let (elb, client) = served().await;
    let arn = elb.create_target_group(TargetGroupSpec::http("web"));
    elb.faults().throttle_registration(1e-6, 2);
    let one = || ports("10.0.0.1", 1..=1);
    register(&client, &arn, one()).await.unwrap();
    let leave = client.deregister_targets().target_group_arn(&arn);
    leave.set_targets(Some(one())).send().await.unwrap();
    let refused = refusal(&client, &arn, one()).await;
    assert_eq!(refused, "Throttling: Rate exceeded");
    // The bucket of the others is full, and calls of registration take nothing from it.
    elb.faults().throttle(1e-6, 1);
    let refused = refusal(&client, &arn, one()).await;
    assert_eq!(refused, "Throttling: Rate exceeded");
    health(&client, &arn).await;
    let describe = client.describe_target_health().target_group_arn(&arn);
    assert_eq!(
        code(&describe.send().await.unwrap_err()),
        Some("Throttling")
    );
    elb.faults().unthrottle();
    register(&client, &arn, one()).await.unwrap();
}

#[tokio::test]
async fn a_registration_is_shown_late_and_counts_at_once() {
    let (elb, client) = served().await;
    let arn = attached(&elb, "web");
    elb.faults()
        .show_registrations_after(Duration::from_secs(3_600));
    register(&client, &arn, ports("10.0.0.1", 1..=1))
        .await
        .unwrap();
    assert_eq!(health(&client, &arn).await, [""; 0]);
    assert_eq!(
        state_of(&client, &arn, target("10.0.0.1", 1)).await,
        "unused"
    );
    assert!(elb.health(&arn, ip("10.0.0.1"), 1).is_some());
    elb.faults().show_registrations_after(Duration::ZERO);
    let shown = ["10.0.0.1:1 initial Elb.RegistrationInProgress"];
    assert_eq!(health(&client, &arn).await, shown);
}

#[tokio::test]
async fn a_draining_target_registered_anew_is_shown_draining_for_the_lag() {
    let (elb, client) = served().await;
    let arn = attached(&elb, "web");
    let one = || ports("10.0.0.1", 1..=1);
    register(&client, &arn, one()).await.unwrap();
    elb.deregister(&arn, ip("10.0.0.1"), 1).unwrap();
    elb.faults()
        .show_registrations_after(Duration::from_secs(3_600));
    register(&client, &arn, one()).await.unwrap();
    let draining = ["10.0.0.1:1 draining Target.DeregistrationInProgress"];
    assert_eq!(health(&client, &arn).await, draining);
}
