//! The product's client and the SDK under it, over sockets, against moto and against the sandbox's ELB, with
//! the same tests. They leave out what the two answer differently on purpose: moto knows only the state
//! `healthy`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_elasticloadbalancingv2 as sdk;
use form_urlencoded::Serializer;
use rstest::{Context, rstest};
use sdk::types::{ProtocolEnum, TargetDescription, TargetGroupIpAddressTypeEnum, TargetTypeEnum};
use targetgate::aws::budget::Budget;
use targetgate::aws::client::ElbClient;
use targetgate::aws::error::ElbErrorKind;
use targetgate::aws::target_groups::TargetGroups;
use targetgate::metrics::Metrics;
use targetgate_core::elb::query::{DescribeError, GroupQuery, GroupSelector};
use targetgate_core::model::{HealthChecks, IpFamily, TargetState};
use targetgate_core::names::GroupKey;
use targetgate_sandbox::elb::{Elb, Options};
use targetgate_sandbox::harness::standalone::status;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::account::{Account, PATIENCE, client, config, element, open, send, unsigned};

/// The account of a caller that moto does not know.
pub(crate) const ACCOUNT: &str = "123456789012";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Double {
    Moto,
    Sandbox,
}

/// A double at its address, and the clients.
pub(crate) struct Aws {
    pub(crate) address: SocketAddr,
    pub(crate) vpc_id: String,
    pub(crate) client: ElbClient,
    sdk: sdk::Client,
    /// The sandbox's own, if it is the sandbox.
    pub(crate) elb: Option<Elb>,
}

impl Aws {
    pub(crate) async fn new(double: Double) -> Self {
        let (address, vpc_id, elb) = match double {
            Double::Moto => {
                let moto = open().await;
                let account = Account { moto, id: ACCOUNT };
                (moto.address(), account.vpc().await, None)
            }
            Double::Sandbox => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let elb = Elb::new(Options::default());
                tokio::spawn(elb.clone().serve(listener, std::future::pending()));
                (address, "vpc-0123456789abcdef0".to_owned(), Some(elb))
            }
        };
        let credentials = Credentials::new("key", "secret", None, None, "test");
        Self {
            address,
            vpc_id,
            client: client(address, credentials.clone()),
            sdk: sdk::Client::new(&config(address, credentials)),
            elb,
        }
    }

    /// Creates a group of `ip` targets. Tests share moto, so each uses names of its own.
    async fn group(&self, name: &str, family: TargetGroupIpAddressTypeEnum) -> GroupKey {
        let made = self
            .sdk
            .create_target_group()
            .name(name)
            .target_type(TargetTypeEnum::Ip)
            .ip_address_type(family)
            .protocol(ProtocolEnum::Http)
            .port(80)
            .vpc_id(&self.vpc_id)
            .health_check_interval_seconds(7)
            .healthy_threshold_count(3)
            .unhealthy_threshold_count(4)
            .send()
            .await
            .unwrap();
        let arn = made.target_groups()[0].target_group_arn().unwrap();
        GroupKey {
            arn: arn.parse().unwrap(),
            role: None,
        }
    }

    pub(crate) async fn ipv4_group(&self, name: &str) -> GroupKey {
        self.group(name, TargetGroupIpAddressTypeEnum::Ipv4).await
    }

    async fn register(&self, group: &GroupKey, ip: &str, port: i32) {
        let registering = self.sdk.register_targets();
        let registering = registering.target_group_arn(group.arn.as_str());
        registering.targets(target(ip, port)).send().await.unwrap();
    }

    async fn deregister(&self, group: &GroupKey, ip: &str, port: i32) {
        let leaving = self.sdk.deregister_targets();
        let leaving = leaving.target_group_arn(group.arn.as_str());
        leaving.targets(target(ip, port)).send().await.unwrap();
    }

    pub(crate) async fn delete(&self, group: &GroupKey) {
        let deleting = self.sdk.delete_target_group();
        let deleting = deleting.target_group_arn(group.arn.as_str());
        deleting.send().await.unwrap();
    }

    /// The targets of a group, whatever their health.
    async fn targets(&self, group: &GroupKey) -> BTreeSet<String> {
        let healths = self.client.target_health(group, &[]).await.unwrap();
        let targets = healths.iter().map(|health| health.target);
        targets
            .map(|(ip, port)| SocketAddr::new(ip, port).to_string())
            .collect()
    }
}

