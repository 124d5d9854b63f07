//! What is seen of the ends of pods whose gates were open: how long after a pod's deletion ELB says that it drains the
//! target, and which pods ended sooner than their load balancer needs to stop sending (contract 9).
//!
//! A pod is followed from the first sight of its deletion, by the monotonic clock. The wall clock has one say: where
//! it says that a pod lived longer, as after a watch that was late, the pod did not end early. A pod that was
//! terminating at our first sight of it is not followed, and an end that nobody saw says nothing. Time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::drain::{DrainSeconds, LoadBalancerKind};
use crate::endings::looks::Looks;
use crate::endings::pod::Followed;
use crate::gates::condition::is_registered;
use crate::lint::Finding;
use crate::model::{Pod, TargetHealth};
use crate::names::GroupKey;

mod looks;
mod pod;
#[cfg(test)]
mod tests;

pub use crate::endings::looks::Look;
pub use crate::endings::pod::EndingTarget;

/// At most this many pods are followed at once; further ones are not. Chosen: they hold a few MB.
const MOST: usize = 2000;
/// Pods that are over are forgotten so often. Chosen: it costs a walk over all that are followed.
const EVERY: Duration = Duration::from_secs(1);

/// How the ends of pods are measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// How long each kind of load balancer needs until it stops sending (`--drain-seconds`).
    pub seconds: DrainSeconds,
    /// Whether ELB is asked for the measurement alone (`--measure-drain`).
    pub measure: bool,
}

/// A target that ELB said it drains, or does not have any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deregistered {
    pub kind: LoadBalancerKind,
    /// The time from the first sight of the pod's deletion until the first answer that shows it.
    pub after: Duration,
}

/// A pod that ended sooner than its load balancer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedEarly {
    pub pod: Arc<Pod>,
    pub kind: LoadBalancerKind,
    pub finding: Finding,
}

/// The pods that end, or ended lately.
#[derive(Debug)]
pub struct Endings {
    settings: Settings,
    /// By UID.
    pods: BTreeMap<Arc<str>, Followed>,
    /// The pods of each group whose targets ELB has not shown to drain.
    by_group: BTreeMap<GroupKey, BTreeSet<Arc<str>>>,
    looks: Looks,
    forgot_at: Option<Instant>,
}

