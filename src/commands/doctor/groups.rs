//! What AWS says of the target groups: reads by trial.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use futures::stream;
use targetgate_core::doctor::{Group, Known};
use targetgate_core::names::GroupKey;
use targetgate_core::reason::Reason;

use crate::aws::client::ElbClient;
use crate::aws::error::ElbErrorKind;
use crate::commands::doctor::objects::Binding;
use crate::commands::explain::elb;

/// At most this many groups are asked about: the burst that `serve` allows itself. Chosen.
const MOST: usize = 40;
/// The calls that are made at once. Chosen.
const AT_ONCE: usize = 8;

/// Asks about the groups of the bindings, if that is wanted and there are any.
pub(super) async fn read(off: bool, bindings: &Known<Vec<Binding>>) -> Known<Vec<Group>> {
    if off {
        return Ok(vec![]);
    }
    let bindings = bindings.as_ref().map_err(Clone::clone)?;
    let groups: BTreeSet<GroupKey> = bindings.iter().filter_map(group).collect();
    if groups.is_empty() {
        return Ok(vec![]);
    }
    let client = elb::client().await?;
    let asked = groups
        .into_iter()
        .take(MOST)
        .map(|group| ask(&client, group));
    Ok(stream::iter(asked).buffered(AT_ONCE).collect().await)
}

fn group(binding: &Binding) -> Option<GroupKey> {
    Some(GroupKey {
        arn: binding.spec.target_group_arn.as_deref()?.parse().ok()?,
        role: binding.spec.role(),
    })
}

async fn ask(client: &ElbClient, group: GroupKey) -> Group {
    let healths = client.target_health(&group, &[]).await;
    let targets = healths.map(|healths| healths.len()).map_err(|error| {
        let reason = match error.kind {
            ElbErrorKind::GroupNotFound => Reason::TargetGroupNotFound,
            ElbErrorKind::Denied | ElbErrorKind::NoCredentials => Reason::AwsDenied,
            _ => Reason::AwsUnavailable,
        };
        (reason, error.to_string())
    });
    Group {
        arn: group.arn,
        targets,
    }
}
