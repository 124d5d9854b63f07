//! Annotations that make gates depart from what ELB says (contract 5.6): steps that edit them, and what they allow.

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::{Value, json};
use targetgate_core::model::{AfterOpen, Policies, WhenUnused};
use targetgate_core::names::{
    AFTER_OPEN_ANNOTATION, OPEN_AFTER_ANNOTATION, WHEN_UNUSED_ANNOTATION,
};
use targetgate_sandbox::elb::check::CheckOutcome;
use targetgate_sandbox::elb::health::CheckFailure;
use tokio::time::Instant;

use crate::direct;
use crate::driver::{Driver, bindings_path, gate, pod_path};
use crate::facts::{Facts, Heard, Key, Pod, Standing};
use crate::witness::{FRESH, conditions};

/// The percentage of namespaces and bindings that are annotated from the start. Chosen.
const ANNOTATED: u64 = 30;
/// The time in which a gate that follows ELB closes after its target fails: until ELB says unhealthy, one call that
/// was sent just before, the pause until the recheck, and the turns of all groups at a fifth of the lowest rate.
const CLOSED_WITHIN: Duration = Duration::from_secs(15 + 5 + 30 + 40);
/// The time in which it opens again: until ELB says healthy, and the longest interval of a young wait.
const OPENED_WITHIN: Duration = Duration::from_secs(10 + 5 + 30);
const OFTEN: Duration = Duration::from_secs(1);

/// An object whose annotations are edited.
#[derive(Debug, Clone)]
pub(crate) enum Annotated {
    Namespace(String),
    Binding(Key),
    Pod(Key),
}

pub(crate) const FOLLOW: Policies = Policies {
    when_unused: None,
    open_after: None,
    after_open: Some(AfterOpen::Follow),
};
pub(crate) const HOLD: Policies = Policies {
    after_open: Some(AfterOpen::Hold),
    ..FOLLOW
};

impl Annotated {
    fn path(&self) -> String {
        match self {
            Self::Namespace(name) => format!("/api/v1/namespaces/{name}"),
            Self::Binding(key) => format!("{}/{}", bindings_path(&key.0), key.1),
            Self::Pod(key) => pod_path(key),
        }
    }
}

impl Driver {
    /// Annotates some namespaces and bindings before anything happens.
    pub(crate) async fn begin_policies(&mut self) {
        let bindings: Vec<Key> = self.world.facts.lock().bindings.keys().cloned().collect();
        let namespaces = self.namespaces.clone();
        let all = namespaces.into_iter().map(Annotated::Namespace);
        for object in all.chain(bindings.into_iter().map(Annotated::Binding)) {
            if self.random.percent(ANNOTATED) {
                let policies = self.some_policies();
                self.annotate(&object, policies).await;
            }
        }
    }

    pub(crate) async fn policies_change(&mut self) {
        let all: Vec<Annotated> = {
            let facts = self.world.facts.lock();
            let namespaces = self.namespaces.iter().cloned().map(Annotated::Namespace);
            let bindings = facts.bindings.keys().cloned().map(Annotated::Binding);
            let pods = facts.pods.keys().cloned().map(Annotated::Pod);
            namespaces.chain(bindings).chain(pods).collect()
        };
        let policies = self.some_policies();
        if let Some(object) = self.random.pick(&all) {
            self.annotate(&object, policies).await;
        }
    }

    fn some_policies(&mut self) -> Policies {
        let seconds = u32::try_from(self.random.between(15, 120)).unwrap();
        Policies {
            when_unused: match self.random.below(5) {
                0 | 1 => Some(WhenUnused::Open),
                2 => Some(WhenUnused::Wait),
                _ => None,
            },
            open_after: NonZeroU32::new(seconds).filter(|_| self.random.percent(30)),
            after_open: match self.random.below(5) {
                0..3 => Some(AfterOpen::Follow),
                3 => Some(AfterOpen::Hold),
                _ => None,
            },
        }
    }

    /// Writes the annotations of an object, as its owner does.
    pub(crate) async fn annotate(&mut self, object: &Annotated, policies: Policies) {
        // A replica may act on them before the answer is here.
        let former = self.world.facts.lock().annotate(object, policies);
        let patch = json!({ "metadata": { "annotations": annotations(policies) } });
        let (code, _) = self.world.call("MERGE", &object.path(), Some(patch)).await;
        self.note(&format!("{object:?} has {policies:?}: {code}"));
        if code != 200 {
            self.world.facts.lock().annotate(object, former);
        }
    }

    /// A load balancer begins to use a group, or stops, as at the cut-over of a blue/green deployment.
    pub(crate) fn group_is_put_in_or_out_of_use(&mut self) {
        let arns: Vec<String> = {
            let facts = self.world.facts.lock();
            facts.groups.values().flatten().cloned().collect()
        };
        if let Some(arn) = self.random.pick(&arns) {
            let used = self.world.unused.lock().contains(&arn);
            self.world.put_in_use(&arn, used);
            self.note(&format!("{arn} is in use: {used}"));
        }
    }

