//! The calls of one group: which targets go into the next one, and what a refused call leads to.
//!
//! ELB refuses a whole call for one bad target. A refused call is therefore halved until the bad target stands alone,
//! and that one waits for its own backoff while the others go in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::calls::outbox::words::Words;
use crate::targets::calls::window::Window;
use crate::targets::calls::zones::Zones;
use crate::targets::calls::{Call, CallError, CallErrorKind, Kind, MOST_TARGETS, Named};

mod words;

/// The pause after a call that failed for another reason than a target. Contract 5.7 has the longest.
const FAILED: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The pause after a refusal that does not pass by itself: of a target, a full group, an absent group, or our role.
/// Contract 8 has the longest.
const REFUSED: Backoff = Backoff::new(Duration::from_secs(15), Duration::from_secs(300));

/// The pause after a deregistration that AWS throttled: the pod whose target it is may be serving its last requests.
/// Issue 14 lets the target of a deleted pod wait for two seconds; the budget spreads the calls of all groups.
const DEREGISTRATION_THROTTLED: Backoff =
    Backoff::new(Duration::from_millis(500), Duration::from_secs(2));

/// So many throttled calls in a row are told. Chosen: the pauses before them took seven seconds, and 3.5 where targets
/// go out.
const LASTING: u32 = 4;

/// The calls of one kind of one group.
#[derive(Debug)]
pub struct Outbox {
    kind: Kind,
    window: Option<Window>,
    /// The targets that were to go when it was looked last, with the time since when.
    waiting: BTreeMap<Target, Instant>,
    in_flight: BTreeSet<Target>,
    /// Parts of calls that were refused, to be sent one after the other.
    suspects: VecDeque<Vec<Target>>,
    refused: BTreeMap<Target, Refused>,
    /// Why no call is made at all, until when, and after how many failures.
    paused: Option<(Told, Instant, u32)>,
    words: Words,
    /// That AWS throttles, until when no call is made for it, and after how many such calls in a row.
    throttled: Option<(Told, Instant, u32)>,
    zones: Zones,
    /// Targets whose zone was changed since they went in last.
    rezoned: BTreeSet<Target>,
}

/// A target that ELB refused alone.
#[derive(Debug)]
struct Refused {
    why: Told,
    again: Instant,
    failures: u32,
}

/// Why a target does not go, to be told in ELB's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub reason: Reason,
    pub error: CallError,
}

/// What goes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    pub targets: Vec<Named>,
    /// Since when it could have gone.
    pub since: Instant,
    /// Whether it is a part of a refused call, or one target that was refused before.
    pub again: bool,
}

