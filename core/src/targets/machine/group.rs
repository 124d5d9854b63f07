//! One group: what ELB answered about it, its calls, and what its floor holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::gates::refusals::Refused;
use crate::model::TargetState;
use crate::names::GroupKey;
use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::calls::outbox::{Next, Outbox};
use crate::targets::calls::{Call, CallError, CallErrorKind, Kind};
use crate::targets::difference::{Difference, Listed, Listing, Scene};
use crate::targets::floor::{Floor, Verdict};
use crate::targets::machine::action::Counts;
use crate::targets::removals::{Removals, SETTLING};
use crate::targets::wanted::GroupWants;

mod verdict;

pub(super) use verdict::words_of;

/// Nothing leaves for its absence before a second answer, so long after the first of this leadership. Contract 8.
const SECOND_LOOK: Duration = Duration::from_secs(10);
/// The floor is judged by an answer that was requested within this time. Chosen, as the second look.
const FRESH: Duration = Duration::from_secs(10);
/// While the floor holds something, ELB is asked so often. Chosen: a pod takes longer to become healthy.
const WHILE_HELD: Duration = Duration::from_secs(5);
/// A group in which nothing is to be done is looked at so often. The bound of repairs by hand.
const IDLE: Duration = Duration::from_secs(60);
/// The pause after a description that failed. Contract 5.7 has the longest.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// How long ELB's answer about an idle group counts, if so many groups are looked at: many idle ones cost one call a
/// second together.
pub(super) fn idle(groups: usize) -> Duration {
    let seconds = u64::try_from(groups).unwrap_or(u64::MAX);
    IDLE.max(Duration::from_secs(seconds))
}

/// What we know of one group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// ELB's last answer, and when it was requested.
    pub(super) described: Option<(Listing, Instant)>,
    /// Since when the watches and the records of this leadership are known, so that answers count.
    counts_from: Option<Instant>,
    describing: bool,
    failures: u32,
    /// Why ELB did not answer the last time.
    undescribed: Option<CallError>,
    describe_at: Instant,
    /// Whether AWS does not have the group.
    pub(super) gone: bool,
    pub(super) ended: BTreeSet<Target>,
    /// Targets that left before the second look of this leadership. A late call of the former leader may put them in
    /// again, so the records go on naming them until that look.
    early: BTreeSet<Target>,
    /// Targets that are out of the group, to be taken out of the records.
    out: BTreeSet<Target>,
    /// Targets of registrations whose end is not known, until when they may still come in.
    uncertain: BTreeMap<Target, Instant>,
    removals: Removals,
    /// The target that something else removed last for the third time.
    fought: Option<Target>,
    floor: Floor,
    pub(super) register: Outbox,
    pub(super) deregister: Outbox,
    /// What is to go, in the order in which it goes.
    order: Vec<Target>,
    leaving: Vec<Target>,
    at_once: BTreeSet<Target>,
    /// When a target may be registered that something else has removed, or whose registration does not show yet.
    retry: Option<Instant>,
    pub(super) counts: Counts,
    /// What its bindings are told.
    pub(super) verdict: Option<(bool, Reason, String)>,
    /// What the gates were told of targets that AWS does not take.
    refused: Refused,
}

/// What decides about a group, besides ELB's answer.
pub(super) struct Inputs<'a> {
    pub(super) wants: &'a GroupWants,
    /// The wanted targets that an active binding wants.
    pub(super) registrable: &'a BTreeSet<Target>,
    pub(super) recorded: &'a BTreeSet<Target>,
    pub(super) given_up: &'a BTreeSet<Target>,
    /// Whether any binding of the group is active.
    pub(super) is_active: bool,
    /// Whether anything may leave: all watches have synced, and the records were read.
    pub(super) may_leave: bool,
    /// Whether something may leave for its absence.
    pub(super) is_settled: bool,
}

impl Group {
    pub(super) fn new(key: GroupKey, now: Instant) -> Self {
        Self {
            key,
            described: None,
            counts_from: None,
            describing: false,
            failures: 0,
            undescribed: None,
            describe_at: now,
            gone: false,
            ended: BTreeSet::new(),
            early: BTreeSet::new(),
            out: BTreeSet::new(),
            uncertain: BTreeMap::new(),
            removals: Removals::default(),
            fought: None,
            floor: Floor::default(),
            register: Outbox::new(Kind::Register),
            deregister: Outbox::new(Kind::Deregister),
            order: vec![],
            leaving: vec![],
            at_once: BTreeSet::new(),
            retry: None,
            counts: Counts::default(),
            verdict: None,
            refused: Refused::new(),
        }
    }

    /// A leadership begins: the gates know nothing yet of what AWS does not take.
    pub(super) fn tell_anew(&mut self) {
        self.refused.clear();
    }

