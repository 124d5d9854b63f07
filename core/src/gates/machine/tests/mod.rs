//! The tracker, fed by hand with each event that can happen to a gate.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::fixtures::{arn, binding, epoch, pod, service};
use crate::gates::machine::Tracker;
use crate::gates::machine::action::{
    Action, CallFailure, Change, GateId, LiveRead, Settings, Write, WriteOutcome,
};
use crate::gates::polling::queue::{Call, NextPoll};
use crate::index::{BindingKey, Index, Listing};
use crate::model::{Binding, Condition, HealthChecks, Pod, Service, TargetHealth, TargetState};
use crate::names::{BindingApi, GroupKey, ObjectKey, TargetGroupArn};

const S: Duration = Duration::from_secs(1);
const ORPHAN_AFTER: Duration = Duration::from_secs(300);
const WALL: &str = "2026-11-21T09:00:00Z";

mod absences;
mod accounts;
mod flips;
mod follow;
mod known;
mod large;
mod leading;
mod moved;
mod names;
mod pace;
mod policies;
mod queue;
mod registrations;
mod schedule;
mod terminating;
mod trust;
mod waiting;
mod writes;

/// A tracker, the index that it reads, and a clock that only [`World::pass`] moves.
struct World {
    index: Index,
    tracker: Tracker,
    begun: Instant,
    now: Instant,
    actions: Vec<Action>,
}

impl World {
    /// A namespace in which Service `web` is bound to group `web`.
    fn new() -> Self {
        let mut world = Self::empty();
        world.serve(web_service());
        world.bind(binding("web"));
        world
    }

    fn empty() -> Self {
        let now = epoch();
        let mut world = Self {
            index: Index::default(),
            tracker: Tracker::new(Settings {
                apis: vec![BindingApi::Elbv2],
                orphan_after: ORPHAN_AFTER,
                seed: 1,
            }),
            begun: now,
            now,
            actions: vec![],
        };
        // The first list of pods is over: it found none.
        world.index.retain_pods(&Listing::default());
        world.lead();
        world
    }

    fn lead(&mut self) {
        self.actions.extend(self.tracker.lead(self.now));
    }

    fn serve(&mut self, service: Service) {
        self.index.apply_service(&key("web"), service);
        self.settle();
    }

    fn bind(&mut self, binding: Binding) {
        self.index.apply_binding(&"shop".into(), binding);
        self.settle();
    }

    fn unbind(&mut self, name: &str) {
        self.index.delete_binding(&BindingKey {
            object: key(name),
            api: BindingApi::Elbv2,
        });
        self.settle();
    }

    fn see(&mut self, pod: Pod) {
        self.index.apply_pod(pod);
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.actions.extend(self.tracker.tick(self.now));
    }

    fn settle(&mut self) {
        for key in self.index.take_dirty() {
            let wall = self.wall();
            let actions = self.tracker.observe(&key, &self.index, self.now, wall);
            self.actions.extend(actions);
        }
    }

