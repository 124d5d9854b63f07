//! A small world to walk: the Secret, two webhook configurations, two replicas, and API servers that
//! may see each change at any moment within `seen_after`.
//!
//! Both replicas act as leaders the whole time, as if the Lease protected nothing. A replica reads,
//! decides and writes in steps of their own, between which anything may happen.

use std::collections::BTreeSet;
use std::hash::Hash;

use super::super::*;
use crate::rotation::tests::{NOW, leaf, pair};

pub(super) const REPLICAS: usize = 2;
const CONFIGURATIONS: usize = 2;

/// Short lives: a second is the smallest time that matters.
pub(super) const LIFETIMES: Lifetimes = Lifetimes {
    leaf: Duration::from_secs(30),
    ca: Duration::from_secs(60),
    renew_after: Share::TWO_THIRDS,
    skew: Duration::from_secs(1),
    seen_after: Duration::from_secs(1),
};

/// Anything that may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A replica does its next step.
    Step(usize),
    /// A replica is replaced by one that remembers nothing.
    Crash(usize),
    /// A replica is replaced by one of the other release, which remembers nothing either.
    Replace(usize),
    /// A second passes.
    Tick,
    /// Another client deletes the Secret.
    Lose,
    /// Another client corrupts a part of the Secret.
    Break(Part),
}

/// A part of the Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Leaf,
    Authority,
    Staged,
    Retired,
    /// The leaf is signed by another CA, and has a key that fits.
    Stranger,
    Everything,
}