    /// A leadership begins, or the incumbent let go of a binding: what was seen before does not count.
    pub(super) fn look_anew(&mut self, now: Instant) {
        (self.described, self.counts_from) = (None, None);
        self.describe_at = now;
    }

    /// Calls are made with another role from now on, which AWS may let in.
    pub(super) fn take_role(&mut self, key: &GroupKey, now: Instant) {
        self.key = key.clone();
        self.describe_by(now);
        self.register.try_again(now);
        self.deregister.try_again(now);
    }

    /// Works out what is to go in and out. Returns the targets to be recorded that are registered already.
    pub(super) fn settle(
        &mut self,
        inputs: &Inputs<'_>,
        is_held: impl Fn(IpAddr) -> bool,
        now: Instant,
    ) -> BTreeSet<Target> {
        match inputs.may_leave {
            false => self.counts_from = None,
            true if self.counts_from.is_none() => {
                self.counts_from = Some(now);
                self.describe_by(now + SECOND_LOOK);
            }
            true => {}
        }
        let wanted = &inputs.wants.wanted;
        self.look_again();
        self.early.retain(|target| !wanted.contains_key(target));
        self.uncertain.retain(|_, until| *until > now);
        let nothing = Listing::new();
        let listing = self
            .described
            .as_ref()
            .map_or(&nothing, |(listing, _)| listing);
        let scene = Scene {
            wants: inputs.wants,
            recorded: inputs.recorded,
            listing,
            ended: &self.ended,
            given_up: inputs.given_up,
        };
        let difference = Difference::of(scene, &is_held);
        let above = &difference.leave_above_floor;
        // Without an answer no target is known to be healthy, and the floor would count from none.
        let verdict = match &self.described {
            Some((listing, _)) => self.floor.judge(above, inputs.wants, listing, &is_held),
            None => Verdict::Leave,
        };
        let missing: BTreeSet<Target> = difference.register.iter().copied().collect();
        self.order = difference.register;
        let removals = &self.removals;
        let pauses = self
            .order
            .iter()
            .filter_map(|target| removals.not_before(target, now));
        self.retry = pauses.min();
        // What is registered already is not sent again, unless ELB does not say.
        let is_known = self.described.is_some() || self.failures > 0;
        self.order.retain(|target| {
            is_known
                && inputs.registrable.contains(target)
                && removals.not_before(target, now).is_none()
                && !self.deregister.is_in_flight(target)
        });
        let twice = self.is_compared_twice() && inputs.is_settled;
        let leaves = twice && self.is_fresh(now) && verdict == Verdict::Leave;
        self.at_once = difference.leave_at_once;
        self.leaving = self.at_once.iter().copied().collect();
        if leaves {
            self.leaving.extend(above);
        }
        let may_leave = inputs.may_leave && (self.described.is_some() || self.gone);
        self.leaving.retain(|target| {
            may_leave
                && !self.register.is_in_flight(target)
                && !self.uncertain.contains_key(target)
                && !self.early.contains(target)
        });
        self.register.wait(&self.order, now);
        self.deregister.wait(&self.leaving, now);
        let held = !above.is_empty() && verdict != Verdict::Leave;
        if !above.is_empty() && !self.is_fresh(now) {
            self.describe_by(now);
        }
        if held && let Some((_, requested)) = &self.described {
            self.describe_by(*requested + WHILE_HELD);
        }
        self.count(
            inputs,
            &missing,
            if held { above.len() } else { 0 },
            difference.foreign.len(),
        );
        self.judge(inputs, verdict, held, &difference.foreign);
        difference.adopt
    }