impl Outbox {
    /// The outbox of a kind of calls, without any.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            window: None,
            waiting: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            suspects: VecDeque::new(),
            refused: BTreeMap::new(),
            paused: None,
            words: Words::default(),
            throttled: None,
            zones: Zones::default(),
            rezoned: BTreeSet::new(),
        }
    }

    /// Takes in which targets are to go now. Forgets all others.
    pub fn wait(&mut self, targets: &[Target], now: Instant) {
        let since = |target: &Target| self.waiting.get(target).copied().unwrap_or(now);
        let waiting: BTreeMap<Target, Instant> = targets.iter().map(|t| (*t, since(t))).collect();
        let is_new = |target: &Target| {
            !self.waiting.contains_key(target) && !self.in_flight.contains(target)
        };
        if waiting.keys().any(is_new) {
            self.window.get_or_insert(Window::new(now)).more(now);
        }
        if waiting.is_empty() {
            self.window = None;
        }
        self.refused
            .retain(|target, _| waiting.contains_key(target));
        self.rezoned.retain(|target| waiting.contains_key(target));
        for part in &mut self.suspects {
            part.retain(|target| waiting.contains_key(target));
        }
        self.suspects.retain(|part| !part.is_empty());
        self.words.retain(|target| waiting.contains_key(target));
        self.waiting = waiting;
        if self
            .paused
            .as_ref()
            .is_some_and(|(_, until, _)| now < *until)
        {
            self.say_of_all();
        }
    }

    /// When the next call may be due; `None` if nothing waits that is not in flight.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let mut free = self
            .waiting
            .keys()
            .filter(|target| !self.in_flight.contains(*target));
        let again = |target: &Target| {
            self.refused
                .get(target)
                .map_or(now, |refused| refused.again)
        };
        let ready = free.clone().map(again).min()?;
        let paused = self.pauses_until().unwrap_or(now);
        let collects = self.window.map_or(now, |window| window.closes(self.kind));
        // A window holds up only the targets for which it was opened.
        let collects = match free.any(|target| self.refused.contains_key(target)) {
            true => now,
            false => collects,
        };
        Some(ready.max(paused).max(collects))
    }

    /// What goes next, out of the targets that wait, in this order; `None` if nothing may go now. `zone` is the zone
    /// that ELB told of a target.
    pub fn next(&self, order: &[Target], now: Instant) -> Option<Next> {
        if self.pauses_until().is_some_and(|until| now < until) {
            return None;
        }
        let free = |target: &&Target| {
            self.waiting.contains_key(*target) && !self.in_flight.contains(*target)
        };
        let suspected: BTreeSet<Target> = self.suspects.iter().flatten().copied().collect();
        let open = self
            .window
            .is_some_and(|window| now < window.closes(self.kind));
        let fresh = order
            .iter()
            .filter(free)
            .filter(|target| !suspected.contains(*target) && !self.refused.contains_key(*target));
        let fresh: Vec<Target> = fresh.take(MOST_TARGETS).copied().collect();
        let full = fresh.len() == MOST_TARGETS;
        if !fresh.is_empty() && (full || !open) && !self.is_crowded() {
            let since = self.window.map_or(now, |window| window.opened());
            return Some(self.named(fresh, since, false));
        }
        let part = self
            .suspects
            .front()
            .filter(|part| part.iter().all(|target| free(&target)));
        if let Some(part) = part {
            return Some(self.named(part.clone(), now, true));
        }
        let again = order.iter().filter(free).find_map(|target| {
            let refused = self
                .refused
                .get(target)
                .filter(|refused| refused.again <= now)?;
            Some((*target, refused.again))
        });
        again.map(|(target, since)| self.named(vec![target], since, true))
    }

    /// Until when no call is made.
    fn pauses_until(&self) -> Option<Instant> {
        let paused = self.paused.as_ref().map(|(_, until, _)| *until);
        paused.max(self.throttled.as_ref().map(|(_, until, _)| *until))
    }

    fn named(&self, targets: Vec<Target>, since: Instant, again: bool) -> Next {
        let zone = |target: &Target| self.zones.of(*target).map(Into::into);
        let named = targets.iter().map(|target| Named {
            target: *target,
            zone: zone(target),
        });
        Next {
            targets: named.collect(),
            since,
            again,
        }
    }

    /// Whether a call was refused because the group is full: until the rest of it is through, no others go, which would
    /// take the room of pods that have been ready for longer.
    fn is_crowded(&self) -> bool {
        let crowded = |why: &Told| why.reason == Reason::GroupFull;
        !self.suspects.is_empty() && self.paused.as_ref().is_some_and(|(why, _, _)| crowded(why))
    }

    /// Takes in that a call was sent.
    pub fn begin(&mut self, call: &Call) {
        let targets = || call.targets.iter().map(|named| named.target);
        self.in_flight.extend(targets());
        let part: Vec<Target> = targets().collect();
        if self.suspects.front() == Some(&part) {
            self.suspects.pop_front();
        }
        let collected = self
            .waiting
            .keys()
            .all(|target| self.in_flight.contains(target));
        let now = call.begun;
        if collected
            || self
                .window
                .is_some_and(|window| window.closes(self.kind) <= now)
        {
            self.window = None;
        }
    }

    /// Takes in how a call ended.
    pub fn ended(&mut self, call: &Call, outcome: Result<(), &CallError>, now: Instant) {
        let targets: Vec<Target> = call.targets.iter().map(|named| named.target).collect();
        for target in &targets {
            self.in_flight.remove(target);
        }
        let Err(error) = outcome else {
            for target in &targets {
                self.refused.remove(target);
                self.rezoned.remove(target);
                self.waiting.remove(target);
                self.words.forget(target);
            }
            (self.paused, self.throttled) = (None, None);
            return;
        };
        if error.kind != CallErrorKind::Throttled {
            self.throttled = None;
        }
        match (error.kind, &targets[..]) {
            (CallErrorKind::Unsent, _) => {}
            (CallErrorKind::Throttled, _) => {
                let before = self.throttled.as_ref();
                let failures = before.map_or(0, |(_, _, failures)| *failures) + 1;
                let (reason, error) = (Reason::CallRefused, error.clone());
                let pause = match self.kind {
                    Kind::Register => FAILED,
                    Kind::Deregister => DEREGISTRATION_THROTTLED,
                };
                let until = now + pause.after(failures);
                self.throttled = Some((Told { reason, error }, until, failures));
            }
            (CallErrorKind::Target, [alone]) => self.refuse(*alone, error, now),
            (CallErrorKind::TooManyTargets, [_]) => {
                // Once there is room, the pods that have been ready longest go first again.
                self.suspects.clear();
                self.pause(Reason::GroupFull, error, now);
            }
            (CallErrorKind::Target, _) => self.halve(targets),
            (CallErrorKind::TooManyTargets, _) => {
                self.halve(targets);
                self.crowd(error, now);
            }
            (CallErrorKind::GroupNotFound, _) => {
                self.pause(Reason::TargetGroupNotFound, error, now);
            }
            (CallErrorKind::Denied | CallErrorKind::Other, _) => {
                self.pause(Reason::CallRefused, error, now);
            }
        }
    }

    /// Puts both halves of a refused call in front, in order.
    fn halve(&mut self, mut targets: Vec<Target>) {
        let second = targets.split_off(targets.len().div_ceil(2));
        self.suspects.push_front(second);
        self.suspects.push_front(targets);
    }

    fn refuse(&mut self, target: Target, error: &CallError, now: Instant) {
        // A zone is changed once for a target; if that is refused as well, ELB contradicts itself.
        if self.kind == Kind::Register
            && self.zones.learn(target, &error.message)
            && self.rezoned.insert(target)
        {
            return self.suspects.push_front(vec![target]);
        }
        self.rezoned.remove(&target);
        let failures = self
            .refused
            .get(&target)
            .map_or(0, |refused| refused.failures)
            + 1;
        let why = Told {
            reason: Reason::TargetRefused,
            error: error.clone(),
        };
        let again = now + REFUSED.after(failures);
        self.words.say(target, why.clone());
        let refused = Refused {
            why,
            again,
            failures,
        };
        self.refused.insert(target, refused);
    }

    fn pause(&mut self, reason: Reason, error: &CallError, now: Instant) {
        let before = self
            .paused
            .as_ref()
            .filter(|(why, _, _)| why.reason == reason);
        let failures = before.map_or(0, |(_, _, failures)| *failures) + 1;
        let backoff = match error.kind {
            CallErrorKind::Other => FAILED,
            _ => REFUSED,
        };
        let error = error.clone();
        let until = now + backoff.after(failures);
        self.paused = Some((Told { reason, error }, until, failures));
        self.say_of_all();
    }

    /// Notes that the group is full, without a pause: a smaller call may fit.
    fn crowd(&mut self, error: &CallError, now: Instant) {
        let before = self
            .paused
            .as_ref()
            .filter(|(why, _, _)| why.reason == Reason::GroupFull);
        let failures = before.map_or(0, |(_, _, failures)| *failures);
        let (reason, error) = (Reason::GroupFull, error.clone());
        self.paused = Some((Told { reason, error }, now, failures));
    }

    /// Makes calls at once again that were made as a role that was refused.
    pub fn try_again(&mut self, now: Instant) {
        if let Some((_, until, _)) = &mut self.paused {
            *until = now;
        }
    }

    /// Takes in that targets have left the group, so that there is room.
    pub fn has_room(&mut self, now: Instant) {
        if let Some((why, until, _)) = &mut self.paused
            && why.reason == Reason::GroupFull
        {
            *until = now;
        }
    }

    /// Why a target does not go in; `None` if it is merely on its way.
    pub fn why(&self, target: &Target) -> Option<&Told> {
        let refused = self.refused.get(target).map(|refused| &refused.why);
        refused.or_else(|| self.paused.as_ref().map(|(why, _, _)| why))
    }

    /// Why no call is made for what waits, or the last one failed. Throttling is told once it lasts, because a rollout of
    /// many groups leads to some.
    pub fn paused(&self) -> Option<&Told> {
        let throttled = self.throttled.as_ref();
        let lasts = throttled.filter(|(_, _, failures)| *failures >= LASTING);
        let told = self.paused.as_ref().or(lasts);
        let told = told.filter(|_| !self.waiting.is_empty());
        told.map(|(why, _, _)| why)
    }

    /// The targets that ELB refused alone.
    pub fn refused(&self) -> impl Iterator<Item = (&Target, &Told)> {
        self.refused
            .iter()
            .map(|(target, refused)| (target, &refused.why))
    }

    /// Since when a target has waited; `None` for one that does not, or that ELB has refused alone.
    pub fn since(&self, target: &Target) -> Option<Instant> {
        let waiting = self.waiting.get(target);
        waiting
            .filter(|_| !self.refused.contains_key(target))
            .copied()
    }

    /// Whether a target is in a call that has not ended.
    pub fn is_in_flight(&self, target: &Target) -> bool {
        self.in_flight.contains(target)
    }

    /// Whether any call has not ended.
    pub fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
    }
}

#[cfg(test)]
mod tests;
