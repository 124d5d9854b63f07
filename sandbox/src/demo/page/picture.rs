//! The data of the page. Frames of the timeline go in; the picture keeps what each rollout has been
//! through, so that a client that comes late, or comes back, misses nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::super::frame::{Frame, Row};
use super::super::measure::Numbers;
use super::super::settings::Settings;
use crate::elb::State;
use crate::harness::observer::{Gate, Stage};

/// At most this many points of the requests are kept; above it every second one is dropped. Chosen:
/// more than the chart has columns of pixels on most screens.
const POINTS: usize = 480;
/// At most this many changes of a pod are kept, more than a life of one has. Chosen.
const MOMENTS: usize = 64;
/// At most this many activities of a rollout are kept, more than one has. Chosen.
const MARKS: usize = 16;

/// All rollouts.
#[derive(Debug, Serialize)]
pub(super) struct Picture {
    rollouts: Vec<Rollout>,
    /// The number of the present rollout, which is the first one before any has begun.
    present: usize,
    /// Each difference from the expected results; `None` until all rollouts are measured.
    complaints: Option<Vec<String>>,
    /// The delays and the load, as lines of text.
    settings: Vec<String>,
    /// How long a load balancer goes on sending requests to a target that drains.
    #[serde(skip)]
    lag: u64,
}

/// One rollout, with times in milliseconds since its traffic began.
#[derive(Debug, Default, Serialize)]
struct Rollout {
    title: &'static str,
    doing: &'static str,
    now: u64,
    sent: u64,
    lost: u64,
    causes: String,
    pods: Vec<Pod>,
    requests: Vec<Point>,
    marks: Vec<Mark>,
    results: Option<Results>,
    /// The pods of the rollout before, which still leave while this one is being prepared.
    #[serde(skip)]
    former: Option<BTreeSet<String>>,
}

/// The requests by then: the time, and the numbers of sent and lost ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Point(u64, u64, u64);

/// The beginning of an activity.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Mark(u64, &'static str);

#[derive(Debug, Serialize)]
struct Pod {
    name: String,
    /// Whether the rollout made it.
    new: bool,
    address: String,
    /// ELB's reason code.
    reason: Option<String>,
    /// Its states, the present one last; never empty.
    moments: Vec<Moment>,
    #[serde(skip)]
    template: String,
    #[serde(skip)]
    draining_since: Option<u64>,
}

/// The state of a pod and its target from this time on.
#[derive(Clone, Debug, Serialize)]
struct Moment {
    at: u64,
    #[serde(serialize_with = "stage")]
    stage: Stage,
    #[serde(serialize_with = "gate")]
    gate: Gate,
    /// ELB's state; `None` without a target.
    target: Option<String>,
    /// Whether the pod is gone while the load balancer still sends requests to its address.
    astray: bool,
}

#[derive(Debug, Serialize)]
struct Results {
    /// From the change of the Deployment to its completion.
    rollout: u64,
    /// The median from `healthy` to the open gate.
    healthy_to_open: Option<u64>,
}

/// The present rollout alone.
#[derive(Debug, Serialize)]
pub(super) struct Present<'a> {
    present: usize,
    rollout: Option<&'a Rollout>,
}

/// What a frame has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) anything: bool,
    /// Which rollout is the present one.
    pub(super) rollout: bool,
}

impl Picture {
    pub(super) fn new(settings: &Settings, titles: impl IntoIterator<Item = &'static str>) -> Self {
        let rollout = |title| Rollout {
            title,
            ..Rollout::default()
        };
        Self {
            rollouts: titles.into_iter().map(rollout).collect(),
            present: 0,
            complaints: None,
            settings: settings.describe(),
            lag: milliseconds(settings.delays.propagation_lag),
        }
    }

    /// Takes in the state of everything at one moment, except for a rollout that has its results.
    pub(super) fn take_in(&mut self, frame: &Frame) -> Change {
        let titles = self.rollouts.iter();
        let number = titles
            .enumerate()
            .find(|(_, one)| one.title == frame.title)
            .map(|(number, _)| number);
        let rollout = number.and_then(|number| self.rollouts.get_mut(number));
        let (Some(number), Some(rollout)) = (number, rollout) else {
            return Change::default();
        };
        if rollout.results.is_some() {
            return Change::default();
        }
        let changed = rollout.take_in(frame, self.lag);
        let other = std::mem::replace(&mut self.present, number) != number;
        Change {
            anything: changed || other,
            rollout: other,
        }
    }