/// An object and its `resourceVersion`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Versioned<T> {
    value: T,
    version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Hooks {
    bundle: Versioned<Vec<Ca>>,
    /// What it was before, and when it changed.
    past: Vec<(BTreeSet<Fingerprint>, i64)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Replica {
    /// Whether it is of the release with one Lease.
    former: bool,
    /// Configurations read in this round, and when.
    read: Vec<(Versioned<Vec<Ca>>, i64)>,
    /// When each configuration was first read in the version that was read last.
    since: Vec<(u32, i64)>,
    /// What to write next, and the version of the object that it was decided on.
    decided: Option<(Step, Option<u32>, Vec<Ca>)>,
    remembered: Vec<RetiredCa>,
    /// The leaf, and the CA that has signed it.
    serves: Option<(Leaf, Fingerprint)>,
    /// Whether every bundle has verified it since.
    ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    second: i64,
    secret: Option<Versioned<Record>>,
    hooks: Vec<Hooks>,
    replicas: Vec<Replica>,
    /// The number of the next certificate.
    next_id: u8,
    /// The Secret's latest `resourceVersion`, also while the Secret does not exist.
    secret_version: u32,
}

impl World {
    /// Before the first start.
    pub(super) fn new() -> Self {
        let hooks = Hooks {
            bundle: Versioned {
                value: vec![],
                version: 0,
            },
            past: vec![],
        };
        Self {
            second: 0,
            secret: None,
            hooks: vec![hooks; CONFIGURATIONS],
            replicas: vec![Replica::default(); REPLICAS],
            next_id: 1,
            secret_version: 0,
        }
    }

    /// The first replica is of the release with one Lease, as in the middle of an upgrade or a return.
    pub(super) fn of_two_releases(mut self) -> Self {
        self.replicas[0].former = true;
        self
    }

    /// All replicas and API servers do what is due, in turn, until this second.
    pub(super) fn settled(until: i64) -> Self {
        let mut world = Self::new();
        while world.second < until {
            world.round();
            world.happens(Event::Tick);
        }
        world
    }

    /// Every replica reads, decides and writes a few times.
    pub(super) fn round(&mut self) {
        for _ in 0..8 * (CONFIGURATIONS + 2) {
            (0..REPLICAS).for_each(|replica| self.happens(Event::Step(replica)));
        }
    }

    pub(super) fn happens(&mut self, event: Event) {
        match event {
            Event::Step(replica) => self.step(replica),
            Event::Crash(replica) => self.replicas[replica].crashes(),
            Event::Replace(replica) => {
                let replica = &mut self.replicas[replica];
                replica.crashes();
                replica.former = !replica.former;
            }
            Event::Tick => {
                self.second += 1;
                let seen = self.second - LIFETIMES.seen_after.as_secs() as i64;
                for hooks in &mut self.hooks {
                    hooks.past.retain(|(_, changed)| *changed > seen);
                }
            }
            Event::Lose => self.secret = None,
            Event::Break(part) => self.damage(part),
        }
    }

    fn damage(&mut self, part: Part) {
        let stranger = leaf(200, LIFETIMES.of_ca(self.now()));
        let version = self.new_version();
        let Some(secret) = &mut self.secret else {
            return;
        };
        secret.version = version;
        let record = &mut secret.value;
        match part {
            Part::Leaf => record.leaf = None,
            Part::Authority => record.authority = None,
            Part::Staged => record.staged = None,
            Part::Retired => record.retired = None,
            Part::Stranger => {
                record.leaf = Some(Leaf {
                    signed: false,
                    ..stranger
                });
            }
            Part::Everything => {
                (record.leaf, record.authority) = (None, None);
                (record.staged, record.retired) = (None, None);
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        NOW + Duration::from_secs(self.second as u64)
    }

    fn new_version(&mut self) -> u32 {
        self.secret_version += 1;
        self.secret_version
    }

    fn step(&mut self, index: usize) {
        if let Some((step, version, bundle)) = self.replicas[index].decided.take() {
            self.write(&step, version, bundle);
            self.replicas[index].read.clear();
            return;
        }
        let read = self.replicas[index].read.len();
        match self.hooks.get(read) {
            Some(hooks) => {
                let bundle = hooks.bundle.clone();
                self.replicas[index].reads(bundle, self.second);
            }
            None => self.decide(index),
        }
    }

    /// Reads the Secret, serves what is to be served, and decides.
    fn decide(&mut self, index: usize) {
        let now = self.now();
        let secret = self.secret.clone();
        let replica = &mut self.replicas[index];
        let configurations = replica.configurations();
        let record = secret.as_ref().map(|secret| &secret.value);
        if let Some(record) = record {
            replica.serve(record, &configurations, now);
            let remembered = std::mem::take(&mut replica.remembered);
            replica.remembered = remember(remembered, record, now, &LIFETIMES);
        }
        let situation = Situation {
            now,
            record,
            configurations: Some(&configurations),
            remembered: &replica.remembered,
        };
        let step = replica.step(next(&situation, &LIFETIMES), &configurations);
        let version = match step {
            Step::Secret(_) => secret.as_ref().map(|secret| secret.version),
            Step::Trust(of) => Some(replica.read[of].0.version),
            Step::Wait(_) | Step::Rest(_) => return replica.read.clear(),
        };
        let trusted = record.map(Record::trusted).unwrap_or_default();
        let trusted = trusted.into_iter().cloned().collect();
        replica.decided = Some((step, version, trusted));
    }

    /// A write, under the version that it was decided on.
    fn write(&mut self, step: &Step, version: Option<u32>, bundle: Vec<Ca>) {
        match step {
            Step::Trust(of) => {
                if Some(self.hooks[*of].bundle.version) == version {
                    self.trust(*of, bundle);
                }
            }
            Step::Secret(change) => {
                if self.secret.as_ref().map(|secret| secret.version) == version {
                    self.change(change);
                }
            }
            Step::Wait(_) | Step::Rest(_) => {}
        }
    }

    pub(super) fn trust(&mut self, of: usize, value: Vec<Ca>) {
        let hooks = &mut self.hooks[of];
        let version = hooks.bundle.version + 1;
        assert!(!value.is_empty(), "a bundle is emptied");
        // An API server that has not seen the first bundle yet trusts no replica, whatever that serves.
        if hooks.bundle.version > 0 {
            let ids = hooks.bundle.value.iter().map(|ca| ca.id).collect();
            hooks.past.push((ids, self.second));
        }
        hooks.bundle = Versioned { value, version };
    }

    fn change(&mut self, change: &Change) {
        let now = self.now();
        let record = self.secret.take().map(|secret| secret.value);
        let id = self.next_id;
        let value = match (change, record) {
            (Change::Create, _) => Record::new(self.made(id)),
            (Change::Stage(_), Some(record)) => record.staged(self.made(id)),
            (Change::Adopt(retired), Some(record)) => record.adopted(retired),
            (Change::Forget, Some(record)) => record.forgotten(now, &LIFETIMES),
            (Change::Promote, Some(record)) => record.promoted(),
            (Change::Sign(_), Some(record)) => {
                let ca = record.authority.as_ref().unwrap().ca.validity;
                self.next_id += 1;
                record.signed(leaf(id, LIFETIMES.of_leaf(now, ca)))
            }
            (change, None) => panic!("{change:?} of no Secret"),
        };
        let version = self.new_version();
        self.secret = Some(Versioned { value, version });
    }

    fn made(&mut self, id: u8) -> Pair {
        self.next_id += 1;
        pair(id, self.now(), &LIFETIMES)
    }

    /// What is wrong, if anything: an API server that asks a replica now may see a bundle without the
    /// CA of the leaf that it is shown.
    pub(super) fn violation(&self) -> Option<String> {
        for (index, replica) in self.replicas.iter().enumerate() {
            let Some((leaf, ca)) = replica.serves.as_ref().filter(|_| replica.ready) else {
                continue;
            };
            if self.now() >= leaf.validity.not_after {
                continue;
            }
            for (of, hooks) in self.hooks.iter().enumerate() {
                let current = hooks.bundle.value.iter().map(|ca| ca.id).collect();
                let past = hooks.past.iter().map(|(ids, _)| ids);
                for seen in past.chain([&current]) {
                    if !seen.contains(ca) {
                        return Some(format!(
                            "replica {index} serves a leaf of CA {ca}, and an API server may see \
                             only {seen:?} in configuration {of}"
                        ));
                    }
                }
            }
        }
        None
    }

    /// Whether every replica serves a leaf that is valid and trusted.
    pub(super) fn is_well(&self) -> bool {
        let valid = |leaf: &Leaf| self.now() < leaf.validity.not_after;
        let served = |replica: &Replica| {
            let serves = replica.serves.as_ref();
            replica.ready && serves.is_some_and(|(leaf, _)| valid(leaf))
        };
        self.replicas.iter().all(served) && self.violation().is_none()
    }

    /// The CA of the leaf that each replica serves.
    pub(super) fn serving(&self) -> Vec<Option<Fingerprint>> {
        let replicas = self.replicas.iter();
        let served = replicas.map(|replica| replica.serves.as_ref().map(|(_, ca)| *ca));
        served.collect()
    }

    /// How many CAs a bundle holds at most.
    pub(super) fn most_held(&self) -> usize {
        let held = self.hooks.iter().map(|hooks| hooks.bundle.value.len());
        held.max().unwrap_or(0)
    }
}

impl Replica {
    fn crashes(&mut self) {
        *self = Self {
            former: self.former,
            ..Self::default()
        };
    }

    /// The step of its release: the former one has another Lease, so that it writes at the same time as the present
    /// one, and it waits for API servers with its first certificate, too.
    fn step(&self, step: Step, configurations: &[Configuration]) -> Step {
        let more = LIFETIMES
            .seen_after
            .saturating_sub(unchanged_for(configurations));
        match step {
            Step::Secret(Change::Promote) if self.former && !more.is_zero() => Step::Wait(more),
            step => step,
        }
    }

    fn reads(&mut self, bundle: Versioned<Vec<Ca>>, second: i64) {
        let index = self.read.len();
        match self.since.get_mut(index) {
            None => self.since.push((bundle.version, second)),
            Some(since) if since.0 == bundle.version => {}
            Some(since) => *since = (bundle.version, second),
        }
        self.read.push((bundle, second));
    }

    /// As they were read in this round.
    fn configurations(&self) -> Vec<Configuration> {
        let read = self.read.iter().zip(&self.since);
        read.map(|((bundle, read_at), (_, since))| Configuration {
            bundles: vec![Bundle {
                cas: bundle.value.clone(),
                sound: true,
            }],
            unchanged_for: Duration::from_secs((read_at - since) as u64),
        })
        .collect()
    }

    fn serve(&mut self, record: &Record, configurations: &[Configuration], now: Timestamp) {
        let standing = |leaf: &Leaf, ca: Fingerprint| Standing {
            expired: now >= leaf.validity.not_after,
            trusted_for: configurations
                .iter()
                .flat_map(|c| &c.bundles)
                .all(|bundle| bundle.cas.iter().any(|held| held.id == ca))
                .then(|| unchanged_for(configurations)),
        };
        if let Some(offered) = &record.leaf {
            let authority = record.authority.as_ref().map(|a| a.ca.id);
            let ca = authority
                .filter(|_| offered.signed)
                .unwrap_or(Fingerprint([255; 32]));
            let current = self.serves.as_ref().map(|(leaf, ca)| standing(leaf, *ca));
            if takes(current, standing(offered, ca), LIFETIMES.seen_after) {
                self.serves = Some((offered.clone(), ca));
                // A leaf that was not trusted does not excuse the one that follows it.
                let good = |s: Standing| !s.expired && s.trusted_for.is_some();
                self.ready &= current.is_some_and(good);
            }
        }
        let current = self.serves.as_ref().map(|(leaf, ca)| standing(leaf, *ca));
        self.ready |= current.is_some_and(|s| s.trusted_for.is_some());
    }
}
