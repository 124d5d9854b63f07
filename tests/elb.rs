//! The ELB client against the sandbox's model of ELBv2, through the real SDK, in process and with tokio's time
//! paused.
#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_elasticloadbalancingv2::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::TokioSleep;
use http::StatusCode;
use rstest::rstest;
use targetgate::aws::budget::Budget;
use targetgate::aws::client::{ElbClient, Timeouts};
use targetgate::aws::error::ElbErrorKind;
use targetgate::aws::target_groups::TargetGroups;
use targetgate::metrics::Metrics;
use targetgate_core::elb::buckets::PollRequest;
use targetgate_core::elb::query::{DescribeError, FailureKind, GroupQuery, GroupSelector};
use targetgate_core::model::{IpFamily, TargetHealth, TargetState};
use targetgate_core::names::{GroupKey, Quota};
use targetgate_core::targets::calls::zones::Zones;
use targetgate_sandbox::elb::check::{CheckOutcome, ScriptedProbe};
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::elb::limits::Subnet;
use targetgate_sandbox::elb::{Elb, Health, LoadBalancerKind, Options, State, TargetGroupSpec};
use tokio::time::{Instant, sleep};

/// A poll of the loop when no other group is due.
const ANY: PollRequest = PollRequest {
    groups: 1,
    likely_healthy: true,
};

/// The product's client for a modelled account.
struct Listener {
    aws: Elb,
    client: ElbClient,
    budget: Budget,
}

impl Listener {
    /// A client with the default budget of `targetgate serve`.
    fn new() -> Self {
        let aws = Elb::new(Options {
            probe: Arc::new(ScriptedProbe::new(CheckOutcome::Passed)),
            ..Options::default()
        });
        let metrics = Arc::new(Metrics::default());
        let budget = Budget::new(10.0, 10.0, 40, &metrics);
        let timeouts = Timeouts::default();
        let client = ElbClient::new(config(&aws), timeouts, budget.clone(), &metrics);
        Self {
            aws,
            client,
            budget,
        }
    }

    /// Creates a group behind a load balancer.
    fn group(&self, name: &str) -> GroupKey {
        self.group_of(TargetGroupSpec::http(name), LoadBalancerKind::Application)
    }

    fn group_of(&self, spec: TargetGroupSpec, kind: LoadBalancerKind) -> GroupKey {
        let name = spec.name.clone();
        let arn = self.aws.create_target_group(spec);
        let balancer = self.aws.create_load_balancer(&name, kind, &[]);
        self.aws.add_listener(&balancer, &[(&arn, 1)]).unwrap();
        GroupKey {
            arn: arn.parse().unwrap(),
            role: None,
        }
    }

    /// Starts the batching client of `DescribeTargetGroups`.
    fn groups(&self) -> TargetGroups {
        let groups = TargetGroups::new(self.client.clone(), self.budget.clone(), 1);
        tokio::spawn(groups.clone().run());
        groups
    }

    /// How many calls of this action have arrived so far.
    fn calls(&self, action: &str) -> usize {
        let calls = self.aws.calls();
        calls.iter().filter(|call| call.action == action).count()
    }
}