    pub(super) fn measured(&mut self, numbers: &Numbers) {
        let mut rollouts = self.rollouts.iter_mut();
        if let Some(rollout) = rollouts.find(|one| one.title == numbers.variant.title) {
            rollout.count(numbers.counts.sent, numbers.counts.lost());
            rollout.causes = numbers.counts.causes();
            rollout.results = Some(Results {
                rollout: milliseconds(numbers.rollout),
                healthy_to_open: numbers.median().map(milliseconds),
            });
        }
    }

    pub(super) fn judged(&mut self, complaints: &[String]) {
        self.complaints = Some(complaints.to_vec());
    }

    pub(super) fn present(&self) -> Present<'_> {
        Present {
            present: self.present,
            rollout: self.rollouts.get(self.present),
        }
    }
}

impl Rollout {
    fn take_in(&mut self, frame: &Frame, lag: u64) -> bool {
        let now = milliseconds(Duration::try_from_secs_f64(frame.seconds).unwrap_or_default());
        if now < self.now {
            self.begin_anew();
        }
        self.now = now;
        let mut changed = self.mark(frame.doing);
        changed |= self.count(frame.counts.sent, frame.counts.lost());
        self.causes = frame.counts.causes();
        let names = || frame.rows.iter().map(|row| row.pod.clone()).collect();
        let former = self.former.get_or_insert_with(names).clone();
        let own = frame.rows.iter().filter(|row| !former.contains(&row.pod));
        for row in own {
            changed |= self.see(row, lag);
        }
        changed
    }

    /// Traffic begins: what was seen during the preparation becomes the state at the beginning.
    fn begin_anew(&mut self) {
        self.requests.clear();
        self.marks.clear();
        for pod in &mut self.pods {
            pod.moments.drain(..pod.moments.len().saturating_sub(1));
            for moment in &mut pod.moments {
                moment.at = 0;
            }
        }
    }

    fn mark(&mut self, doing: &'static str) -> bool {
        let changed = self.doing != doing || self.marks.is_empty();
        if changed && self.marks.len() < MARKS {
            self.marks.push(Mark(self.now, doing));
        }
        self.doing = doing;
        changed
    }

    fn count(&mut self, sent: u64, lost: u64) -> bool {
        let changed = (self.sent, self.lost) != (sent, lost);
        (self.sent, self.lost) = (sent, lost);
        if sent > 0 && (changed || self.requests.is_empty()) {
            self.requests.push(Point(self.now, sent, lost));
        }
        if self.requests.len() > POINTS {
            // The counts are sums, so that a dropped point loses detail and no request.
            let mut odd = false;
            self.requests.retain(|_| {
                odd = !odd;
                odd
            });
        }
        changed
    }

    fn see(&mut self, row: &Row, lag: u64) -> bool {
        let now = self.now;
        let template = row.template.clone();
        let first = self.pods.first().map(|pod| pod.template.clone());
        let known = self.pods.iter().position(|pod| pod.name == row.pod);
        let number = known.unwrap_or_else(|| {
            self.pods.push(Pod {
                name: row.pod.clone(),
                new: first.is_some_and(|first| first != template),
                address: String::new(),
                reason: None,
                moments: Vec::new(),
                template,
                draining_since: None,
            });
            self.pods.len() - 1
        });
        self.pods[number].see(row, now, lag)
    }
}

impl Pod {
    fn see(&mut self, row: &Row, now: u64, lag: u64) -> bool {
        self.address.clone_from(&row.address);
        let health = row.target.as_ref();
        let state = health.map(|health| &health.state);
        self.draining_since = match state {
            Some(State::Draining) => self.draining_since.or(Some(now)),
            _ => None,
        };
        let lagging = self.draining_since.is_some_and(|since| now < since + lag);
        let reason = health.and_then(|health| health.reason.as_ref());
        let reason = reason.map(ToString::to_string);
        let moment = Moment {
            at: now,
            stage: row.stage,
            gate: row.gate,
            target: state.map(ToString::to_string),
            astray: row.stage == Stage::Gone && (state == Some(&State::Healthy) || lagging),
        };
        let changed = self.moments.last().is_none_or(|last| last.differs(&moment));
        if changed {
            if self.moments.len() == MOMENTS {
                self.moments.remove(0);
            }
            self.moments.push(moment);
        }
        std::mem::replace(&mut self.reason, reason.clone()) != reason || changed
    }
}

impl Moment {
    /// Whether anything but the time differs.
    fn differs(&self, other: &Self) -> bool {
        let state = |moment: &Self| (moment.stage, moment.gate, moment.astray);
        state(self) != state(other) || self.target != other.target
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn stage<S: serde::Serializer>(stage: &Stage, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(stage.as_str())
}

fn gate<S: serde::Serializer>(gate: &Gate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(gate.as_str())
}

#[cfg(test)]
mod tests;
