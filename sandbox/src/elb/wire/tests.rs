//! The wire, as the real SDK sees it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::config::retry::RetryConfig;
use aws_sdk_elasticloadbalancingv2::config::timeout::TimeoutConfig;
use aws_sdk_elasticloadbalancingv2::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_elasticloadbalancingv2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_elasticloadbalancingv2::types::{TargetDescription, TargetTypeEnum};
use rstest::rstest;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::elb::check::{CheckOutcome, ScriptedProbe};
use crate::elb::faults::On;
use crate::elb::{Health, LoadBalancerKind, Options, TargetGroupSpec};

fn config() -> aws_sdk_elasticloadbalancingv2::config::Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
}

fn client(elb: &Elb) -> Client {
    Client::from_conf(config().http_client(elb.http_client()).build())
}

fn simulated() -> Elb {
    Elb::new(Options {
        probe: Arc::new(ScriptedProbe::new(CheckOutcome::Passed)),
        ..Options::default()
    })
}

/// A group behind a load balancer.
fn attached(elb: &Elb, name: &str) -> String {
    let arn = elb.create_target_group(TargetGroupSpec::http(name));
    let balancer = elb.create_load_balancer(name, LoadBalancerKind::Application, &[]);
    elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
    arn
}

fn target(ip: &str, port: i32) -> TargetDescription {
    TargetDescription::builder().id(ip).port(port).build()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.code()
}

/// `ip:port state reason` for each target of a group.
async fn health(client: &Client, arn: &str) -> Vec<String> {
    let answer = client.describe_target_health().target_group_arn(arn);
    let answer = answer.send().await.unwrap();
    let lines = answer.target_health_descriptions().iter().map(|described| {
        let target = described.target().unwrap();
        let health = described.target_health().unwrap();
        format!(
            "{}:{} {} {}",
            target.id().unwrap(),
            target.port().unwrap(),
            health.state().unwrap(),
            health.reason().map_or("-", |reason| reason.as_str()),
        )
    });
    lines.collect()
}

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
#[case::ipv6_in_an_ipv4_group("fd00::1", Some(80), "InvalidTarget")]
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

#[tokio::test(start_paused = true)]
async fn a_scripted_state_is_told_as_it_is_even_one_that_the_sdk_does_not_know() {
    let elb = simulated();
    let arn = attached(&elb, "web");
    let script = Health::new(
        crate::elb::State::Other("resting".to_owned()),
        "Tom & <Co>",
        "…",
    );
    elb.script(&arn, ip("10.0.0.1"), 80, script).unwrap();
    assert_eq!(
        health(&client(&elb), &arn).await,
        ["10.0.0.1:80 resting Tom & <Co>"]
    );
    elb.unscript(&arn, ip("10.0.0.1"), 80).unwrap();
    assert_eq!(health(&client(&elb), &arn).await, [""; 0]);
    let states: Vec<_> = elb.log().into_iter().map(|entry| entry.to).collect();
    assert_eq!(
        states,
        [Some(crate::elb::State::Other("resting".to_owned())), None]
    );
}

#[tokio::test(start_paused = true)]
async fn calls_past_the_bucket_are_throttled_and_the_log_says_so() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    elb.faults().throttle(10.0, 2);
    let call = || {
        client
            .describe_target_health()
            .target_group_arn(&arn)
            .send()
    };
    call().await.unwrap();
    call().await.unwrap();
    let error = call().await.unwrap_err();
    assert_eq!(code(&error), Some("Throttling"));
    assert_eq!(error.message(), Some("Rate exceeded"));
    tokio::time::sleep(Duration::from_millis(100)).await;
    call().await.unwrap();
    let outcomes: Vec<_> = elb.calls().into_iter().map(|call| call.outcome).collect();
    let throttled = CallOutcome::Error("Throttling".to_owned());
    assert_eq!(
        outcomes,
        [CallOutcome::Ok, CallOutcome::Ok, throttled, CallOutcome::Ok]
    );
    assert_eq!(elb.calls()[0].arns, [arn.as_str()]);
}