    /// The wall clock, which has moved as far as the monotonic one since [`WALL`].
    fn wall(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.now - self.begun).unwrap();
        WALL.parse::<Timestamp>().unwrap() + passed
    }

    /// The name of the group that is due.
    fn asks(&mut self) -> Option<String> {
        Some(self.calls()?.group.arn.name().to_owned())
    }

    /// The call that is due.
    fn calls(&mut self) -> Option<Call> {
        let mut paid = false;
        let take = |_: &NextPoll| match mem::replace(&mut paid, true) {
            false => Ok(()),
            true => Err(self.now),
        };
        let throttled = BTreeSet::new();
        let started = self.tracker.start_calls(&throttled, self.now, take);
        started.calls.into_iter().next()
    }

    /// When the next group is due, or when the budget is to be asked again.
    fn next_turn(&mut self) -> Option<Instant> {
        let none = |_: &NextPoll| Err(self.now);
        let throttled = BTreeSet::new();
        let started = self.tracker.start_calls(&throttled, self.now, none);
        started.again
    }

    /// Polls a group, and answers at once.
    fn round(&mut self, name: &str, targets: &[TargetHealth]) {
        assert_eq!(self.asks().as_deref(), Some(name));
        self.answer(name, self.now, Ok(targets));
    }

    fn answer(
        &mut self,
        name: &str,
        requested: Instant,
        answer: Result<&[TargetHealth], CallFailure>,
    ) {
        let actions = self
            .tracker
            .answered(&group(name), requested, answer, self.now);
        self.actions.extend(actions);
    }

    /// All actions since the last call, and the writes that are due now.
    fn done(&mut self) -> Vec<Action> {
        let mut actions = std::mem::take(&mut self.actions);
        actions.extend(self.tracker.writes(self.now));
        actions
    }

    /// The only action, which is a write to one pod.
    fn patch(&mut self) -> Write {
        let mut actions = self.done();
        match (actions.pop(), actions.len()) {
            (Some(Action::Write(write)), 0) => write,
            (last, others) => panic!("one write, not {last:?} after {others} others"),
        }
    }

    /// The only action, which is a write of one condition.
    fn write(&mut self) -> OneChange {
        OneChange::of(self.patch())
    }

    fn written(&mut self, write: &OneChange, version: &str) {
        self.ended(write, WriteOutcome::Written(version.into()));
    }

    fn ended(&mut self, write: &OneChange, outcome: WriteOutcome) {
        self.patched(&write.write, outcome);
    }

    fn patched(&mut self, write: &Write, outcome: WriteOutcome) {
        let actions = self.tracker.written(write, &outcome, self.now);
        self.actions.extend(actions);
    }

    /// Asserts that the gate of `web-1` is not open.
    #[track_caller]
    fn assert_is_closed(&self) {
        assert_eq!(self.tracker.waiting(&key("web-1")).len(), 1);
    }

    /// A world in which the gate of `web-1` is being opened.
    fn opening() -> (Self, OneChange) {
        let mut world = Self::new();
        world.see(web("web-1", "10.0.0.1"));
        world.round("web", &[healthy("10.0.0.1")]);
        let write = world.write();
        (world, write)
    }
}

/// A write of one condition, and what is asserted of it.
#[derive(Debug, Clone)]
struct OneChange {
    id: GateId,
    version: std::sync::Arc<str>,
    condition: Condition,
    transition: bool,
    closes: bool,
    reopens: bool,
    reason: &'static str,
    write: Write,
}

impl OneChange {
    fn of(write: Write) -> Self {
        let [change] = &write.changes[..] else {
            panic!("one change, not {write:?}");
        };
        let Change {
            gate,
            condition,
            transition,
            closes,
            reopens,
            reason,
        } = change.clone();
        Self {
            id: GateId {
                pod: write.pod.clone(),
                uid: write.uid.clone(),
                gate,
            },
            version: write.version.clone(),
            condition,
            transition,
            closes,
            reopens,
            reason: reason.as_str(),
            write,
        }
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn group(name: &str) -> GroupKey {
    GroupKey {
        arn: arn(name),
        role: None,
    }
}

fn web_service() -> Service {
    service().selecting("app", "web").port("http", 80, None)
}

/// A due pod behind binding `web`, whose gate has no condition yet.
fn web(name: &str, ip: &str) -> Pod {
    pod(name).label("app", "web").gate("web").ip(ip).ready()
}

fn health(ip: &str, state: TargetState, reason: &str) -> TargetHealth {
    TargetHealth {
        target: (ip.parse().unwrap(), 80),
        zone: None,
        state,
        reason: reason.into(),
        description: "".into(),
    }
}

fn healthy(ip: &str) -> TargetHealth {
    health(ip, TargetState::Healthy, "")
}

fn initial(ip: &str) -> TargetHealth {
    health(ip, TargetState::Initial, "Elb.InitialHealthChecking")
}

fn words(write: &OneChange) -> (bool, &str, &str) {
    let condition = &write.condition;
    (condition.status, &condition.reason, &condition.message)
}