fn target(ip: &str, port: i32) -> TargetDescription {
    TargetDescription::builder().id(ip).port(port).build()
}

fn arns<'a>(groups: impl IntoIterator<Item = &'a GroupKey>) -> Vec<GroupSelector> {
    let arns = groups.into_iter().map(|group| group.arn.clone());
    arns.map(GroupSelector::Arn).collect()
}

fn names<const N: usize>(names: [&str; N]) -> Vec<GroupSelector> {
    names
        .map(|name| GroupSelector::Name(name.to_owned()))
        .to_vec()
}

#[rstest]
#[tokio::test]
async fn a_group_is_described_by_arn_and_by_name(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let made = aws.ipv4_group("described").await;
    let by_arn = aws.client.target_groups(None, None, &arns([&made])).await;
    let by_name = aws
        .client
        .target_groups(None, None, &names(["described"]))
        .await;
    let [group] = &by_arn.unwrap()[..] else {
        panic!("one group is expected");
    };
    assert_eq!(group.arn, made.arn);
    assert_eq!(&*group.name, "described");
    assert_eq!(&*group.target_type, "ip");
    assert_eq!(group.family, IpFamily::V4);
    assert_eq!(group.vpc_id.as_deref(), Some(&*aws.vpc_id));
    assert_eq!(group.protocol.as_deref(), Some("HTTP"));
    let checks = HealthChecks {
        interval: Duration::from_secs(7),
        healthy_threshold: 3,
        unhealthy_threshold: 4,
    };
    assert_eq!(group.health_checks, Some(checks));
    assert_eq!(by_name.unwrap(), std::slice::from_ref(group));
}

#[rstest]
#[tokio::test]
async fn as_many_groups_as_one_call_may_name_come_in_one_answer(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let mut made = Vec::new();
    for number in 0..20 {
        made.push(aws.ipv4_group(&format!("many-{number}")).await);
    }
    let groups = aws
        .client
        .target_groups(None, None, &arns(&made))
        .await
        .unwrap();
    let found: BTreeSet<_> = groups.iter().map(|group| group.arn.as_str()).collect();
    let asked: BTreeSet<_> = made.iter().map(|group| group.arn.as_str()).collect();
    assert_eq!(groups.len(), 20);
    assert_eq!(found, asked);
}

#[rstest]
#[tokio::test]
async fn one_absent_group_fails_a_whole_call(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let (here, gone) = (aws.ipv4_group("here").await, aws.ipv4_group("gone").await);
    aws.delete(&gone).await;
    for asked in [arns([&here, &gone]), names(["here", "gone"])] {
        let error = aws
            .client
            .target_groups(None, None, &asked)
            .await
            .unwrap_err();
        assert_eq!(error.code(), "TargetGroupNotFound");
        assert_eq!(error.kind, ElbErrorKind::GroupNotFound);
        assert!(error.message.contains("not found"), "{error}");
    }
}

#[rstest]
#[tokio::test]
async fn shared_descriptions_fail_for_the_absent_group_alone(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let (here, gone) = (
        aws.ipv4_group("shared").await,
        aws.ipv4_group("missing").await,
    );
    aws.delete(&gone).await;
    let budget = Budget::new(10.0, 10.0, 40, &Metrics::default());
    let groups = TargetGroups::new(aws.client.clone(), budget, 1);
    tokio::spawn(groups.clone().run());
    let by_name = GroupQuery {
        selector: GroupSelector::Name("shared".to_owned()),
        role: None,
    };
    let deadline = Instant::now() + PATIENCE;
    let (here, gone) = (GroupQuery::from(&here), GroupQuery::from(&gone));
    let (found, missing, named) = tokio::join!(
        groups.describe(&here, deadline),
        groups.describe(&gone, deadline),
        groups.describe(&by_name, deadline),
    );
    assert_eq!(missing, Err(DescribeError::NotFound));
    assert_eq!(found.unwrap(), named.unwrap());
}

