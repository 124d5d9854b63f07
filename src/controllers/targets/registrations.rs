//! What the registrar tells the health loop: ELB's answers to its own calls about whole groups, so that one look serves
//! both, which targets went in, what AWS says of those that it does not take, and its Events, of which all together are
//! bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use targetgate_core::gates::refusals::Refused;
use targetgate_core::model::TargetHealth;
use targetgate_core::names::{GroupKey, TargetGroupArn};
use targetgate_core::notices::{AllFound, Found, Topic};
use tokio::sync::Notify;

/// What the health loop has not taken yet, at most one answer and one set of targets for each group; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Registrations(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    untaken: Mutex<Untaken>,
    told: Notify,
}

/// What the registrar told since it was last taken.
#[derive(Debug, Default, PartialEq)]
pub struct Untaken {
    /// Whether what was refused before counts no more, because the registrar began to lead or ceased to.
    pub anew: bool,
    /// The last answer about each group, with when it was requested.
    pub answers: BTreeMap<GroupKey, (Instant, Vec<TargetHealth>)>,
    pub registered: BTreeMap<TargetGroupArn, BTreeSet<(IpAddr, u16)>>,
    pub refused: BTreeMap<TargetGroupArn, Refused>,
    /// What is to be told by Events, the last words of each topic.
    pub notices: AllFound,
}

impl Registrations {
    /// Hands over what ELB answered about a whole group to a call that was sent at `requested`.
    pub fn described(&self, group: &GroupKey, requested: Instant, targets: Vec<TargetHealth>) {
        self.tell(|untaken| {
            untaken.answers.insert(group.clone(), (requested, targets));
        });
    }

    /// ELB took targets into a group.
    pub fn registered(&self, group: &TargetGroupArn, targets: BTreeSet<(IpAddr, u16)>) {
        self.tell(|untaken| {
            let of_group = untaken.registered.entry(group.clone()).or_default();
            of_group.extend(targets);
        });
    }

    /// The targets of a group that AWS does not take, all of them.
    pub fn refused(&self, group: &TargetGroupArn, targets: Refused) {
        self.tell(|untaken| _ = untaken.refused.insert(group.clone(), targets));
    }

    /// Something is to be told by an Event.
    pub fn noticed(&self, topic: Topic, found: Found) {
        self.tell(|untaken| _ = untaken.notices.insert(topic, found));
    }

    /// The registrar begins to lead, or ceases to.
    pub fn begin_anew(&self) {
        self.tell(|untaken| {
            *untaken = Untaken {
                anew: true,
                ..Untaken::default()
            };
        });
    }

    fn tell(&self, news: impl FnOnce(&mut Untaken)) {
        news(&mut self.0.untaken.lock());
        self.0.told.notify_one();
    }

    /// Takes what was told.
    pub fn take(&self) -> Untaken {
        std::mem::take(&mut self.0.untaken.lock())
    }

    /// Returns once there may be something to take. Supports one waiter.
    pub async fn told(&self) {
        self.0.told.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use targetgate_core::gates::refusals::Refusal;
    use targetgate_core::reason::Reason;

    use super::*;

    fn group() -> GroupKey {
        let arn =
            "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/web/0123456789abcdef";
        GroupKey {
            arn: arn.parse().unwrap(),
            role: None,
        }
    }

    #[tokio::test]
    async fn the_last_answer_and_all_registrations_of_a_group_are_taken_once() {
        let (told, group, at) = (Registrations::default(), group(), Instant::now());
        let target = |last: u8| (IpAddr::from([10, 0, 0, last]), 80);
        told.described(&group, at, vec![]);
        told.described(&group, at + Duration::from_secs(1), vec![]);
        told.registered(&group.arn, [target(1)].into());
        told.registered(&group.arn, [target(2)].into());
        told.told().await;
        let taken = told.take();
        assert_eq!(taken.answers[&group].0, at + Duration::from_secs(1));
        assert_eq!(taken.registered[&group.arn], [target(1), target(2)].into());
        assert_eq!(told.take(), Untaken::default());
    }

    #[test]
    fn what_a_former_leadership_refused_is_forgotten() {
        let (told, group) = (Registrations::default(), group());
        let refusal = Refusal::new(Reason::GroupFull, "full");
        let refused = [((IpAddr::from([10, 0, 0, 1]), 80), refusal)].into();
        told.refused(&group.arn, refused);
        told.begin_anew();
        let taken = told.take();
        assert!(taken.anew && taken.refused.is_empty());
    }
}