    /// Judges, while nothing else is wrong, that the gate of a pod that follows ELB closes once its target fails, and
    /// opens again.
    pub(crate) async fn judge_following(&mut self) {
        let followed = {
            let facts = self.world.facts.lock();
            let pods = facts.pods.iter();
            let asked = |(key, pod): &(&Key, &Pod)| {
                let asked = |gate: &String| facts.standing(&key.0, pod, gate) == Standing::Asked;
                let asked = !pod.gates.is_empty() && pod.gates.iter().all(asked);
                pod.ready && !pod.terminating && asked && self.are_healthy(key, pod)
            };
            let pods = pods.filter(asked);
            pods.map(|(key, pod)| (key.clone(), pod.clone()))
                .collect::<Vec<_>>()
        };
        let Some((key, pod)) = self.random.pick(&followed) else {
            return;
        };
        // Its gates need not close at one time, and are not to open in between by the age that another object sets.
        let policies = Policies {
            open_after: NonZeroU32::new(3600),
            ..FOLLOW
        };
        self.annotate(&Annotated::Pod(key.clone()), policies).await;
        let failed = CheckOutcome::Failed(CheckFailure::Status(503));
        self.world.probe.answer(pod.target(), Some(failed));
        self.note(&format!("the target of {key:?}, which follows, fails"));
        self.expect_gates(&key, &pod, "False", CLOSED_WITHIN).await;
        self.world
            .probe
            .answer(pod.target(), Some(CheckOutcome::Passed));
        self.expect_gates(&key, &pod, "True", OPENED_WITHIN).await;
    }

    /// Whether all gates of a pod say that ELB called its target healthy: others close only after that.
    fn are_healthy(&self, key: &Key, pod: &Pod) -> bool {
        let object = direct::get(&self.world.api, &pod_path(key)).unwrap_or_default();
        let has = conditions(&object);
        pod.gates.iter().all(|binding| {
            let kind = gate(binding);
            let mut its = has.iter().filter(|c| c["type"] == kind.as_str());
            its.any(|c| {
                c["status"] == "True" && c["message"].as_str().unwrap_or_default().is_empty()
            })
        })
    }

    /// Judges that all gates of a pod have this status before long.
    async fn expect_gates(&mut self, key: &Key, pod: &Pod, status: &str, within: Duration) {
        let end = Instant::now() + within;
        loop {
            let object = direct::get(&self.world.api, &pod_path(key)).unwrap_or_default();
            let has = conditions(&object);
            let is_so = |binding: &String| {
                let kind = gate(binding);
                has.iter()
                    .any(|c| c["type"] == kind.as_str() && c["status"] == status)
            };
            if pod.gates.iter().all(is_so) || !self.world.trace.violations().is_empty() {
                return;
            }
            if Instant::now() >= end {
                let what = format!("{key:?} is not {status} within {within:?}: {has:?}");
                return self.world.trace.violated("follows", &what);
            }
            self.pass(OFTEN).await;
        }
    }
}

/// The annotations that say so; those that say nothing are removed.
fn annotations(policies: Policies) -> Value {
    let when_unused = policies.when_unused.map(|what| match what {
        WhenUnused::Open => "open",
        WhenUnused::Wait => "wait",
    });
    let after_open = policies.after_open.map(|what| match what {
        AfterOpen::Follow => "follow",
        AfterOpen::Hold => "hold",
    });
    json!({
        WHEN_UNUSED_ANNOTATION: when_unused,
        OPEN_AFTER_ANNOTATION: policies.open_after.map(|seconds| format!("{seconds}s")),
        AFTER_OPEN_ANNOTATION: after_open,
    })
}

/// Whether a gate of a pod opened by its age: it has been due for as long as an annotation said.
pub(crate) fn is_old(facts: &Facts, gate: &(String, String)) -> Result<&'static str, &'static str> {
    let due = facts.due.get(&gate.0).ok_or("the pod was never ready")?;
    let age = due.elapsed().as_secs();
    let is_over = |policies: &Policies| {
        let after = policies.open_after.map(|after| u64::from(after.get()));
        after.is_some_and(|after| age >= after)
    };
    match facts.had_policies(gate, is_over) {
        true => Ok("by its age"),
        false => Err("no annotation opens it by its age"),
    }
}

/// Whether a gate of a pod opened because no load balancer uses its group, and an annotation said that it may.
pub(crate) fn is_unused(
    facts: &Facts,
    incarnation: &str,
    gate: &(String, String),
) -> Result<&'static str, &'static str> {
    let opens = |policies: &Policies| policies.when_unused == Some(WhenUnused::Open);
    if !facts.had_policies(gate, opens) {
        return Err("no annotation opens it while its group is unused");
    }
    match hears(facts, incarnation, gate, |state| state == Some("unused")) {
        true => Ok("unused"),
        false => Err("ELB did not say that its group is unused"),
    }
}

/// Whether an open gate of a pod closed as ELB says, and an annotation said that it follows.
pub(crate) fn is_followed(
    facts: &Facts,
    incarnation: &str,
    gate: &(String, String),
) -> Result<&'static str, &'static str> {
    if !facts.had_policies(gate, |policies| policies.follows()) {
        return Err("it holds");
    }
    match hears(facts, incarnation, gate, |state| state != Some("healthy")) {
        true => Ok("it follows"),
        false => Err("ELB has not said lately that it is not healthy"),
    }
}

/// Whether this replica heard lately that the target of a gate is in such a state, in an answer that was requested
/// since the pod was ready.
fn hears(
    facts: &Facts,
    incarnation: &str,
    gate: &(String, String),
    is_so: impl Fn(Option<&str>) -> bool,
) -> bool {
    let known = facts.pods.iter().find(|(_, known)| known.uid == gate.0);
    let (Some((key, pod)), Some(due)) = (known, facts.due.get(&gate.0)) else {
        return false;
    };
    let groups = facts.groups.get(&(key.0.clone(), gate.1.clone()));
    let groups = groups.map(Vec::as_slice).unwrap_or_default();
    let says = |heard: &Heard| {
        let about = groups.contains(&heard.arn) && heard.sent >= *due;
        about && is_so(heard.states.get(&pod.target()).map(String::as_str))
    };
    let heard = facts.heard.get(incarnation).into_iter().flatten();
    let mut lately = heard.filter(|heard| heard.received.elapsed() <= FRESH);
    lately.any(says)
}