#[rstest]
#[tokio::test]
async fn targets_come_and_go_with_their_addresses_and_ports(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let group = aws.ipv4_group("targets").await;
    assert_eq!(aws.targets(&group).await, BTreeSet::new());
    aws.register(&group, "10.0.0.1", 8080).await;
    aws.register(&group, "10.0.0.2", 9090).await;
    let both = ["10.0.0.1:8080", "10.0.0.2:9090"].map(str::to_owned);
    assert_eq!(aws.targets(&group).await, both.into());

    let named = [("10.0.0.2".parse().unwrap(), 9090)];
    let healths = aws.client.target_health(&group, &named).await.unwrap();
    assert_eq!(healths.len(), 1);
    assert_eq!(healths[0].target, named[0]);

    aws.deregister(&group, "10.0.0.2", 9090).await;
    let healths = aws.client.target_health(&group, &[]).await.unwrap();
    let left = healths
        .iter()
        .filter(|health| health.state != TargetState::Draining);
    assert!(left.map(|health| health.target.1).eq([8080]), "{healths:?}");
}

#[rstest]
#[tokio::test]
async fn the_client_registers_and_deregisters_several_targets_in_one_call(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let group = aws.ipv4_group("changed").await;
    let target = |ip: &str, port| ((ip.parse().unwrap(), port), None);
    let both = [target("10.0.0.1", 8080), target("10.0.0.2", 9090)];
    aws.client.register_targets(&group, &both).await.unwrap();
    let expected = ["10.0.0.1:8080", "10.0.0.2:9090"].map(str::to_owned);
    assert_eq!(aws.targets(&group).await, expected.into());
    // One that is registered is accepted again.
    aws.client.register_targets(&group, &both).await.unwrap();
    assert_eq!(aws.targets(&group).await.len(), 2);

    let leaving = &both[1..];
    aws.client
        .deregister_targets(&group, leaving)
        .await
        .unwrap();
    let healths = aws.client.target_health(&group, &[]).await.unwrap();
    let left = healths
        .iter()
        .filter(|health| health.state != TargetState::Draining);
    assert!(left.map(|health| health.target.1).eq([8080]), "{healths:?}");
}

#[rstest]
#[tokio::test]
async fn a_target_of_an_absent_group_goes_neither_in_nor_out(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let group = aws.ipv4_group("absent-targets").await;
    aws.delete(&group).await;
    let target = [(("10.0.0.1".parse().unwrap(), 8080), None)];
    let registered = aws.client.register_targets(&group, &target).await;
    let deregistered = aws.client.deregister_targets(&group, &target).await;
    for ended in [registered, deregistered] {
        let error = ended.unwrap_err();
        assert_eq!(error.code(), "TargetGroupNotFound");
        assert_eq!(error.kind, ElbErrorKind::GroupNotFound);
    }
}

#[rstest]
#[tokio::test]
async fn an_ipv6_group_says_so_and_gives_its_targets_addresses(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let group = aws.group("six", TargetGroupIpAddressTypeEnum::Ipv6).await;
    let described = aws.client.target_groups(None, None, &arns([&group])).await;
    assert_eq!(described.unwrap()[0].family, IpFamily::V6);
    aws.register(&group, "fd00::1", 8080).await;
    assert_eq!(
        aws.targets(&group).await,
        ["[fd00::1]:8080".to_owned()].into()
    );
}

#[rstest]
#[tokio::test]
async fn the_health_of_an_absent_group_is_not_found(
    #[values(Double::Moto, Double::Sandbox)] double: Double,
) {
    let aws = Aws::new(double).await;
    let group = aws.ipv4_group("unhealthy").await;
    aws.delete(&group).await;
    let error = aws.client.target_health(&group, &[]).await.unwrap_err();
    assert_eq!(error.code(), "TargetGroupNotFound");
    assert_eq!(error.kind, ElbErrorKind::GroupNotFound);
}

/// The loop opens gates on a healthy answer of moto.
#[tokio::test]
async fn what_moto_calls_healthy_is_healthy() {
    let aws = Aws::new(Double::Moto).await;
    let group = aws.ipv4_group("healthy").await;
    aws.register(&group, "10.0.0.1", 8080).await;
    let healths = aws.client.target_health(&group, &[]).await.unwrap();
    assert_eq!(healths[0].state, TargetState::Healthy);
    assert_eq!((&*healths[0].reason, &*healths[0].description), ("", ""));
}

