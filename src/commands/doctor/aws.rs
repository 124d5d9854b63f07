//! What AWS says: whose credentials it is called with, the target groups, and calls that change one, tried on groups that
//! cannot exist.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sts::error::DisplayErrorContext;
use futures::{StreamExt as _, stream};
use targetgate_core::binding::service::ServiceLookup;
use targetgate_core::binding::validate::{GroupLookup, Subject, check};
use targetgate_core::doctor::{
    ChangeOutcome, ChangeTrial, Described, Group, Identity, Known, Read, Targets, Unread,
};
use targetgate_core::model::{TargetGroup, TargetHealth, TargetState, WhenUnused};
use targetgate_core::names::{GroupKey, TargetGroupArn};
use targetgate_core::reason::Reason;
use targetgate_core::text::cut;
use tokio::time::timeout;

use crate::aws::client::{DescribedGroup, ElbClient, ZonedTarget};
use crate::aws::error::{ElbError, ElbErrorKind};
use crate::commands::doctor::group_ends;
use crate::commands::doctor::group_ends::{AT_ONCE, GroupEnds};
use crate::commands::doctor::objects::{Binding, OptedIn};
use crate::commands::elb;

/// At most this many groups are asked about: the burst that `serve` allows itself. Chosen.
const MOST: usize = 40;
/// Calls that change a group are tried in so many accounts and Regions at most. Chosen.
const MOST_PLACES: usize = 4;
/// How long STS is waited for. Chosen: a private network may have no way to it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum length of what STS or the SDK says, in bytes. Chosen.
const MAX_WHY: usize = 300;
/// The id of a group that cannot exist: AWS gives random ones.
const NO_ID: &str = "0000000000000000";
/// A target that is no host's. Source: RFC 5737.
const NO_TARGET: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);
/// What ELB says of a target whose zone is not enabled.
const ZONE_NOT_ENABLED: &str = "not enabled for the load balancer";

/// What AWS has said.
pub(super) struct Said {
    pub(super) identity: Option<Identity>,
    pub(super) groups: Known<Vec<Group>>,
    pub(super) left_out: usize,
    pub(super) changes: Vec<ChangeTrial>,
    /// What AWS says about the ends of the groups' targets.
    pub(super) ends: BTreeMap<TargetGroupArn, GroupEnds>,
    /// The reads about these ends that failed.
    pub(super) unread: Vec<Unread>,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) off: bool,
    /// Whether targetgate registers targets.
    pub(super) registers: bool,
    pub(super) bindings: &'a Known<Vec<Binding>>,
    pub(super) namespaces: &'a [OptedIn],
}

/// Asks AWS, if that is wanted and there is anything to ask.
pub(super) async fn read(question: &Question<'_>) -> Said {
    let mut said = Said {
        identity: None,
        groups: Ok(vec![]),
        left_out: 0,
        changes: vec![],
        ends: BTreeMap::new(),
        unread: vec![],
    };
    let bindings = match question.bindings {
        _ if question.off => return said,
        Ok(bindings) => bindings,
        Err(why) => {
            said.groups = Err(why.clone());
            return said;
        }
    };
    let mut by_group: BTreeMap<GroupKey, Vec<&Binding>> = BTreeMap::new();
    for binding in bindings {
        let Some(group) = binding.group() else {
            continue;
        };
        by_group.entry(group).or_default().push(binding);
    }
    let config = match elb::config().await {
        Ok(config) => config,
        Err(_) if by_group.is_empty() => return said,
        Err(why) => {
            said.groups = Err(why);
            return said;
        }
    };
    said.left_out = by_group.len().saturating_sub(MOST);
    let client = elb::client_of(config.clone());
    let places: BTreeMap<_, &GroupKey> = by_group.keys().map(|key| (place(key), key)).collect();
    let asked = by_group.iter().take(MOST);
    let asked = asked.map(|(key, bindings)| ask(&client, key, bindings, question.namespaces));
    let tried = places.into_iter().take(MOST_PLACES);
    let tried = tried.filter(|_| question.registers);
    let tried = tried.map(|(place, key)| change(&client, place, key));
    let (identity, groups, changes) = tokio::join!(
        identity(&config),
        stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>(),
        stream::iter(tried).buffered(AT_ONCE).collect::<Vec<_>>(),
    );
    said.identity = Some(identity);
    let (known, described): (Vec<Group>, Vec<_>) = groups.into_iter().unzip();
    let described: Vec<_> = described.into_iter().flatten().collect();
    (said.ends, said.unread) = group_ends::read(&client, &described).await;
    said.groups = Ok(known);
    said.changes = changes.into_iter().flatten().flatten().collect();
    said
}

async fn identity(config: &SdkConfig) -> Identity {
    let client = aws_sdk_sts::Client::new(config);
    let call = client.get_caller_identity().send();
    let arn = match timeout(PATIENCE, call).await {
        Ok(Ok(answer)) => answer
            .arn()
            .map(str::to_owned)
            .ok_or_else(|| "STS names none".to_owned()),
        Ok(Err(error)) => {
            let text = DisplayErrorContext(&error).to_string();
            let line = text.lines().next().unwrap_or_default();
            Err(format!("STS: {}", cut(line, MAX_WHY)))
        }
        Err(_) => Err(format!("STS: no answer within {PATIENCE:?}")),
    };
    Identity {
        arn,
        region: config.region().map(ToString::to_string),
    }
}