    /// Tells at the second look which of the targets that left before are out, and which are in again.
    fn look_again(&mut self) {
        let Some((listing, _)) = self.described.as_ref().filter(|_| self.is_compared_twice())
        else {
            return;
        };
        let is_in = |target: &Target| listing.get(target).is_some_and(Listed::is_registered);
        let (again, out): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.early).into_iter().partition(is_in);
        self.ended.extend(again);
        self.out.extend(out);
    }

    /// Takes the targets that are out of the group, and no longer to be recorded.
    pub(super) fn take_out(&mut self) -> BTreeSet<Target> {
        std::mem::take(&mut self.out)
    }

    fn is_compared_twice(&self) -> bool {
        let last = self.described.as_ref().map(|(_, requested)| *requested);
        let both = self.counts_from.zip(last);
        both.is_some_and(|(from, last)| last >= from + SECOND_LOOK)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let described = self.described.as_ref();
        described.is_some_and(|(_, requested)| now < *requested + FRESH)
    }

    /// Asks ELB again by then, if not earlier.
    fn describe_by(&mut self, at: Instant) {
        self.describe_at = self.describe_at.min(at);
    }

    /// When ELB is to be asked about the group; `None` while a call is under way.
    pub(super) fn describe_at(&self) -> Option<Instant> {
        (!self.describing).then_some(self.describe_at)
    }

    pub(super) fn begin_describing(&mut self) {
        self.describing = true;
    }

    /// Takes in ELB's answer about the whole group. If it is idle, ELB is asked again after `idle`.
    pub(super) fn described(
        &mut self,
        answer: Result<Listing, &CallError>,
        requested: Instant,
        idle: Duration,
        now: Instant,
    ) {
        self.describing = false;
        let listing = match answer {
            Ok(listing) => listing,
            Err(error) => {
                self.gone = error.kind == CallErrorKind::GroupNotFound;
                self.failures += 1;
                self.undescribed = Some(error.clone());
                self.describe_at = now + AGAIN.after(self.failures);
                return;
            }
        };
        // An answer that was requested before the last one is older, however late it comes.
        if self
            .described
            .as_ref()
            .is_some_and(|(_, last)| requested < *last)
        {
            return;
        }
        (self.failures, self.gone, self.undescribed) = (0, false, None);

        let fights = self.removals.described(&listing, requested, now);
        self.fought = fights.first().copied().or(self.fought);
        let second = self.counts_from.map(|from| from + SECOND_LOOK);
        let second = second.filter(|second| requested < *second);
        self.describe_at = second.unwrap_or(now + idle);
        self.described = Some((listing, requested));
    }

    /// What goes out, or in, next.
    pub(super) fn next(&self, kind: Kind, now: Instant) -> Option<Next> {
        match kind {
            Kind::Register => self.register.next(&self.order, now),
            Kind::Deregister => {
                let mut next = self.deregister.next(&self.leaving, now)?;
                let listing = self.described.as_ref().map(|(listing, _)| listing);
                for named in &mut next.targets {
                    let listed = listing.and_then(|listing| listing.get(&named.target));
                    named.zone = listed.and_then(|listed| listed.zone.clone());
                }
                Some(next)
            }
        }
    }

    /// Whether a call carries a target whose pod has ended, so that it goes before all others.
    pub(super) fn is_urgent(&self, next: &Next) -> bool {
        next.targets
            .iter()
            .any(|named| self.ended.contains(&named.target))
    }

    pub(super) fn begin(&mut self, call: &Call) {
        match call.kind {
            Kind::Register => self.register.begin(call),
            Kind::Deregister => {
                for named in &call.targets {
                    self.removals.deregistered(&named.target);
                }
                self.deregister.begin(call);
            }
        }
    }

    /// Takes in how a call ended. Returns the targets that are out of the group.
    pub(super) fn called(
        &mut self,
        call: &Call,
        outcome: Result<(), &CallError>,
        wants: &GroupWants,
        now: Instant,
    ) -> BTreeSet<Target> {
        let targets: BTreeSet<Target> = call.targets.iter().map(|named| named.target).collect();
        let absent = |target: &Target| {
            let listing = self.described.as_ref().map(|(listing, _)| listing);
            listing.is_some_and(|listing| !listing.contains_key(target))
        };
        // ELB may refuse to deregister what is not there.
        let refused_as_absent = call.kind == Kind::Deregister
            && targets.len() == 1
            && targets.iter().all(absent)
            && outcome.is_err_and(|error| error.kind == CallErrorKind::Target);
        let gone = outcome.is_err_and(|error| error.kind == CallErrorKind::GroupNotFound);
        self.gone |= gone;
        let outcome = if refused_as_absent { Ok(()) } else { outcome };
        match call.kind {
            Kind::Register => {
                self.register.ended(call, outcome, now);
                match outcome {
                    Ok(()) => {
                        for target in &targets {
                            self.removals.registered(*target, now);
                        }
                        self.describe_by(now + SETTLING);
                    }
                    Err(error) if error.kind == CallErrorKind::Other => {
                        self.uncertain
                            .extend(targets.iter().map(|t| (*t, now + SETTLING)));
                    }
                    Err(_) => {}
                }
                BTreeSet::new()
            }
            Kind::Deregister => {
                self.deregister.ended(call, outcome, now);
                if outcome.is_err() && !gone {
                    return BTreeSet::new();
                }
                let above: BTreeSet<Target> = &targets - &self.at_once;
                self.floor.left(&above, wants);
                self.register.has_room(now);
                if let Some((listing, _)) = &mut self.described {
                    for target in &targets {
                        let listed = listing.get_mut(target);
                        if let Some(listed) = listed {
                            listed.state = TargetState::Draining;
                        }
                    }
                }
                self.ended.retain(|target| !targets.contains(target));
                if !gone && !self.is_compared_twice() {
                    self.early.extend(targets);
                    return BTreeSet::new();
                }
                targets
            }
        }
    }

    /// When something may be due that no news brings.
    pub(super) fn wake(&self, now: Instant) -> Option<Instant> {
        let calls = [self.register.due(now), self.deregister.due(now)];
        let uncertain = self.uncertain.values().min().copied();
        calls
            .into_iter()
            .chain([uncertain, self.retry])
            .flatten()
            .min()
    }
}
