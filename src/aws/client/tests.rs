use rstest::rstest;
use tokio::time::Instant;

use super::*;
use crate::aws::fake::{
    ACCESS_KEY, Asked, Aws, Reply, SECRET, TOKEN, arn, error_xml, group, groups_xml, health_xml,
};

fn asked_group() -> GroupKey {
    GroupKey {
        arn: arn(1).parse().unwrap(),
        role: None,
    }
}

fn arns(numbers: impl IntoIterator<Item = usize>) -> Vec<GroupSelector> {
    let arns = numbers.into_iter().map(|n| arn(n).parse().unwrap());
    arns.map(GroupSelector::Arn).collect()
}

fn member(id: &str, state: &str, rest: &str) -> String {
    format!(
        "<member><Target><Id>{id}</Id><Port>8080</Port></Target>\
         <TargetHealth><State>{state}</State>{rest}</TargetHealth></member>"
    )
}

#[tokio::test]
async fn the_health_of_a_group_comes_in_the_models_words() {
    let initial = member(
        "10.0.0.1",
        "initial",
        "<Reason>Elb.RegistrationInProgress</Reason><Description>Target registration is in progress</Description>",
    );
    let ipv6 = member("2001:db8::1", "unhealthy.draining", "");
    let instance = member("i-0123456789abcdef0", "healthy", "");
    let aws = Aws::saying([Reply::Say(200, health_xml(&[&initial, &ipv6, &instance]))]);
    let (client, _) = aws.client();

    let healths = client.target_health(&asked_group(), &[]).await.unwrap();

    let [first, second] = &healths[..] else {
        panic!("the instance is left out: {healths:?}");
    };
    assert_eq!(first.target, ("10.0.0.1".parse().unwrap(), 8080));
    assert_eq!(first.state, TargetState::Initial);
    assert_eq!(&*first.reason, "Elb.RegistrationInProgress");
    assert_eq!(&*first.description, "Target registration is in progress");
    assert_eq!(first.zone.as_deref(), None);
    assert_eq!(second.target, ("2001:db8::1".parse().unwrap(), 8080));
    assert_eq!(second.state, TargetState::UnhealthyDraining);
    assert_eq!(&*second.reason, "");
}

#[rstest]
#[case("initial", TargetState::Initial)]
#[case("healthy", TargetState::Healthy)]
#[case("unhealthy", TargetState::Unhealthy)]
#[case("unhealthy.draining", TargetState::UnhealthyDraining)]
#[case("unused", TargetState::Unused)]
#[case("draining", TargetState::Draining)]
#[case("unavailable", TargetState::Unavailable)]
#[case("resting", TargetState::Unknown)]
#[tokio::test]
async fn every_state_has_its_own_word_and_a_new_one_is_unknown(
    #[case] wire: &str,
    #[case] state: TargetState,
) {
    let aws = Aws::saying([Reply::Say(
        200,
        health_xml(&[&member("10.0.0.1", wire, "")]),
    )]);
    let healths = aws.client().0.target_health(&asked_group(), &[]).await;
    assert_eq!(healths.unwrap()[0].state, state);
}

#[tokio::test]
async fn a_call_goes_to_the_arns_region_and_names_the_targets() {
    let aws = Aws::saying([Reply::Say(200, health_xml(&[]))]);
    let targets = [
        ("10.0.0.1".parse().unwrap(), 8080),
        ("2001:db8::1".parse().unwrap(), 9090),
    ];
    let (client, _) = aws.client();
    client
        .target_health(&asked_group(), &targets)
        .await
        .unwrap();

    let asked = &aws.asked()[0];
    assert_eq!(asked.host, "elasticloadbalancing.eu-west-1.amazonaws.com");
    assert_eq!(asked.field("Action"), Some("DescribeTargetHealth"));
    assert_eq!(asked.field("TargetGroupArn"), Some(arn(1).as_str()));
    assert_eq!(asked.field("Targets.member.1.Id"), Some("10.0.0.1"));
    assert_eq!(asked.field("Targets.member.1.Port"), Some("8080"));
    assert_eq!(asked.field("Targets.member.2.Id"), Some("2001:db8::1"));
    assert_eq!(asked.field("Targets.member.2.Port"), Some("9090"));
}

