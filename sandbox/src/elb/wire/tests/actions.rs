//! Tests of the actions.

use aws_sdk_elasticloadbalancingv2::types::Matcher;

use super::*;

#[tokio::test(start_paused = true)]
async fn the_sdk_registers_a_target_and_sees_it_become_healthy_and_drain() {
    let elb = simulated();
    let _checks = tokio::spawn(elb.run());
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    let register = client.register_targets().target_group_arn(&arn);
    let register = register.targets(target("10.0.0.1", 8080));
    register.clone().send().await.unwrap();
    assert_eq!(
        health(&client, &arn).await,
        ["10.0.0.1:8080 initial Elb.RegistrationInProgress"]
    );
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(
        health(&client, &arn).await,
        ["10.0.0.1:8080 initial Elb.InitialHealthChecking"]
    );
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(health(&client, &arn).await, ["10.0.0.1:8080 healthy -"]);

    let deregister = client.deregister_targets().target_group_arn(&arn);
    let deregister = deregister.targets(target("10.0.0.1", 8080));
    deregister.send().await.unwrap();
    assert_eq!(
        health(&client, &arn).await,
        ["10.0.0.1:8080 draining Target.DeregistrationInProgress"]
    );
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(health(&client, &arn).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_target_asked_for_and_not_registered_is_unused() {
    let elb = simulated();
    let arn = attached(&elb, "web");
    elb.register(&arn, ip("10.0.0.1"), 80).unwrap();
    let answer = client(&elb)
        .describe_target_health()
        .target_group_arn(&arn)
        .targets(target("10.0.0.2", 80))
        .send()
        .await
        .unwrap();
    let [described] = answer.target_health_descriptions() else {
        panic!("one target was asked for: {answer:?}");
    };
    let health = described.target_health().unwrap();
    assert_eq!(health.state().unwrap().as_str(), "unused");
    assert_eq!(health.reason().unwrap().as_str(), "Target.NotRegistered");
    let description = "Target is not registered to the target group";
    assert_eq!(health.description(), Some(description));
}

#[tokio::test(start_paused = true)]
async fn groups_are_described_by_arn_by_name_and_by_load_balancer() {
    let elb = simulated();
    let arn = elb.create_target_group(TargetGroupSpec::http("web"));
    elb.create_target_group(TargetGroupSpec::tcp("other"));
    let balancer = elb.create_load_balancer("lb", LoadBalancerKind::Application, &[]);
    elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
    let describe = client(&elb).describe_target_groups();
    for asked in [
        describe.clone().target_group_arns(&arn),
        describe.clone().names("web"),
        describe.clone().load_balancer_arn(&balancer),
    ] {
        let answer = asked.send().await.unwrap();
        let [group] = answer.target_groups() else {
            panic!("one group was asked for: {answer:?}");
        };
        assert_eq!(group.target_group_arn(), Some(arn.as_str()));
        assert_eq!(group.target_group_name(), Some("web"));
        assert_eq!(group.target_type(), Some(&TargetTypeEnum::Ip));
        assert_eq!(group.load_balancer_arns(), [balancer.as_str()]);
        assert_eq!(group.health_check_interval_seconds(), Some(15));
        assert_eq!(group.healthy_threshold_count(), Some(2));
        assert_eq!(group.matcher().unwrap().http_code(), Some("200"));
    }
    assert_eq!(describe.send().await.unwrap().target_groups().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn all_groups_come_in_pages() {
    let elb = simulated();
    let mut created: Vec<String> = (0..5)
        .map(|index| elb.create_target_group(TargetGroupSpec::http(format!("web-{index}"))))
        .collect();
    created.sort();
    let mut pages = Vec::new();
    let mut marker = None;
    loop {
        let page = client(&elb).describe_target_groups().page_size(2);
        let page = page.set_marker(marker).send().await.unwrap();
        let arns = page.target_groups().iter();
        pages.push(
            arns.map(|g| g.target_group_arn().unwrap().to_owned())
                .collect::<Vec<_>>(),
        );
        marker = page.next_marker().map(str::to_owned);
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(pages.concat(), created);
}

#[rstest]
#[case::no_arn("web", "ValidationError")]
#[case::another_account(
    "arn:aws:elasticloadbalancing:eu-west-1:999999999999:targetgroup/web/0123456789abcdef",
    "ValidationError"
)]
#[case::another_region(
    "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123456789abcdef",
    "ValidationError"
)]
#[case::a_load_balancer(
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/0123456789abcdef",
    "ValidationError"
)]
#[case::gone(
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef",
    "TargetGroupNotFound"
)]
#[tokio::test(start_paused = true)]
async fn an_arn_of_no_group_is_an_error(#[case] arn: &str, #[case] expected: &str) {
    let client = client(&simulated());
    let describe = client.describe_target_health().target_group_arn(arn);
    let error = describe.send().await.unwrap_err();
    assert_eq!(code(&error), Some(expected));
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 400);
    let describe = client.describe_target_groups().target_group_arns(arn);
    let error = describe.send().await.unwrap_err();
    assert_eq!(code(&error), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn one_absent_group_fails_the_whole_describe() {
    let elb = simulated();
    attached(&elb, "web");
    let describe = client(&elb)
        .describe_target_groups()
        .names("web")
        .names("gone");
    let error = describe.send().await.unwrap_err();
    assert_eq!(code(&error), Some("TargetGroupNotFound"));
}

#[tokio::test(start_paused = true)]
async fn twenty_groups_can_be_named_in_a_call_and_not_one_more() {
    let elb = simulated();
    let name = |index: usize| format!("web-{index}");
    (0..21).for_each(|index| drop(elb.create_target_group(TargetGroupSpec::http(name(index)))));
    let describe = |count| {
        let names = Some((0..count).map(name).collect());
        client(&elb)
            .describe_target_groups()
            .set_names(names)
            .send()
    };
    assert_eq!(describe(20).await.unwrap().target_groups().len(), 20);
    assert_eq!(
        code(&describe(21).await.unwrap_err()),
        Some("ValidationError")
    );
}

#[rstest]
#[case::ipv6_in_an_ipv4_group("fd00::1", Some(80), "ValidationError")]
#[case::an_instance("i-0123456789abcdef0", Some(80), "ValidationError")]
#[case::port_zero("10.0.0.1", Some(0), "ValidationError")]
#[case::a_port_too_high("10.0.0.1", Some(65_536), "ValidationError")]
#[tokio::test(start_paused = true)]
async fn a_bad_target_is_refused(
    #[case] id: &str,
    #[case] port: Option<i32>,
    #[case] expected: &str,
) {
    let elb = simulated();
    let arn = attached(&elb, "web");
    let bad = TargetDescription::builder().id(id).set_port(port).build();
    let register = client(&elb).register_targets().target_group_arn(&arn);
    let register = register.targets(target("10.0.0.9", 80)).targets(bad);
    assert_eq!(code(&register.send().await.unwrap_err()), Some(expected));
    assert_eq!(health(&client(&elb), &arn).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_target_without_a_port_has_the_port_of_its_group() {
    let elb = simulated();
    let arn = attached(&elb, "web");
    let bare = TargetDescription::builder().id("10.0.0.1").build();
    let register = client(&elb).register_targets().target_group_arn(&arn);
    register.targets(bare).send().await.unwrap();
    assert!(elb.health(&arn, ip("10.0.0.1"), 80).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_group_is_created_once_used_and_deleted_when_no_listener_has_it() {
    let elb = simulated();
    let client = client(&elb);
    let create = || {
        let create = client.create_target_group().name("web").port(80);
        create
            .protocol("HTTP".into())
            .vpc_id("vpc-01234567")
            .target_type(TargetTypeEnum::Ip)
            .health_check_interval_seconds(7)
    };
    let created = create().send().await.unwrap();
    let group = &created.target_groups()[0];
    assert_eq!(group.health_check_interval_seconds(), Some(7));
    let arn = group.target_group_arn().unwrap();
    let again = create().send().await.unwrap();
    assert_eq!(again.target_groups()[0].target_group_arn(), Some(arn));
    let other = create().port(81).send().await.unwrap_err();
    assert_eq!(code(&other), Some("DuplicateTargetGroupName"));

    let balancer = elb.create_load_balancer("lb", LoadBalancerKind::Application, &[]);
    elb.add_listener(&balancer, &[(arn, 1)]).unwrap();
    let delete = || client.delete_target_group().target_group_arn(arn).send();
    assert_eq!(code(&delete().await.unwrap_err()), Some("ResourceInUse"));
    elb.remove_listener(&balancer).unwrap();
    delete().await.unwrap();
    assert_eq!(
        code(&delete().await.unwrap_err()),
        Some("TargetGroupNotFound")
    );
}

#[rstest]
#[case::alb("HTTP", None, None, "HTTP", Some("200"), 15)]
#[case::nlb("TCP", None, None, "TCP", None, 10)]
#[case::nlb_with_http_checks("TCP", Some("HTTP"), None, "HTTP", Some("200-399"), 10)]
#[case::own_codes("HTTP", None, Some("200,204"), "HTTP", Some("200,204"), 15)]
#[tokio::test(start_paused = true)]
async fn a_new_group_has_the_defaults_of_its_kind(
    #[case] protocol: &str,
    #[case] check: Option<&str>,
    #[case] codes: Option<&str>,
    #[case] expected_check: &str,
    #[case] expected_codes: Option<&str>,
    #[case] expected_interval: i32,
) {
    let create = client(&simulated()).create_target_group().name("web");
    let create = create.protocol(protocol.into()).port(80).vpc_id("vpc-1");
    let matcher = codes.map(|codes| Matcher::builder().http_code(codes).build());
    let created = create
        .set_health_check_protocol(check.map(Into::into))
        .set_matcher(matcher)
        .send()
        .await
        .unwrap();
    let group = &created.target_groups()[0];
    let codes = group.matcher().and_then(|matcher| matcher.http_code());
    assert_eq!(
        group.health_check_protocol().unwrap().as_str(),
        expected_check
    );
    assert_eq!(codes, expected_codes);
    assert_eq!(
        group.health_check_interval_seconds(),
        Some(expected_interval)
    );
}

#[rstest]
#[case::interval("HealthCheckIntervalSeconds=4")]
#[case::timeout("HealthCheckTimeoutSeconds=121")]
#[case::healthy("HealthyThresholdCount=1")]
#[case::unhealthy("UnhealthyThresholdCount=11")]
#[case::codes("Matcher.HttpCode=ok")]
#[case::check("HealthCheckProtocol=GENEVE")]
#[case::name("Name=-web")]
#[case::long_name("Name=a-name-of-more-than-32-characters")]
#[case::port("Port=eighty")]
#[tokio::test(start_paused = true)]
async fn a_group_that_aws_would_not_make_is_refused(#[case] setting: &str) {
    let form =
        format!("Action=CreateTargetGroup&Name=web&Protocol=HTTP&Port=80&VpcId=vpc-1&{setting}");
    let request = Request::post("/").body(Full::<Bytes>::from(form)).unwrap();
    let elb = simulated();
    let response = elb.service().answer(request).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let refused = CallOutcome::Error("ValidationError".to_owned());
    assert_eq!(elb.calls()[0].outcome, refused);
}
