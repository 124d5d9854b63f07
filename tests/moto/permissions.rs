//! Which calls AWS permits. Moto checks each signature and each policy with code of its own.
//!
//! Its denials have the right status, but the XML of EC2 (`Errors` around `Error`) instead of that of the Query
//! protocol, which ELBv2 and STS use and the SDK reads. So only the status is compared here, and the tests of
//! the edge against the sandbox compare AWS's codes. Of a trust policy, moto checks a wrong external id, but
//! does not miss an absent one.

use aws_credential_types::Credentials;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate::aws::client::ElbClient;
use targetgate::aws::error::{ElbError, ElbErrorKind};
use targetgate_core::elb::query::GroupSelector;
use targetgate_core::names::{AssumedRole, GroupKey};
use targetgate_sandbox::moto::Moto;
use tokio::sync::OnceCell;

use crate::account::{Account, client, demand_signatures, started};

const SHIPPED: &str = include_str!("../../deploy/iam/policy.json");
/// The policy that a role needs besides, where targetgate registers targets.
const TARGETS: &str = include_str!("../../deploy/iam/policy-targets.json");
/// The policy that `targetgate doctor` needs besides.
const DOCTOR: &str = include_str!("../../deploy/iam/policy-doctor.json");
const GROUPS: &str = "DescribeTargetGroups";
const HEALTH: &str = "DescribeTargetHealth";
const REGISTER: &str = "RegisterTargets";
const DEREGISTER: &str = "DeregisterTargets";
const ATTRIBUTES: &str = "DescribeTargetGroupAttributes";
const BALANCERS: &str = "DescribeLoadBalancers";
const OF_BALANCER: &str = "DescribeLoadBalancerAttributes";