#[tokio::test]
async fn the_zone_of_a_target_comes_with_its_health() {
    let zoned = member("100.64.0.1", "healthy", "")
        .replace("</Port>", "</Port><AvailabilityZone>all</AvailabilityZone>");
    let aws = Aws::saying([Reply::Say(200, health_xml(&[&zoned]))]);
    let healths = aws.client().0.target_health(&asked_group(), &[]).await;
    assert_eq!(healths.unwrap()[0].zone.as_deref(), Some("all"));
}

/// A target inside the VPC, and one outside.
fn both() -> [ZonedTarget; 2] {
    let inside = ("10.0.0.1".parse().unwrap(), 8080);
    let outside = ("2001:db8::1".parse().unwrap(), 9090);
    [(inside, None), (outside, Some("all".into()))]
}

async fn change(client: &ElbClient, action: &str) -> Result<(), ElbError> {
    match action {
        "RegisterTargets" => client.register_targets(&asked_group(), &both()).await,
        _ => client.deregister_targets(&asked_group(), &both()).await,
    }
}

#[rstest]
#[tokio::test]
async fn a_change_names_each_target_with_its_zone(
    #[values("RegisterTargets", "DeregisterTargets")] action: &str,
) {
    let answer = format!(
        "<{action}Response xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
         <{action}Result/></{action}Response>"
    );
    let aws = Aws::saying([Reply::Say(200, answer)]);
    let (client, metrics) = aws.client();
    change(&client, action).await.unwrap();
    let asked = &aws.asked()[0];
    assert_eq!(asked.host, "elasticloadbalancing.eu-west-1.amazonaws.com");
    assert_eq!(asked.field("Action"), Some(action));
    assert_eq!(asked.field("TargetGroupArn"), Some(arn(1).as_str()));
    let expected = [
        ("Targets.member.1.Id", "10.0.0.1"),
        ("Targets.member.1.Port", "8080"),
        ("Targets.member.2.Id", "2001:db8::1"),
        ("Targets.member.2.Port", "9090"),
        ("Targets.member.2.AvailabilityZone", "all"),
    ];
    let mut named: Vec<_> = asked.form.iter().collect();
    named.retain(|(name, _)| name.starts_with("Targets."));
    named.sort();
    let mut expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    expected.sort();
    assert!(named.into_iter().eq(&expected), "{:?}", asked.form);
    let counted = format!("{{action=\"{action}\",code=\"OK\"}} 1");
    assert!(metrics.encode().contains(&counted), "{}", metrics.encode());
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_change_without_an_answer_ends_before_another_replica_leads(
    #[values("RegisterTargets", "DeregisterTargets")] action: &str,
) {
    let aws = Aws::new(|_: &Asked| Reply::Hang);
    let started = Instant::now();
    let error = change(&aws.client().0, action).await.unwrap_err();
    assert_eq!((error.action, error.kind), (action, ElbErrorKind::Timeout));
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(aws.asked().len(), 1);
}

#[rstest]
#[case("InvalidTarget", 400, ElbErrorKind::Invalid)]
#[case("TooManyTargets", 400, ElbErrorKind::Other)]
#[case("TooManyRegistrationsForTargetId", 400, ElbErrorKind::Other)]
#[case("ValidationError", 400, ElbErrorKind::Invalid)]
#[case("TargetGroupNotFound", 400, ElbErrorKind::GroupNotFound)]
#[case("Throttling", 400, ElbErrorKind::Throttled)]
#[case("AccessDenied", 403, ElbErrorKind::Denied)]
#[case("InternalFailure", 500, ElbErrorKind::Other)]
#[tokio::test]
async fn a_refused_change_keeps_awss_code_and_words_and_is_sent_once(
    #[values("RegisterTargets", "DeregisterTargets")] action: &str,
    #[case] code: &'static str,
    #[case] status: u16,
    #[case] kind: ElbErrorKind,
) {
    let aws = Aws::new(move |_: &Asked| error_xml(status, code, "in ELB's words"));
    let (client, metrics) = aws.client();
    let error = change(&client, action).await.unwrap_err();
    assert_eq!((error.code(), error.kind), (code, kind));
    assert_eq!(error.message, "in ELB's words");
    let denial = error
        .to_string()
        .contains("elasticloadbalancing:RegisterTargets");
    assert_eq!(denial, kind == ElbErrorKind::Denied, "{error}");
    assert_eq!(aws.asked().len(), 1, "the SDK does not try again");
    let label = match code {
        "InternalFailure" => "Other",
        _ => code,
    };
    let counted = format!("{{action=\"{action}\",code=\"{label}\"}} 1");
    assert!(metrics.encode().contains(&counted), "{}", metrics.encode());
}

#[rstest]
#[tokio::test]
async fn a_throttled_change_does_not_slow_down_polls(
    #[values("RegisterTargets", "DeregisterTargets")] action: &str,
) {
    let aws = Aws::new(|_: &Asked| error_xml(400, "Throttling", "Rate exceeded"));
    let budget = Budget::new(10.0, 10.0, 40, &Metrics::default());
    let metrics = Metrics::default();
    let client = ElbClient::new(aws.config(), Timeouts::default(), budget.clone(), &metrics);
    change(&client, action).await.unwrap_err();
    assert!(budget.all_throttled().is_empty());
    client.target_health(&asked_group(), &[]).await.unwrap_err();
    assert_eq!(budget.all_throttled().len(), 1);
}

#[tokio::test]
async fn groups_come_in_the_models_words() {
    let aws = Aws::saying([Reply::Say(200, groups_xml([1, 2]))]);
    let (client, _) = aws.client();
    let groups = client
        .target_groups(Some("eu-west-1"), None, &arns([1, 2]))
        .await;
    assert_eq!(groups.unwrap(), [group(1), group(2)]);
    assert_eq!(aws.asked()[0].members("TargetGroupArns"), [arn(1), arn(2)]);
}

#[tokio::test]
async fn a_group_of_which_aws_tells_little_has_the_documented_defaults() {
    let xml = groups_xml([1])
        .replace("<IpAddressType>ipv4</IpAddressType>", "")
        .replace("<VpcId>vpc-0123456789abcdef0</VpcId>", "")
        .replace("<Protocol>HTTP</Protocol>", "")
        .replace(
            "<TargetType>ip</TargetType>",
            "<TargetType>lambda</TargetType>",
        );
    let aws = Aws::saying([Reply::Say(200, xml)]);
    let (client, _) = aws.client();
    let groups = client
        .target_groups(Some("eu-west-1"), None, &arns([1]))
        .await;
    let expected = TargetGroup {
        target_type: "lambda".into(),
        vpc_id: None,
        protocol: None,
        ..group(1)
    };
    assert_eq!(groups.unwrap(), [expected]);
}

#[rstest]
#[case("<HealthCheckIntervalSeconds>15</HealthCheckIntervalSeconds>")]
#[case("<HealthyThresholdCount>3</HealthyThresholdCount>")]
#[case("<UnhealthyThresholdCount>4</UnhealthyThresholdCount>")]
#[tokio::test]
async fn a_number_of_the_health_checks_that_aws_leaves_out_is_unknown_and_not_zero(
    #[case] number: &str,
) {
    let xml = groups_xml([1]);
    assert!(xml.contains(number));
    let aws = Aws::saying([Reply::Say(200, xml.replace(number, ""))]);
    let (client, _) = aws.client();
    let groups = client
        .target_groups(Some("eu-west-1"), None, &arns([1]))
        .await;
    assert_eq!(groups.unwrap()[0].health_checks, None);
}

/// A zonal shift overrides where a load balancer sends, and tells it beside the state of the health checks.
/// Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_AdministrativeOverride.html>
#[tokio::test]
async fn an_administrative_override_does_not_change_a_targets_health() {
    let shifted = member("10.0.0.1", "healthy", "").replace(
        "</member>",
        "<AdministrativeOverride><State>zonal_shift_active</State>\
         <Reason>AdministrativeOverride.ZonalShiftActive</Reason>\
         <Description>Zonal shift is active</Description></AdministrativeOverride></member>",
    );
    let aws = Aws::saying([Reply::Say(200, health_xml(&[&shifted]))]);
    let (client, _) = aws.client();
    let healths = client.target_health(&asked_group(), &[]).await.unwrap();
    assert_eq!(
        (healths[0].state, &*healths[0].reason),
        (TargetState::Healthy, "")
    );
}

#[tokio::test]
async fn names_are_asked_in_the_sdks_own_region() {
    let aws = Aws::saying([Reply::Say(200, groups_xml([1]))]);
    let (client, _) = aws.client();
    let names = [GroupSelector::Name("group-1".into())];
    client.target_groups(None, None, &names).await.unwrap();
    let asked = &aws.asked()[0];
    assert_eq!(
        asked.host,
        "elasticloadbalancing.eu-central-1.amazonaws.com"
    );
    assert_eq!(asked.members("Names"), ["group-1"]);
}

#[rstest]
#[case("TargetGroupNotFound", 400, ElbErrorKind::GroupNotFound)]
#[case("Throttling", 400, ElbErrorKind::Throttled)]
#[case("ThrottlingException", 400, ElbErrorKind::Throttled)]
#[case("RequestLimitExceeded", 503, ElbErrorKind::Throttled)]
#[case("AccessDenied", 403, ElbErrorKind::Denied)]
#[case("ExpiredToken", 403, ElbErrorKind::Denied)]
#[case("ValidationError", 400, ElbErrorKind::Invalid)]
#[case("InvalidTarget", 400, ElbErrorKind::Invalid)]
#[case("HealthUnavailable", 500, ElbErrorKind::Other)]
#[case("SomethingNew", 400, ElbErrorKind::Other)]
#[tokio::test]
async fn an_error_keeps_awss_code_is_sorted_and_counted_and_asked_once(
    #[case] code: &str,
    #[case] status: u16,
    #[case] kind: ElbErrorKind,
) {
    let owned = code.to_owned();
    let aws = Aws::new(move |_: &Asked| error_xml(status, &owned, "why it failed"));
    let (client, metrics) = aws.client();

    let error = client.target_health(&asked_group(), &[]).await.unwrap_err();

    assert_eq!((error.code(), error.kind), (code, kind));
    let text = error.to_string();
    let start = format!(
        "DescribeTargetHealth for {} failed: {code}: why it failed",
        arn(1)
    );
    assert!(text.starts_with(&start), "{text}");
    assert_eq!(aws.asked().len(), 1, "nothing goes round the budget");
    let label = if code == "SomethingNew" {
        "Other"
    } else {
        code
    };
    let counted = format!("{{action=\"DescribeTargetHealth\",code=\"{label}\"}} 1");
    assert!(metrics.encode().contains(&counted), "{}", metrics.encode());
}

#[tokio::test]
async fn a_denial_names_the_actions_that_the_role_lacks() {
    let aws = Aws::saying([error_xml(403, "AccessDenied", "not authorized")]);
    let (client, _) = aws.client();
    let error = client.target_health(&asked_group(), &[]).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("elasticloadbalancing:DescribeTargetHealth"),
        "{text}"
    );
    assert!(
        text.contains("elasticloadbalancing:DescribeTargetGroups"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_in_its_time() {
    let aws = Aws::new(|_: &Asked| Reply::Hang);
    let (client, metrics) = aws.client();
    let started = Instant::now();
    let error = client.target_health(&asked_group(), &[]).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind),
        ("Timeout", ElbErrorKind::Timeout)
    );
    assert_eq!(started.elapsed().as_secs(), 10);
    assert!(metrics.encode().contains("code=\"Timeout\"} 1"));
}

#[tokio::test]
async fn a_broken_connection_is_unreachable() {
    let aws = Aws::saying([Reply::Break]);
    let (client, metrics) = aws.client();
    let error = client.target_health(&asked_group(), &[]).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind),
        ("Unreachable", ElbErrorKind::Unreachable)
    );
    assert!(
        error.message.contains("connection reset"),
        "{}",
        error.message
    );
    assert!(metrics.encode().contains("code=\"Unreachable\"} 1"));
}

