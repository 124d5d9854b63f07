//! Asks ELB about targets, by a look of the command's own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::StreamExt as _;
use futures::stream;
use targetgate_core::elb::query::GroupSelector;
use targetgate_core::explain::{Elb, Facts, GroupLook, Looks, Questions};
use targetgate_core::gates::requirements::Resolution;
use targetgate_core::names::{GroupKey, NamedGroup};
use tokio::sync::OnceCell;

use crate::aws::client::ElbClient;
use crate::aws::error::ElbErrorKind;
use crate::commands::elb;

/// At most this many groups are asked about, and as many names resolved: the burst that `serve` allows itself. Chosen.
const MOST: usize = 40;
/// The calls that are made at once. Chosen.
const AT_ONCE: usize = 8;
/// A call names at most this many targets; about more it asks for the whole group. Chosen.
const NAMED: usize = 50;

/// Asks ELB, if that is wanted and there are credentials.
pub(super) struct Asker {
    /// Not wanted.
    off: bool,
    /// The client; the error is why there is none.
    client: OnceCell<Result<ElbClient, String>>,
}

impl Asker {
    pub(super) fn new(off: bool) -> Self {
        Self {
            off,
            client: OnceCell::new(),
        }
    }

    /// Asks what is to be asked, and puts the answers among the facts: first which groups the names stand for, then
    /// about the groups.
    pub(super) async fn ask(&self, facts: &mut Facts, questions: impl Fn(&Facts) -> Questions) {
        if self.off {
            facts.elb = Elb::NotAsked("--no-aws".to_owned());
            return;
        }
        if questions(facts) == Questions::default() {
            return;
        }
        let client = match self.client.get_or_init(client).await {
            Ok(client) => client,
            Err(why) => {
                facts.elb = Elb::NotAsked(why.clone());
                return;
            }
        };
        let names = questions(facts).names.into_iter().take(MOST);
        let resolved = stream::iter(names.map(|name| resolve(client, name)));
        let names = resolved.buffer_unordered(AT_ONCE).collect().await;
        facts.elb = Elb::Asked(Looks {
            names,
            ..Looks::default()
        });
        let asked = questions(facts).groups;
        let left_out = asked.len().saturating_sub(MOST);
        let asked = asked.into_iter().take(MOST);
        let looked = asked.map(|(group, targets)| look(client, group, targets));
        let groups = stream::iter(looked)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        if let Elb::Asked(looks) = &mut facts.elb {
            looks.groups = groups;
            looks.left_out = left_out;
        }
    }
}

/// A client of ELB by the credentials that are found; the error is why there is none.
async fn client() -> Result<ElbClient, String> {
    elb::config().await.map(elb::client_of)
}

async fn resolve(client: &ElbClient, name: NamedGroup) -> (NamedGroup, Resolution) {
    let selectors = [GroupSelector::Name(name.name.to_string())];
    let described = client.target_groups(None, name.role.as_ref(), &selectors);
    let resolution = match described.await {
        Ok(groups) => groups
            .into_iter()
            .next()
            .map_or(Resolution::NotFound, |group| Resolution::Found(group.arn)),
        Err(error) if error.kind == ElbErrorKind::GroupNotFound => Resolution::NotFound,
        Err(_) => Resolution::Unresolved,
    };
    (name, resolution)
}

async fn look(
    client: &ElbClient,
    group: GroupKey,
    targets: BTreeSet<(IpAddr, u16)>,
) -> (GroupKey, GroupLook) {
    let mut named: Vec<(IpAddr, u16)> = targets.into_iter().collect();
    if named.len() > NAMED {
        named.clear();
    }
    let mut answer = client.target_health(&group, &named).await;
    // One target that is impossible in the group fails a call that names it.
    let invalid = matches!(&answer, Err(error) if error.kind == ElbErrorKind::Invalid);
    if invalid && !named.is_empty() {
        answer = client.target_health(&group, &[]).await;
    }
    let look = match answer {
        Ok(healths) => GroupLook::Healths(healths),
        Err(error) if error.kind == ElbErrorKind::GroupNotFound => GroupLook::NotFound,
        Err(error) => GroupLook::Failed(error.to_string()),
    };
    (group, look)
}