/// Asks about a group. Returns AWS's description besides, if there is one.
async fn ask<'a>(
    client: &ElbClient,
    key: &'a GroupKey,
    bindings: &[&Binding],
    namespaces: &[OptedIn],
) -> (Group, Option<(&'a GroupKey, DescribedGroup)>) {
    let (healths, described) =
        tokio::join!(client.target_health(key, &[]), client.described_group(key));
    let told = described.as_ref().ok().cloned().flatten();
    let group = Group {
        arn: key.arn.clone(),
        targets: healths.map(|healths| targets(&healths)).map_err(reason),
        described: read_description(described, bindings, namespaces),
    };
    (group, told.map(|told| (key, told)))
}

fn reason(error: ElbError) -> (Reason, String) {
    let reason = match error.kind {
        ElbErrorKind::GroupNotFound => Reason::TargetGroupNotFound,
        ElbErrorKind::Denied | ElbErrorKind::NoCredentials => Reason::AwsDenied,
        _ => Reason::AwsUnavailable,
    };
    (reason, error.to_string())
}

fn targets(healths: &[TargetHealth]) -> Targets {
    let out = healths
        .iter()
        .filter(|health| health.description.contains(ZONE_NOT_ENABLED));
    let stays = |health: &&TargetHealth| health.state != TargetState::Draining;
    let addresses = healths.iter().filter(stays).map(|health| health.target.0);
    Targets {
        all: healths.len(),
        addresses: addresses.collect(),
        zone_not_enabled: out.count(),
    }
}

fn read_description(
    described: Result<Option<DescribedGroup>, ElbError>,
    bindings: &[&Binding],
    namespaces: &[OptedIn],
) -> Read<Described> {
    let Some(described) = described.map_err(reason)? else {
        let why = "AWS's description of the group cannot be read".to_owned();
        return Err((Reason::AwsUnavailable, why));
    };
    let differs = bindings.iter().flat_map(|b| differs(b, &described.group));
    let mut all = bindings.iter();
    Ok(Described {
        load_balancers: described.load_balancers.len(),
        may_be_unused: all.any(|binding| opens_unused(binding, namespaces)),
        differs: differs.collect(),
    })
}

/// What the rules of bindings say of it, as at its creation.
fn differs(binding: &Binding, group: &TargetGroup) -> Vec<String> {
    let verdict = check(&Subject {
        old: None,
        new: &binding.spec,
        group: GroupLookup::Found(group),
        sharers: &[],
        service: &ServiceLookup::NotWatched,
        vpc_id: None,
        allowance: None,
    });
    let (namespace, name) = (binding.namespace(), binding.name());
    let violations = verdict.violations.iter();
    violations
        .map(|violation| format!("{namespace}/{name}: {violation}"))
        .collect()
}

/// Whether `when-unused` opens the gates of a binding, by its own annotation or its Namespace's.
fn opens_unused(binding: &Binding, namespaces: &[OptedIn]) -> bool {
    let mut namespaces = namespaces.iter();
    let namespace = namespaces.find(|namespace| namespace.name == binding.namespace());
    let of_namespace = namespace.and_then(|namespace| namespace.when_unused);
    binding.when_unused().or(of_namespace) == Some(WhenUnused::Open)
}

/// Whose rights a call needs: one of the account, the Region and the role.
fn place(key: &GroupKey) -> String {
    let (account, region) = (key.arn.account(), key.arn.region());
    let role = key.role.as_ref();
    let role = role.map_or(String::new(), |role| format!(", as {}", role.arn));
    format!("account {account}, {region}{role}")
}

/// Tries the calls that change a group on one of this name whose id cannot exist.
async fn change(client: &ElbClient, place: String, key: &GroupKey) -> Option<[ChangeTrial; 2]> {
    let (head, _) = key.arn.as_str().rsplit_once('/')?;
    let none = GroupKey {
        arn: format!("{head}/{NO_ID}").parse().ok()?,
        role: key.role.clone(),
    };
    let target: [ZonedTarget; 1] = [(NO_TARGET, None)];
    let (registered, deregistered) = tokio::join!(
        client.register_targets(&none, &target),
        client.deregister_targets(&none, &target),
    );
    let trial = |action, answer| ChangeTrial {
        action,
        place: place.clone(),
        outcome: outcome(answer),
    };
    Some([
        trial("RegisterTargets", registered),
        trial("DeregisterTargets", deregistered),
    ])
}

fn outcome(answer: Result<(), ElbError>) -> ChangeOutcome {
    match answer {
        Ok(()) => ChangeOutcome::Unknown("AWS has a group that cannot exist.".to_owned()),
        Err(error) => match error.kind {
            ElbErrorKind::GroupNotFound => ChangeOutcome::Allowed,
            ElbErrorKind::Denied => ChangeOutcome::Denied(error.to_string()),
            _ => ChangeOutcome::Unknown(error.to_string()),
        },
    }
}