#[tokio::test]
async fn an_answer_that_is_no_elb_answer_is_an_error_and_not_an_empty_group() {
    let aws = Aws::saying([Reply::Say(200, "<html>a proxy's login page</html>".into())]);
    let (client, _) = aws.client();
    let error = client.target_health(&asked_group(), &[]).await.unwrap_err();
    assert_eq!(error.code(), "InvalidResponse");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error_and_not_a_smaller_group() {
    let both = health_xml(&[
        &member("10.0.0.1", "healthy", ""),
        &member("10.0.0.2", "healthy", ""),
    ]);
    let (first, _) = both.split_at(both.find("</member>").unwrap() + "</member>".len());
    let aws = Aws::saying([Reply::Say(200, first.to_owned())]);
    let (client, _) = aws.client();
    let error = client.target_health(&asked_group(), &[]).await.unwrap_err();
    assert_eq!(error.code(), "InvalidResponse");
    assert!(error.message.contains("cut off"), "{error}");
}

#[rstest]
#[case(401, ElbErrorKind::Denied)]
#[case(403, ElbErrorKind::Denied)]
#[case(429, ElbErrorKind::Throttled)]
#[case(502, ElbErrorKind::Other)]
#[tokio::test]
async fn an_error_that_is_not_awss_is_sorted_by_its_status(
    #[case] status: u16,
    #[case] kind: ElbErrorKind,
) {
    let page = "<html>a proxy's page</html>";
    let aws = Aws::saying([Reply::Say(status, page.into())]);
    let (client, _) = aws.client();
    let error = client.target_health(&asked_group(), &[]).await.unwrap_err();
    assert_eq!((error.code(), error.kind), ("InvalidResponse", kind));
    assert!(
        error.message.contains(&format!("HTTP {status} ")),
        "{error}"
    );
}

#[tokio::test]
async fn no_text_of_an_error_holds_a_credential() {
    let message = format!(
        "The request signature we calculated does not match.\n\nThe Canonical String was\n\
         x-amz-security-token:{TOKEN}\n{ACCESS_KEY} {SECRET}"
    );
    let refusal = || error_xml(403, "SignatureDoesNotMatch", &message);
    let aws = Aws::saying([refusal(), Reply::Break, refusal()]);
    let (client, _) = aws.client();
    let assumed = GroupKey {
        role: Some(role(None)),
        ..asked_group()
    };
    // The last request went to STS.
    for group in [asked_group(), asked_group(), assumed] {
        let error = client.target_health(&group, &[]).await.unwrap_err();
        let text = format!("{error} {error:?}");
        for secret in [TOKEN, ACCESS_KEY, SECRET] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn a_long_message_is_cut() {
    let aws = Aws::saying([error_xml(400, "ValidationError", &"x".repeat(5_000))]);
    let (client, _) = aws.client();
    let error = client.target_health(&asked_group(), &[]).await.unwrap_err();
    assert_eq!(error.message.len(), 300);
}

/// Responds as STS to the assumption of the role, and as the ELBv2 API with an empty list of groups.
fn aws_with_sts(asked: &Asked) -> Reply {
    if asked.field("Action") != Some("AssumeRole") {
        return Reply::Say(200, groups_xml([]));
    }
    let body = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
        <Credentials><AccessKeyId>AKIDOTHER</AccessKeyId><SecretAccessKey>other</SecretAccessKey>\
        <SessionToken>token</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>\
        <AssumedRoleUser><AssumedRoleId>AROA:targetgate</AssumedRoleId>\
        <Arn>arn:aws:sts::210987654321:assumed-role/r/targetgate</Arn></AssumedRoleUser>\
        </AssumeRoleResult></AssumeRoleResponse>";
    Reply::Say(200, body.into())
}

fn role(external_id: Option<&str>) -> AssumedRole {
    AssumedRole {
        arn: "arn:aws:iam::210987654321:role/r".into(),
        external_id: external_id.map(Into::into),
    }
}

#[tokio::test]
async fn a_role_is_assumed_once_for_each_external_id_and_used() {
    let aws = Aws::new(aws_with_sts);
    let (client, _) = aws.client();
    for role in [role(Some("one")), role(Some("one")), role(None)] {
        let region = Some("eu-west-1");
        client
            .target_groups(region, Some(&role), &arns([1]))
            .await
            .unwrap();
    }
    let asked = aws.asked();
    let assumed: Vec<_> = asked
        .iter()
        .filter(|asked| asked.field("Action") == Some("AssumeRole"))
        .map(|asked| asked.field("ExternalId"))
        .collect();
    assert_eq!(assumed, [Some("one"), None]);
    let signed: Vec<_> = asked
        .iter()
        .filter(|asked| asked.field("Action") == Some("DescribeTargetGroups"))
        .map(|asked| asked.authorization.contains("Credential=AKIDOTHER/"))
        .collect();
    assert_eq!(signed, [true, true, true]);
}

#[tokio::test]
async fn a_role_that_may_not_be_assumed_is_a_denial_that_says_so() {
    let aws = Aws::new(|_: &Asked| error_xml(403, "AccessDenied", "not allowed: sts:AssumeRole"));
    let (client, _) = aws.client();
    let role = role(None);
    let error = client
        .target_groups(Some("eu-west-1"), Some(&role), &arns([1]))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.kind),
        ("NoCredentials", ElbErrorKind::NoCredentials)
    );
    assert!(error.message.contains("AccessDenied"), "{}", error.message);
}

#[tokio::test]
async fn a_name_without_any_region_is_refused_before_the_wire() {
    let aws = Aws::new(|_: &Asked| Reply::Hang);
    let config = aws.config().into_builder().region(None).build();
    let metrics = Metrics::default();
    let budget = Budget::new(10.0, 10.0, 40, &metrics);
    let client = ElbClient::new(config, Timeouts::default(), budget, &metrics);
    let names = [GroupSelector::Name("group-1".into())];
    let error = client.target_groups(None, None, &names).await.unwrap_err();
    assert_eq!(error.code(), "NoRegion");
    assert!(aws.asked().is_empty());
}

#[tokio::test]
async fn the_kept_clients_stay_few_and_the_one_that_was_not_used_for_longest_goes() {
    let aws = Aws::new(aws_with_sts);
    let (client, _) = aws.client();
    let region = |number: usize| format!("eu-west-{number}");
    for number in 0..MAX_CLIENTS {
        client.client(&region(number), None).await;
    }
    client.client(&region(0), None).await;
    client.client(&region(MAX_CLIENTS), None).await;
    let clients = client.inner.clients.lock();
    assert_eq!(clients.kept.len(), MAX_CLIENTS);
    let kept = |number| {
        let region = region(number).into();
        clients.kept.contains_key(&Access { region, role: None })
    };
    assert_eq!([0, 1, 2].map(kept), [true, false, true]);
}

#[tokio::test]
async fn each_of_a_hundred_roles_is_assumed_once() {
    let aws = Aws::new(aws_with_sts);
    // As the SDK loads it: all clients share one cache of identities.
    let shared = IdentityCache::lazy().build();
    let config = aws.config().into_builder().identity_cache(shared).build();
    let metrics = Metrics::default();
    let budget = Budget::new(1_000.0, 1_000.0, 1_000, &metrics);
    let client = ElbClient::new(config, Timeouts::default(), budget, &metrics);
    let group = arns([1]);
    for _ in 0..3 {
        for number in 0..100 {
            let role = role(Some(&format!("id-{number}")));
            let asked = client.target_groups(Some("eu-west-1"), Some(&role), &group);
            asked.await.unwrap();
        }
    }
    let asked = aws.asked();
    let assumed = asked
        .iter()
        .filter(|asked| asked.field("Action") == Some("AssumeRole"));
    assert_eq!(assumed.count(), 100);
}
