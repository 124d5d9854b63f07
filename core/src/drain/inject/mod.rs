//! What a new pod gets for its end, and why (contract 9).

use json_patch::PatchOperation;
use serde_json::json;

use crate::drain::{Drained, SleepSeconds};
use crate::names::DRAINED_ANNOTATION;
use crate::patch::add;
use crate::reason::Reason;

/// The grace period of a pod that has none, in seconds. Kubernetes.
const DEFAULT_GRACE: i64 = 30;
/// The grace period by which the kubelet takes a negative one, in seconds. Kubernetes.
const LEAST_GRACE: i64 = 1;

/// The `lifecycle.preStop` of a main container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreStop {
    /// The container has no `lifecycle`, or `null`.
    NoLifecycle,
    /// Its `lifecycle` has no `preStop`, or `null`.
    Absent,
    /// A sleep of so many seconds.
    Sleep(i64),
    /// Another handler, or an object without any.
    Other,
}

/// Where the annotation of what was done belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Annotations {
    /// The pod has no `metadata`, or `null`.
    NoMetadata,
    /// Its `metadata` has no `annotations`, or `null`.
    Absent,
    Present,
}

/// The parts of a new pod that decide about its end.
#[derive(Debug)]
pub struct NewPod {
    /// Its main containers, in order.
    pub containers: Vec<PreStop>,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Option<i64>,
    /// Whether its controller is a Job.
    pub of_job: bool,
    pub annotations: Annotations,
    /// What its annotation says that was done to it.
    pub drained: Option<Drained>,
}

impl NewPod {
    /// What was done to it, if containers and grace period agree with that: a template that was copied from a
    /// running pod brings the annotation along, and may have been changed since.
    fn done(&self) -> Option<Drained> {
        self.drained.filter(|drained| {
            let slept = PreStop::Sleep(i64::from(drained.sleep.get()));
            let grace = self.grace.unwrap_or(DEFAULT_GRACE);
            self.containers.contains(&slept) && grace >= drained.grace()
        })
    }

    /// The grace period that its owner gave it. A negative one counts as the kubelet takes it, so that the sleep is
    /// not longer than the sum.
    fn given(&self) -> i64 {
        self.grace.unwrap_or(DEFAULT_GRACE).max(LEAST_GRACE)
    }
}

/// The changes to a new pod's end, with the reason.
#[derive(Debug)]
pub struct Injection {
    pub reason: Reason,
    /// The smallest JSON Patch; empty unless the reason is [`Reason::Injected`].
    pub operations: Vec<PatchOperation>,
}

impl Injection {
    fn nothing(reason: Reason) -> Self {
        Self {
            reason,
            operations: vec![],
        }
    }
}

/// Gives each main container without a `preStop` a sleep, and the pod the time for it.
///
/// It is idempotent: on its own result it changes nothing. A sleep that an earlier run gave, and that has another
/// length now, takes the new one; the grace period is never lowered.
///
/// ```
/// use serde_json::json;
/// use targetgate_core::drain::SleepSeconds;
/// use targetgate_core::drain::inject::{Annotations, NewPod, PreStop, inject};
///
/// let mut pod = json!({ "metadata": {}, "spec": { "containers": [{}], "terminationGracePeriodSeconds": 60 } });
/// let (containers, annotations) = (vec![PreStop::NoLifecycle], Annotations::Absent);
/// let new = NewPod { containers, grace: Some(60), of_job: false, annotations, drained: None };
/// let injection = inject(&new, SleepSeconds::new(20).unwrap());
///
/// json_patch::patch(&mut pod, &injection.operations).unwrap();
/// assert_eq!(pod["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"], 20);
/// assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 80);
/// assert_eq!(pod["metadata"]["annotations"]["targetgate.dev/drained"], "20/60");
/// ```
pub fn inject(pod: &NewPod, sleep: SleepSeconds) -> Injection {
    if pod.of_job {
        return Injection::nothing(Reason::Job);
    }
    if pod.grace == Some(0) {
        return Injection::nothing(Reason::GraceZero);
    }
    let done = pod.done();
    let containers = pod.containers.iter().enumerate();
    let mut operations: Vec<PatchOperation> = containers
        .filter_map(|(at, pre_stop)| of_container(at, *pre_stop, done, sleep))
        .collect();
    if operations.is_empty() {
        return Injection::nothing(match done {
            Some(_) => Reason::AlreadyInjected,
            None => Reason::HasPreStop,
        });
    }
    let given = done.map_or_else(|| pod.given(), |done| done.given);
    let drained = Drained { sleep, given };
    operations.extend(of_grace(pod.grace, drained));
    operations.extend(of_annotation(pod, drained));
    Injection {
        reason: Reason::Injected,
        operations,
    }
}

/// The sleep of one container, unless it has it, or a `preStop` of its own.
fn of_container(
    at: usize,
    pre_stop: PreStop,
    done: Option<Drained>,
    sleep: SleepSeconds,
) -> Option<PatchOperation> {
    let at = at.to_string();
    let lifecycle = ["spec", "containers", &at, "lifecycle"];
    let below = |names: &[&'static str]| [&lifecycle[..], names].concat();
    let seconds = sleep.get();
    let handler = json!({ "sleep": { "seconds": seconds } });
    let ours = |slept| done.is_some_and(|done| slept == i64::from(done.sleep.get()));
    let (path, value) = match pre_stop {
        PreStop::NoLifecycle => (below(&[]), json!({ "preStop": handler })),
        PreStop::Absent => (below(&["preStop"]), handler),
        PreStop::Sleep(slept) if ours(slept) && slept != i64::from(seconds) => {
            (below(&["preStop", "sleep", "seconds"]), json!(seconds))
        }
        PreStop::Sleep(_) | PreStop::Other => return None,
    };
    Some(add(&path, value))
}

/// The grace period, unless it is long enough.
fn of_grace(grace: Option<i64>, drained: Drained) -> Option<PatchOperation> {
    let long_enough = grace.is_some_and(|grace| grace >= drained.grace());
    let path = ["spec", "terminationGracePeriodSeconds"];
    (!long_enough).then(|| add(&path, json!(drained.grace())))
}

/// The annotation, unless it says so already.
fn of_annotation(pod: &NewPod, drained: Drained) -> Option<PatchOperation> {
    let value = json!(drained.to_string());
    let annotations = || json!({ DRAINED_ANNOTATION: value });
    match pod.annotations {
        _ if pod.drained == Some(drained) => None,
        Annotations::NoMetadata => {
            Some(add(&["metadata"], json!({ "annotations": annotations() })))
        }
        Annotations::Absent => Some(add(&["metadata", "annotations"], annotations())),
        Annotations::Present => {
            let path = ["metadata", "annotations", DRAINED_ANNOTATION];
            Some(add(&path, value))
        }
    }
}

#[cfg(test)]
mod tests;