impl Endings {
    /// None yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            pods: BTreeMap::new(),
            by_group: BTreeMap::new(),
            looks: Looks::default(),
            forgot_at: None,
        }
    }

    /// This replica begins to lead: nobody has asked ELB about the targets of pods that end already.
    pub fn lead(&mut self) {
        self.pods.values_mut().for_each(Followed::give_up);
        self.by_group.clear();
    }

    /// Takes in the first sight of a pod's deletion, which the API server took in at `requested`. `targets` are those
    /// for which its gates were open.
    ///
    /// A pod whose containers were not ready was in no load balancer's rotation by then.
    pub fn begin(
        &mut self,
        pod: &Arc<Pod>,
        targets: Vec<EndingTarget>,
        requested: Option<Timestamp>,
        now: Instant,
    ) {
        let full = self.pods.len() >= MOST || self.pods.contains_key(&pod.uid);
        let targets = distinct(targets);
        if full || targets.is_empty() || pod.containers_ready.is_none() {
            return;
        }
        for target in &targets {
            let of_group = self.by_group.entry(target.group.clone()).or_default();
            of_group.insert(pod.uid.clone());
        }
        let followed = Followed::new(pod.clone(), targets, requested, now);
        self.pods.insert(pod.uid.clone(), followed);
    }

    /// Takes in that a pod has ended. Returns it if that was sooner than its load balancer needs. `wall` is the same
    /// moment as `now` on the wall clock.
    pub fn end(&mut self, pod: &Pod, now: Instant, wall: Timestamp) -> Option<EndedEarly> {
        let followed = self.pods.get_mut(&pod.uid)?;
        followed.end(&self.settings.seconds, now, wall)
    }

    /// Takes in that a pod is gone, and nobody saw when.
    pub fn miss(&mut self, pod: &Pod) {
        self.forget(&pod.uid);
    }

    /// Takes in an answer of ELB about a group, to a call that was sent at `requested` and named these targets, or none
    /// for the whole group. Only a call that was sent after a deletion was seen says something of it.
    pub fn answered(
        &mut self,
        group: &GroupKey,
        named: &BTreeSet<(IpAddr, u16)>,
        answer: &[TargetHealth],
        requested: Instant,
        now: Instant,
    ) -> Vec<Deregistered> {
        let Some(uids) = self.by_group.get_mut(group) else {
            return vec![];
        };
        let registered = answer.iter().filter(|health| is_registered(Some(health)));
        let registered: BTreeSet<(IpAddr, u16)> = registered.map(|health| health.target).collect();
        let drains = |target: &(IpAddr, u16)| {
            let is_about = named.is_empty() || named.contains(target);
            is_about.then(|| !registered.contains(target))
        };
        let mut deregistered = vec![];
        uids.retain(|uid| {
            let Some(followed) = self.pods.get_mut(uid) else {
                return false;
            };
            deregistered.extend(followed.see(group, drains, requested, now));
            followed.awaits(group)
        });
        if uids.is_empty() {
            self.by_group.remove(group);
        }
        deregistered
    }

    /// The call to make for the measurement alone; the error is when to ask again, `None` while there is nothing to
    /// measure.
    ///
    /// # Errors
    /// No call is due.
    pub fn next_look(&mut self, now: Instant) -> Result<Look, Option<Instant>> {
        self.forget_old(now);
        if !self.settings.measure {
            return Err(None);
        }
        let group = self.looks.next(&self.by_group, now)?;
        let uids = self.by_group.get(&group).into_iter().flatten();
        let followed = uids.filter_map(|uid| self.pods.get(uid));
        let targets = followed.flat_map(|followed| followed.awaited(&group));
        Ok(Look::new(group.clone(), targets))
    }

    /// Notes that a call was sent.
    pub fn begin_look(&mut self, look: &Look, now: Instant) {
        self.looks.begin(&look.group, now);
    }

    /// Puts a call off that the budget does not allow, so that it is another group's turn.
    pub fn put_off_look(&mut self, look: &Look, now: Instant) {
        self.looks.put_off(&look.group, now);
    }

    /// Notes that the call was answered, or failed.
    pub fn end_look(&mut self, look: &Look, failed: bool, now: Instant) {
        self.looks.end(&look.group, failed, now);
    }

    /// Forgets the pods of which nothing more will be learnt.
    pub fn forget_old(&mut self, now: Instant) {
        if self.forgot_at.is_some_and(|at| now < at + EVERY) {
            return;
        }
        self.forgot_at = Some(now);
        let seconds = &self.settings.seconds;
        let over = |(uid, followed): (&Arc<str>, &Followed)| {
            followed.is_over(seconds, now).then(|| uid.clone())
        };
        let over: Vec<Arc<str>> = self.pods.iter().filter_map(over).collect();
        over.iter().for_each(|uid| self.forget(uid));
        self.looks.retain(&self.by_group);
    }

    fn forget(&mut self, uid: &Arc<str>) {
        let Some(followed) = self.pods.remove(uid) else {
            return;
        };
        for target in &followed.targets {
            if let Some(of_group) = self.by_group.get_mut(&target.group) {
                of_group.remove(uid);
                if of_group.is_empty() {
                    self.by_group.remove(&target.group);
                }
            }
        }
    }
}

/// Each target once: bindings of both API groups can lead to the same.
fn distinct(targets: Vec<EndingTarget>) -> Vec<EndingTarget> {
    let mut known = BTreeSet::new();
    let mut is_new = |target: &EndingTarget| known.insert((target.group.clone(), target.target));
    targets
        .into_iter()
        .filter(|target| is_new(target))
        .collect()
}