#[tokio::test(start_paused = true)]
async fn a_hung_call_goes_on_when_it_is_released() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    elb.faults().hang(On::arn(&arn));
    let mut changes = elb.subscribe();
    let call = tokio::spawn(
        client
            .describe_target_health()
            .target_group_arn(&arn)
            .send(),
    );
    let pending = |elb: &Elb| {
        elb.calls()
            .iter()
            .any(|call| call.outcome == CallOutcome::Pending)
    };
    changes.wait_for(|_| pending(&elb)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(!call.is_finished());
    elb.faults().release(&On::arn(&arn));
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hung_call_runs_into_the_timeout_of_the_sdk_and_is_noted_as_abandoned() {
    let elb = simulated();
    let arn = attached(&elb, "web");
    elb.faults().hang(On::any());
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(5));
    let config = config()
        .http_client(elb.http_client())
        .timeout_config(timeouts.build());
    let client = Client::from_conf(config.build());
    let call = client.describe_target_health().target_group_arn(&arn);
    let error = call.send().await.unwrap_err();
    assert!(matches!(error, SdkError::TimeoutError(_)), "{error:?}");
    assert_eq!(elb.calls()[0].outcome, CallOutcome::Abandoned);
}

#[tokio::test(start_paused = true)]
async fn an_error_asked_for_comes_with_its_status() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    let on = On::action("DescribeTargetHealth");
    elb.faults()
        .fail(on, "AccessDenied", StatusCode::FORBIDDEN, Some(1));
    let call = || {
        client
            .describe_target_health()
            .target_group_arn(&arn)
            .send()
    };
    let error = call().await.unwrap_err();
    assert_eq!(code(&error), Some("AccessDenied"));
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 403);
    call().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_frozen_group_answers_from_the_past() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    elb.freeze(&arn).unwrap();
    elb.register(&arn, ip("10.0.0.1"), 80).unwrap();
    assert_eq!(health(&client, &arn).await, [""; 0]);
    elb.faults().thaw(&arn);
    assert_eq!(
        health(&client, &arn).await,
        ["10.0.0.1:80 initial Elb.RegistrationInProgress"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_delayed_answer_tells_how_it_is_when_it_is_given() {
    let elb = simulated();
    let (client, arn) = (client(&elb), attached(&elb, "web"));
    elb.faults().delay(Duration::from_secs(10));
    elb.register(&arn, ip("10.0.0.1"), 80).unwrap();
    assert_eq!(
        health(&client, &arn).await,
        ["10.0.0.1:80 initial Elb.InitialHealthChecking"]
    );
}

#[rstest]
#[case::post(Method::POST, "/", "Action=Nonsense", 400, "InvalidAction")]
#[case::nothing(Method::POST, "/", "", 400, "MissingAction")]
#[case::no_arn(
    Method::POST,
    "/",
    "Action=DescribeTargetHealth",
    400,
    "ValidationError"
)]
#[case::get(Method::GET, "/?Action=Nonsense", "", 400, "InvalidAction")]
#[case::put(Method::PUT, "/", "", 400, "MalformedQueryString")]
#[case::page_size(
    Method::POST,
    "/",
    "Action=DescribeTargetGroups&PageSize=401",
    400,
    "ValidationError"
)]
#[tokio::test(start_paused = true)]
async fn a_bad_request_is_answered_with_an_error_in_xml(
    #[case] method: Method,
    #[case] uri: &str,
    #[case] body: &'static str,
    #[case] status: u16,
    #[case] expected: &str,
) {
    let request = Request::builder().method(method).uri(uri);
    let request = request.body(Full::<Bytes>::from(body)).unwrap();
    let response = simulated().service().answer(request).await;
    assert_eq!(response.status().as_u16(), status);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let code = format!("<Error><Type>Sender</Type><Code>{expected}</Code><Message>");
    assert!(body.contains(&code), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_refused() {
    let request = Request::post("/").body(Full::<Bytes>::from(vec![b'a'; MAX_BODY + 1]));
    let response = simulated().service().answer(request.unwrap()).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_sdk_reaches_it_over_a_socket() {
    let elb = simulated();
    let arn = attached(&elb, "web");
    elb.register(&arn, ip("127.0.0.2"), 80).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(elb.clone().serve(listener, async {
        let _ = stopped.await;
    }));
    let client = Client::from_conf(config().endpoint_url(endpoint).build());
    assert_eq!(
        health(&client, &arn).await,
        ["127.0.0.2:80 initial Elb.RegistrationInProgress"]
    );
    drop(client);
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), server)
        .await
        .expect("the server ends when it is told to")
        .unwrap();
}