/// The parts of an answer of which the SDK reads some: status, content type, error code and elements.
#[rstest]
#[case::groups(&[("Action", "DescribeTargetGroups"), ("Names.member.1", "shape-NAME")])]
#[case::absent_name(&[("Action", "DescribeTargetGroups"), ("Names.member.1", "absent")])]
#[case::absent_arn(&[("Action", "DescribeTargetGroups"), ("TargetGroupArns.member.1", "GONE")])]
#[case::both(&[("Action", "DescribeTargetGroups"), ("TargetGroupArns.member.1", "ARN"), ("Names.member.1", "shape-NAME")])]
#[case::health(&[("Action", "DescribeTargetHealth"), ("TargetGroupArn", "ARN")])]
#[case::health_of_absent(&[("Action", "DescribeTargetHealth"), ("TargetGroupArn", "GONE")])]
#[case::register(&[("Action", "RegisterTargets"), ("TargetGroupArn", "ARN"), ("Targets.member.1.Id", "10.0.0.2")])]
#[case::register_in_every_zone(&[("Action", "RegisterTargets"), ("TargetGroupArn", "ARN"), ("Targets.member.1.Id", "10.0.0.2"), ("Targets.member.1.Port", "8080"), ("Targets.member.1.AvailabilityZone", "all")])]
#[case::register_in_absent(&[("Action", "RegisterTargets"), ("TargetGroupArn", "GONE"), ("Targets.member.1.Id", "10.0.0.2")])]
#[case::deregister_in_absent(&[("Action", "DeregisterTargets"), ("TargetGroupArn", "GONE"), ("Targets.member.1.Id", "10.0.0.1")])]
#[case::deregister(&[("Action", "DeregisterTargets"), ("TargetGroupArn", "ARN"), ("Targets.member.1.Id", "10.0.0.1"), ("Targets.member.1.Port", "8080")])]
#[case::delete(&[("Action", "DeleteTargetGroup"), ("TargetGroupArn", "ARN")])]
#[tokio::test]
async fn the_sandbox_answers_in_motos_shape(
    #[context] context: Context,
    #[case] call: &'static [(&'static str, &'static str)],
) {
    let name = context.description.unwrap_or_default().replace('_', "-");
    let mut shapes = Vec::new();
    for double in [Double::Moto, Double::Sandbox] {
        let aws = Aws::new(double).await;
        let group = aws.ipv4_group(&format!("shape-{name}")).await;
        aws.register(&group, "10.0.0.1", 8080).await;
        let gone = aws.ipv4_group(&format!("gone-{name}")).await;
        aws.delete(&gone).await;
        let filled = call.iter().map(|(key, value)| {
            let value = value.replace("NAME", &name);
            let value = value.replace("ARN", group.arn.as_str());
            (*key, value.replace("GONE", gone.arn.as_str()))
        });
        shapes.push(shape(aws.address, filled).await);
    }
    assert_eq!(shapes[0], shapes[1]);
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    status: u16,
    content_type: String,
    code: Option<String>,
    pub(crate) elements: BTreeSet<String>,
}

pub(crate) async fn shape(
    address: SocketAddr,
    parameters: impl Iterator<Item = (&'static str, String)>,
) -> Shape {
    let body = Serializer::new(String::new())
        .append_pair("Version", "2015-12-01")
        .extend_pairs(parameters)
        .finish();
    let answer = send(address, "/", &unsigned("elasticloadbalancing"), &body).await;
    let (head, xml) = answer.split_once("\r\n\r\n").unwrap();
    let mut head = head.lines().filter_map(|line| line.split_once(": "));
    let content_type = head.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let mut elements = paths(xml);
    // Targets in moto are healthy, and a healthy target has no reason.
    elements.retain(|path| !path.ends_with("/Reason") && !path.ends_with("/Description"));
    Shape {
        status: status(&answer),
        content_type: content_type.unwrap().1.to_owned(),
        code: xml.contains("<Code>").then(|| element(xml, "Code")),
        elements,
    }
}

/// The path of each element from the root, whose namespace is included.
fn paths(xml: &str) -> BTreeSet<String> {
    let mut around = Vec::new();
    let mut paths = BTreeSet::new();
    for tag in xml.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap_or("");
        if tag.starts_with('/') {
            around.pop();
        } else if !tag.starts_with('?') {
            around.push(tag.trim_end_matches('/'));
            paths.insert(around.join("/"));
            if tag.ends_with('/') {
                around.pop();
            }
        }
    }
    paths
}