fn config(aws: &Elb) -> SdkConfig {
    let credentials = Credentials::new("key", "secret", None, None, "test");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .sleep_impl(TokioSleep::new())
        .http_client(aws.http_client())
        .build()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// State and reason of the only target in the answer.
fn only(healths: &[TargetHealth]) -> (TargetState, &str) {
    let [health] = healths else {
        panic!("one target is expected: {healths:?}");
    };
    (health.state, &health.reason)
}

fn by_arn(group: &GroupKey) -> GroupQuery {
    GroupQuery::from(group)
}

fn by_name(name: &str) -> GroupQuery {
    GroupQuery {
        selector: GroupSelector::Name(name.to_owned()),
        role: None,
    }
}

fn in_10_s() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test(start_paused = true)]
async fn a_target_is_seen_from_its_registration_to_its_health() {
    let edge = Listener::new();
    tokio::spawn(edge.aws.run());
    let group = edge.group("web");
    let target = (ip("10.0.0.1"), 8080);

    let healths = edge.client.target_health(&group, &[]).await.unwrap();
    assert_eq!(healths, []);
    edge.aws
        .register(group.arn.as_str(), target.0, target.1)
        .unwrap();
    let healths = edge.client.target_health(&group, &[]).await.unwrap();
    assert_eq!(
        only(&healths),
        (TargetState::Initial, "Elb.RegistrationInProgress")
    );
    sleep(Duration::from_secs(60)).await;
    let healths = edge.client.target_health(&group, &[]).await.unwrap();
    assert_eq!(only(&healths), (TargetState::Healthy, ""));
    assert_eq!(healths[0].target, target);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_registered_is_reported_when_named_and_left_out_otherwise() {
    let edge = Listener::new();
    let group = edge.group("web");
    let named = [(ip("10.0.0.9"), 8080)];
    let healths = edge.client.target_health(&group, &named).await.unwrap();
    assert_eq!(
        only(&healths),
        (TargetState::Unused, "Target.NotRegistered")
    );
    assert_eq!(edge.client.target_health(&group, &[]).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_aws_added_later_is_unknown_and_keeps_its_reason() {
    let edge = Listener::new();
    let group = edge.group("web");
    let health = Health::new(State::Other("resting".into()), "Target.Resting", "It rests");
    let (arn, address) = (group.arn.as_str(), ip("10.0.0.1"));
    edge.aws.register(arn, address, 8080).unwrap();
    edge.aws.script(arn, address, 8080, health).unwrap();
    let healths = edge.client.target_health(&group, &[]).await.unwrap();
    assert_eq!(only(&healths), (TargetState::Unknown, "Target.Resting"));
    assert_eq!(&*healths[0].description, "It rests");
}

#[tokio::test(start_paused = true)]
async fn one_target_of_the_other_family_refuses_the_whole_call() {
    let edge = Listener::new();
    let group = edge.group("web");
    let targets = [
        ((ip("10.0.0.1"), 8080), None),
        ((ip("fd00::1"), 8080), None),
    ];
    let error = edge
        .client
        .register_targets(&group, &targets)
        .await
        .unwrap_err();
    assert_eq!(error.action, "RegisterTargets");
    assert!(error.message.contains("fd00::1"), "{error}");
    assert_eq!(edge.client.target_health(&group, &[]).await.unwrap(), []);
    edge.client
        .register_targets(&group, &targets[..1])
        .await
        .unwrap();
    let healths = edge.client.target_health(&group, &[]).await.unwrap();
    assert_eq!(healths[0].target, targets[0].0);
    assert_eq!(edge.calls("RegisterTargets"), 2);
}

/// Registers a target alone, with the zone that ELB's words about former ones have taught. Returns that zone.
async fn registered(
    edge: &Listener,
    group: &GroupKey,
    zones: &mut Zones,
    target: (IpAddr, u16),
) -> Result<Option<&'static str>, String> {
    loop {
        let zone = zones.of(target);
        let named = [(target, zone.map(Into::into))];
        match edge.client.register_targets(group, &named).await {
            Ok(()) => return Ok(zone),
            Err(error) if zones.learn(target, &error.message) => {}
            Err(error) => return Err(error.message),
        }
    }
}

#[rstest]
#[case::alb(LoadBalancerKind::Application)]
#[case::nlb(LoadBalancerKind::Network)]
#[tokio::test(start_paused = true)]
async fn elbs_words_teach_with_which_zone_an_address_is_registered(#[case] kind: LoadBalancerKind) {
    let edge = Listener::new();
    let spec = match kind {
        LoadBalancerKind::Application => TargetGroupSpec::http("web"),
        LoadBalancerKind::Network => TargetGroupSpec::tcp("web"),
    };
    let vpc = spec.vpc_id.clone();
    let group = edge.group_of(spec, kind);
    let subnet = |block| Subnet::new(block, "eu-west-1a").unwrap();
    // 10.0.8.0/24 is the VPC's, in the same /16 as what is not.
    edge.aws.set_subnets(&vpc, vec![subnet("10.0.8.0/24")]);
    let mut zones = Zones::default();
    for (address, zone) in [
        ("10.0.9.1", Some("all")),
        // A guess that is wrong, and then is known to be.
        ("10.0.8.1", None),
        ("10.0.8.2", None),
        ("10.0.9.2", Some("all")),
    ] {
        let target = (ip(address), 8080);
        let found = registered(&edge, &group, &mut zones, target).await;
        assert_eq!(found, Ok(zone), "{address}");
    }
    assert_eq!(edge.calls("RegisterTargets"), 6, "two of them were refused");
    let healths = edge.client.target_health(&group, &[]).await.unwrap();
    let told: Vec<_> = healths.iter().map(|h| h.zone.as_deref().unwrap()).collect();
    assert_eq!(told, ["eu-west-1a", "eu-west-1a", "all", "all"]);
    // Each is named again with the zone that ELB told.
    let named: Vec<_> = healths.into_iter().map(|h| (h.target, h.zone)).collect();
    edge.client
        .deregister_targets(&group, &named)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_group_that_wants_each_pods_own_zone_is_told_in_elbs_words() {
    let edge = Listener::new();
    let mut spec = TargetGroupSpec::http("web");
    spec.cross_zone = Some(false);
    let vpc = spec.vpc_id.clone();
    let group = edge.group_of(spec, LoadBalancerKind::Application);
    edge.aws.set_subnets(&vpc, vec![]);
    let mut zones = Zones::default();
    let target = (ip("10.0.9.1"), 8080);
    let refused = registered(&edge, &group, &mut zones, target).await;
    let words = refused.unwrap_err();
    assert!(
        words.contains("you must specify an Availability Zone"),
        "{words}"
    );
    assert_eq!(edge.calls("RegisterTargets"), 1, "no zone would help");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_hangs_ends_in_five_seconds_and_is_not_sent_again() {
    let edge = Listener::new();
    let group = edge.group("web");
    edge.aws.faults().hang(On::any());
    let targets = [((ip("10.0.0.1"), 8080), None)];
    let started = Instant::now();
    let registered = edge.client.register_targets(&group, &targets).await;
    assert_eq!(registered.unwrap_err().kind, ElbErrorKind::Timeout);
    let deregistered = edge.client.deregister_targets(&group, &targets).await;
    assert_eq!(deregistered.unwrap_err().kind, ElbErrorKind::Timeout);
    assert_eq!(started.elapsed().as_secs(), 10);
    let calls = ["RegisterTargets", "DeregisterTargets"].map(|action| edge.calls(action));
    assert_eq!(calls, [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_ends_in_ten_seconds_and_a_removed_group_is_not_found() {
    let edge = Listener::new();
    let group = edge.group("web");
    edge.aws.faults().hang(On::any());
    let started = Instant::now();
    let error = edge.client.target_health(&group, &[]).await.unwrap_err();
    assert_eq!(error.kind, ElbErrorKind::Timeout);
    assert_eq!(started.elapsed().as_secs(), 10);

    edge.aws.faults().release(&On::any());
    edge.aws.remove_target_group(group.arn.as_str()).unwrap();
    let error = edge.client.target_health(&group, &[]).await.unwrap_err();
    assert_eq!(error.kind, ElbErrorKind::GroupNotFound);
    assert_eq!(edge.calls("DescribeTargetHealth"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_slows_the_loop_down() {
    let edge = Listener::new();
    let group = edge.group("web");
    assert!(
        edge.budget
            .try_take_for_loop(&Quota::of(&group.arn), ANY)
            .is_ok()
    );
    edge.aws.faults().throttle(1.0, 0);
    let error = edge.client.target_health(&group, &[]).await.unwrap_err();
    assert_eq!(error.kind, ElbErrorKind::Throttled);
    assert!(
        edge.budget
            .try_take_for_loop(&Quota::of(&group.arn), ANY)
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_slows_down_its_own_account_only() {
    let edge = Listener::new();
    let group = edge.group("web");
    edge.aws.faults().throttle(1.0, 0);
    edge.client.target_health(&group, &[]).await.unwrap_err();
    let throttled = BTreeSet::from([Quota::of(&group.arn)]);
    assert_eq!(edge.budget.all_throttled(), throttled);
    let elsewhere = Quota::of_role(None, "us-east-1");
    assert!(edge.budget.try_take_for_loop(&elsewhere, ANY).is_ok());
    let name = [GroupSelector::Name("web".to_owned())];
    let region = Some("us-east-1");
    edge.client
        .target_groups(region, None, &name)
        .await
        .unwrap_err();
    assert!(edge.budget.all_throttled().contains(&elsewhere));
}

#[tokio::test(start_paused = true)]
async fn two_hundred_bindings_are_described_within_ten_seconds_of_throttling() {
    let edge = Listener::new();
    let all: Vec<_> = (0..200).map(|n| edge.group(&format!("g{n}"))).collect();
    edge.aws.faults().throttle(10.0, 10);
    edge.aws.faults().delay(Duration::from_millis(80));
    let groups = edge.groups();
    let asking = all.iter().map(|group| {
        let groups = &groups;
        async move { groups.describe(&by_arn(group), in_10_s()).await }
    });
    let answers = futures::future::join_all(asking).await;
    for (group, answer) in all.iter().zip(answers) {
        assert_eq!(answer.unwrap().arn, group.arn);
    }
    assert_eq!(edge.calls("DescribeTargetGroups"), 10);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_bindings_are_described_when_others_have_spent_the_burst() {
    let edge = Listener::new();
    let all: Vec<_> = (0..200).map(|n| edge.group(&format!("g{n}"))).collect();
    edge.aws.faults().throttle(10.0, 1);
    let groups = edge.groups();
    let asking = all.iter().map(|group| {
        let groups = &groups;
        async move { groups.describe(&by_arn(group), in_10_s()).await }
    });
    let answers = futures::future::join_all(asking).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_group_fails_alone_and_a_name_is_resolved() {
    let edge = Listener::new();
    let (web, gone) = (edge.group("web"), edge.group("gone"));
    edge.aws.remove_target_group(gone.arn.as_str()).unwrap();
    let groups = edge.groups();
    let (web_query, gone_query, name) = (by_arn(&web), by_arn(&gone), by_name("web"));
    let (found, missing, named) = tokio::join!(
        groups.describe(&web_query, in_10_s()),
        groups.describe(&gone_query, in_10_s()),
        groups.describe(&name, in_10_s()),
    );
    assert_eq!(missing, Err(DescribeError::NotFound));
    let found = found.unwrap();
    assert_eq!(found, named.unwrap());
    assert_eq!(&*found.name, "web");
    assert_eq!(&*found.target_type, "ip");
    assert_eq!(found.family, IpFamily::V4);
    assert_eq!(found.protocol.as_deref(), Some("HTTP"));
    assert!(found.health_checks.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_denial_reaches_the_caller_with_awss_code() {
    let edge = Listener::new();
    let group = edge.group("web");
    let groups = edge.groups();
    let on = On::action("DescribeTargetGroups");
    edge.aws
        .faults()
        .fail(on, "AccessDenied", StatusCode::FORBIDDEN, None);
    let error = groups
        .describe(&by_arn(&group), in_10_s())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "AccessDenied");
    // The hooks name the group themselves.
    assert!(matches!(
        error,
        DescribeError::Failed {
            kind: FailureKind::Denied,
            ..
        }
    ));
}
