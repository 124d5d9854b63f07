//! What AWS says about the ends of a group's targets: its attributes, and the zones of its load balancers. The service
//! itself needs none of these reads, so its role need not allow them.

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};
use targetgate_core::doctor::Unread;
use targetgate_core::elb::attributes::{CrossZone, GroupAttributes, LoadBalancer, Reach};
use targetgate_core::lint;
use targetgate_core::names::{AssumedRole, GroupKey, TargetGroupArn};

use crate::aws::client::{DescribedGroup, ElbClient};
use crate::aws::error::ElbError;

/// The calls to AWS that are made at once. Chosen.
pub(super) const AT_ONCE: usize = 8;

/// What is known about the ends of a group's targets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GroupEnds {
    tcp_health_check: bool,
    attributes: GroupAttributes,
    reach: Reach,
}

impl GroupEnds {
    /// Adds it to what the cluster knows of a group.
    pub(super) fn fill(&self, group: &mut lint::Group) {
        group.tcp_health_check = Some(self.tcp_health_check);
        group.deregistration_delay = self.attributes.deregistration_delay;
        group.connection_termination = self.attributes.connection_termination;
        group.cross_zone = self.reach.cross_zone;
        group.zones = self.reach.zones;
    }
}

/// A group, with AWS's description of it.
type Described<'a> = (&'a GroupKey, DescribedGroup);
/// A load balancer by its ARN, and the role that it is asked about with.
type BalancerKey<'a> = (&'a str, Option<&'a AssumedRole>);

/// Asks about each group and each load balancer once. Returns what is known, and each action that failed.
pub(super) async fn read(
    client: &ElbClient,
    groups: &[Described<'_>],
) -> (BTreeMap<TargetGroupArn, GroupEnds>, Vec<Unread>) {
    let mut failures = Failures::default();
    let all: BTreeMap<BalancerKey<'_>, &GroupKey> = groups.iter().flat_map(balancers).collect();
    let (attributes, balancers) = tokio::join!(
        each(groups.iter(), |(key, _)| client.group_attributes(key)),
        each(all.iter(), |((arn, _), group)| client
            .load_balancer(group, arn)),
    );
    let attributes: Vec<GroupAttributes> = attributes
        .into_iter()
        .map(|read| failures.or_default(read))
        .collect();
    let balancers = balancers
        .into_iter()
        .map(|read| failures.or_default(read).unwrap_or_default());
    let mut balancers: BTreeMap<BalancerKey<'_>, LoadBalancer> =
        all.keys().copied().zip(balancers).collect();

    // Only of these it matters what their own attributes say.
    let inherits = |known: &GroupAttributes| known.cross_zone == Some(CrossZone::Inherited);
    let inheriting = groups.iter().zip(&attributes);
    let inheriting = inheriting.filter(|(_, known)| inherits(known));
    let asked: BTreeMap<BalancerKey<'_>, &GroupKey> = inheriting
        .flat_map(|(group, _)| self::balancers(group))
        .filter(|(key, _)| balancers.get(key).is_some_and(|b| b.cross_zone.is_none()))
        .collect();
    let crossing = each(asked.iter(), |((arn, _), group)| {
        client.load_balancer_crosses_zones(group, arn)
    });
    for (key, read) in asked.keys().zip(crossing.await) {
        if let Some(balancer) = balancers.get_mut(key) {
            balancer.cross_zone = failures.or_default(read);
        }
    }

    let ends = groups.iter().zip(attributes).map(|(group, attributes)| {
        let behind = self::balancers(group).filter_map(|(key, _)| balancers.get(&key).copied());
        let (key, described) = group;
        let ends = GroupEnds {
            tcp_health_check: described.tcp_health_check,
            attributes,
            reach: Reach::of(attributes.cross_zone, &Vec::from_iter(behind)),
        };
        (key.arn.clone(), ends)
    });
    (ends.collect(), failures.told())
}

/// The load balancers that use a group, each with the group.
fn balancers<'a>(
    (key, described): &'a Described<'_>,
) -> impl Iterator<Item = (BalancerKey<'a>, &'a GroupKey)> {
    let arns = described.load_balancers.iter();
    arns.map(move |arn| ((arn.as_str(), key.role.as_ref()), *key))
}

/// Asks about all of them, some at once. The answers have their order.
async fn each<T, F: Future>(all: impl Iterator<Item = T>, ask: impl Fn(T) -> F) -> Vec<F::Output> {
    stream::iter(all.map(ask)).buffered(AT_ONCE).collect().await
}

/// The calls that failed: how many of each action, and the first error.
#[derive(Default)]
struct Failures(BTreeMap<&'static str, (usize, String)>);

impl Failures {
    fn or_default<T: Default>(&mut self, read: Result<T, ElbError>) -> T {
        read.unwrap_or_else(|error| {
            let first = || (0, error.to_string());
            self.0.entry(error.action).or_insert_with(first).0 += 1;
            T::default()
        })
    }

    fn told(self) -> Vec<Unread> {
        let told = self.0.into_iter().map(|(action, (number, first))| Unread {
            what: format!("elasticloadbalancing:{action}"),
            why: match number {
                1 => format!("{first}."),
                _ => format!("{number} calls failed, the first one so: {first}."),
            },
        });
        told.collect()
    }
}