/// A moto that requires signatures, with all that was created in it before.
struct Guarded {
    moto: Moto,
    /// A group of the account to which the users belong.
    group: String,
    /// A group of another account.
    foreign: String,
    /// A user with the shipped policy.
    user: Credentials,
    /// For each action of the shipped policy, a user whose policy lacks it.
    lacking: Vec<(&'static str, Credentials)>,
    /// A user with both shipped policies.
    registrar: Credentials,
    /// For each action of the policy of targets, a user whose policies lack it.
    changing_less: Vec<(&'static str, Credentials)>,
    /// A load balancer of the same account.
    balancer: String,
    /// A user with the policy of doctor besides the shipped one.
    doctor: Credentials,
    /// For each action of the policy of doctor, a user whose policies lack it.
    reading_less: Vec<(&'static str, Credentials)>,
    /// A user who may only assume roles.
    assumer: Credentials,
    /// A role of the other account with the shipped policy.
    reader: String,
    /// A role of the other account with an unrelated policy.
    stranger: String,
    /// A role with the shipped policy that requires the external id `tenant-1`.
    tenant: String,
}

impl Guarded {
    async fn shared() -> &'static Self {
        static SHARED: OnceCell<Guarded> = OnceCell::const_new();
        SHARED.get_or_init(Self::new).await
    }

    async fn new() -> Self {
        let moto = started().await;
        let account = |id| Account { moto: &moto, id };
        let (ours, other) = (account("111111111111"), account("222222222222"));
        let anyone = trust(&json!({}));
        let mut lacking = Vec::new();
        for action in [GROUPS, HEALTH] {
            lacking.push((action, ours.user(action, &without(SHIPPED, action)).await));
        }
        let mut changing_less = Vec::new();
        for action in [REGISTER, DEREGISTER] {
            let policy = with_shipped(&without(TARGETS, action));
            changing_less.push((action, ours.user(action, &policy).await));
        }
        let mut reading_less = Vec::new();
        for action in [ATTRIBUTES, BALANCERS, OF_BALANCER] {
            let policy = with_shipped(&without(DOCTOR, action));
            reading_less.push((action, ours.user(action, &policy).await));
        }
        let only_tenant_1 = json!({ "StringEquals": { "sts:ExternalId": "tenant-1" } });
        let made = Self {
            group: ours.target_group("web").await,
            foreign: other.target_group("web").await,
            user: ours.user("reader", SHIPPED).await,
            lacking,
            registrar: ours.user("registrar", &with_shipped(TARGETS)).await,
            changing_less,
            balancer: ours.balancer("web", "application", &ours.vpc().await).await,
            doctor: ours.user("doctor", &with_shipped(DOCTOR)).await,
            reading_less,
            assumer: ours.user("assumer", &allow("sts:AssumeRole")).await,
            reader: other.role("reader", &anyone, SHIPPED).await,
            stranger: other.role("stranger", &anyone, &allow("s3:*")).await,
            tenant: ours.role("tenant", &trust(&only_tenant_1), SHIPPED).await,
            moto,
        };
        demand_signatures(&made.moto, 0).await;
        made
    }

    fn client(&self, credentials: Credentials) -> ElbClient {
        client(self.moto.address(), credentials)
    }
}

fn policy(statement: &Value) -> String {
    json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string()
}

fn allow(action: &str) -> String {
    policy(&json!({ "Effect": "Allow", "Action": action, "Resource": "*" }))
}

fn trust(condition: &Value) -> String {
    policy(&json!({
        "Effect": "Allow",
        "Principal": { "AWS": "*" },
        "Action": "sts:AssumeRole",
        "Condition": condition,
    }))
}

fn without(shipped: &str, action: &str) -> String {
    let mut policy: Value = serde_json::from_str(shipped).unwrap();
    let actions = policy["Statement"][0]["Action"].as_array_mut().unwrap();
    let before = actions.len();
    actions.retain(|other| other != &format!("elasticloadbalancing:{action}"));
    assert_eq!(actions.len(), before - 1, "{action} is not in the policy");
    policy.to_string()
}

/// Another policy beside that of gates. Moto knows no resource of these actions, and calls all of them `*`.
fn with_shipped(other: &str) -> String {
    let mut policy: Value = serde_json::from_str(SHIPPED).unwrap();
    let mut other: Value = serde_json::from_str(other).unwrap();
    let mut statement = other["Statement"][0].take();
    statement["Resource"] = "*".into();
    policy["Statement"].as_array_mut().unwrap().push(statement);
    policy.to_string()
}

fn group(arn: &str, role: Option<(&str, Option<&str>)>) -> GroupKey {
    GroupKey {
        arn: arn.parse().unwrap(),
        role: role.map(|(arn, external_id)| AssumedRole {
            arn: arn.into(),
            external_id: external_id.map(Into::into),
        }),
    }
}

/// Makes both calls of the product. Returns the error of each.
async fn both_calls(client: &ElbClient, group: &GroupKey) -> [(&'static str, Option<ElbError>); 2] {
    let by = [GroupSelector::Arn(group.arn.clone())];
    let groups = client.target_groups(None, group.role.as_ref(), &by).await;
    let health = client.target_health(group, &[]).await;
    [(GROUPS, groups.err()), (HEALTH, health.err())]
}

/// Makes both calls that change a group, for a target that no other test names. Returns the error of each.
async fn both_changes(
    client: &ElbClient,
    group: &GroupKey,
    port: u16,
) -> [(&'static str, Option<ElbError>); 2] {
    let targets = [(("10.0.0.1".parse().unwrap(), port), None)];
    let registered = client.register_targets(group, &targets).await;
    let deregistered = client.deregister_targets(group, &targets).await;
    [
        (REGISTER, registered.err()),
        (DEREGISTER, deregistered.err()),
    ]
}

/// Makes the calls that only doctor makes. Returns the error of each.
async fn reads_of_doctor(
    client: &ElbClient,
    aws: &Guarded,
) -> [(&'static str, Option<ElbError>); 3] {
    let (group, balancer) = (group(&aws.group, None), &aws.balancer);
    let attributes = client.group_attributes(&group).await;
    let balancers = client.load_balancer(&group, balancer).await;
    let of_balancer = client.load_balancer_crosses_zones(&group, balancer).await;
    [
        (ATTRIBUTES, attributes.err()),
        (BALANCERS, balancers.err()),
        (OF_BALANCER, of_balancer.err()),
    ]
}

fn is_denied(error: &ElbError) {
    assert_eq!(error.kind, ElbErrorKind::Denied, "{error}");
    assert!(error.message.starts_with("HTTP 403 "), "{error}");
}

#[tokio::test]
async fn the_shipped_policy_allows_all_that_is_called() {
    let aws = Guarded::shared().await;
    let client = aws.client(aws.user.clone());
    for (action, error) in both_calls(&client, &group(&aws.group, None)).await {
        assert_eq!(error, None, "{action}");
    }
}

#[tokio::test]
async fn each_action_of_the_shipped_policy_is_needed() {
    let aws = Guarded::shared().await;
    for (lacks, credentials) in &aws.lacking {
        let client = aws.client(credentials.clone());
        for (action, error) in both_calls(&client, &group(&aws.group, None)).await {
            assert_eq!(
                error.is_some(),
                action == *lacks,
                "{action} without {lacks}"
            );
            error.iter().for_each(is_denied);
        }
    }
}

#[tokio::test]
async fn the_policy_of_targets_allows_what_changes_a_group_and_that_of_gates_does_not() {
    let aws = Guarded::shared().await;
    let group = group(&aws.group, None);
    let client = aws.client(aws.registrar.clone());
    let polls = both_calls(&client, &group).await;
    let changes = both_changes(&client, &group, 1).await;
    for (action, error) in polls.into_iter().chain(changes) {
        assert_eq!(error, None, "{action}");
    }
    let client = aws.client(aws.user.clone());
    for (action, error) in both_changes(&client, &group, 2).await {
        is_denied(&error.unwrap_or_else(|| panic!("{action} is allowed")));
    }
}

#[tokio::test]
async fn each_action_of_the_policy_of_targets_is_needed() {
    let aws = Guarded::shared().await;
    for (lacks, credentials) in &aws.changing_less {
        let client = aws.client(credentials.clone());
        for (action, error) in both_changes(&client, &group(&aws.group, None), 3).await {
            // Moto does not deregister what is not registered.
            let denied = error.is_some_and(|error| error.kind == ElbErrorKind::Denied);
            assert_eq!(denied, action == *lacks, "{action} without {lacks}");
        }
    }
}

#[tokio::test]
async fn the_policy_of_doctor_allows_what_only_doctor_reads_and_that_of_gates_does_not() {
    let aws = Guarded::shared().await;
    let client = aws.client(aws.doctor.clone());
    let polls = both_calls(&client, &group(&aws.group, None)).await;
    let reads = reads_of_doctor(&client, aws).await;
    for (action, error) in polls.into_iter().chain(reads) {
        assert_eq!(error, None, "{action}");
    }
    let client = aws.client(aws.user.clone());
    for (action, error) in reads_of_doctor(&client, aws).await {
        is_denied(&error.unwrap_or_else(|| panic!("{action} is allowed")));
    }
}

#[tokio::test]
async fn each_action_of_the_policy_of_doctor_is_needed() {
    let aws = Guarded::shared().await;
    for (lacks, credentials) in &aws.reading_less {
        let client = aws.client(credentials.clone());
        for (action, error) in reads_of_doctor(&client, aws).await {
            assert_eq!(
                error.is_some(),
                action == *lacks,
                "{action} without {lacks}"
            );
            error.iter().for_each(is_denied);
        }
    }
}

#[rstest]
#[case::unknown_key(Some("AKIAUNKNOWN"), None, None)]
#[case::wrong_secret(None, Some("wrong"), None)]
#[case::foreign_token(None, None, Some("of-someone-else"))]
#[tokio::test]
async fn credentials_that_aws_does_not_know_are_denied(
    #[case] key: Option<&str>,
    #[case] secret: Option<&str>,
    #[case] token: Option<&str>,
) {
    let aws = Guarded::shared().await;
    let wrong = Credentials::new(
        key.unwrap_or(aws.user.access_key_id()),
        secret.unwrap_or(aws.user.secret_access_key()),
        token.map(str::to_owned),
        None,
        "test",
    );
    let client = aws.client(wrong);
    let error = client.target_health(&group(&aws.group, None), &[]).await;
    is_denied(&error.unwrap_err());
}

#[tokio::test]
async fn the_role_of_a_binding_reaches_the_groups_of_its_account() {
    let aws = Guarded::shared().await;
    let client = aws.client(aws.assumer.clone());
    let as_reader = group(&aws.foreign, Some((&aws.reader, None)));
    for (action, error) in both_calls(&client, &as_reader).await {
        assert_eq!(error, None, "{action}");
    }
    for role in [None, Some((&*aws.stranger, None))] {
        let with = group(&aws.foreign, role);
        for (action, error) in both_calls(&client, &with).await {
            is_denied(&error.unwrap_or_else(|| panic!("{action} is allowed with {role:?}")));
        }
    }
}

#[tokio::test]
async fn a_role_requires_its_external_id() {
    let aws = Guarded::shared().await;
    let client = aws.client(aws.assumer.clone());
    let right = group(&aws.group, Some((&aws.tenant, Some("tenant-1"))));
    client.target_health(&right, &[]).await.unwrap();
    let wrong = group(&aws.group, Some((&aws.tenant, Some("tenant-2"))));
    let error = client.target_health(&wrong, &[]).await.unwrap_err();
    assert_eq!(
        (error.code(), error.kind),
        ("NoCredentials", ElbErrorKind::NoCredentials)
    );
}
