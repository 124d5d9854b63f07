//! Judges the invariants of single writes and calls, at the moment when they happen.
//!
//! `main.rs` lists the invariants.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use targetgate_core::names::AFTER_OPEN_ANNOTATION;
use targetgate_sandbox::api::Api;
use tokio::time::Instant;

use crate::direct;
use crate::facts::{Facts, Heard, Standing, Told};
use crate::policies;
use crate::trace::Trace;

/// The greatest age of an answer of ELB, or of an absence, when the write that is based on it arrives. It is
/// longer than any pause, timeout and held-up line together.
pub(crate) const FRESH: Duration = Duration::from_secs(60);
/// How long an absence must have lasted (contract 5.5).
const ABSENT_FOR: Duration = Duration::from_secs(30);
/// The health check interval of all groups of the world.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// The healthy and the unhealthy threshold of all groups of the world.
pub(crate) const THRESHOLDS: (u32, u32) = (2, 3);
/// The time after which a healthy target is so by its present pod's doing: the interval times the larger
/// threshold, and one interval more.
const PROVING: Duration = Duration::from_secs(20);
const PREFIX: &str = "target-health.elbv2.k8s.aws/";
pub(crate) const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/targetgate-system/leases/targetgate";

/// The judge of writes and calls.
#[derive(Clone)]
pub(crate) struct Witness {
    pub(crate) api: Api,
    pub(crate) facts: Arc<Mutex<Facts>>,
    /// Whether everything that happens is noted in the facts, so that openings can be judged by them.
    pub(crate) knows_all: bool,
    pub(crate) trace: Trace,
}

/// A write on its way, with the state when it was sent.
pub(crate) struct Sent {
    incarnation: String,
    path: String,
    version: Option<String>,
}

impl Witness {
    /// Judges a write when a replica sends it.
    pub(crate) fn sent(&self, incarnation: &str, path: &str, body: &Value) -> Sent {
        if is_pod_status(path) {
            self.expect_leader(incarnation, path);
            let metadata = &body["metadata"];
            if !metadata["uid"].is_string() || !metadata["resourceVersion"].is_string() {
                self.trace
                    .violated("guarded", &format!("{path} without UID or version: {body}"));
            }
        }
        let now = direct::get(&self.api, object_path(path));
        Sent {
            incarnation: incarnation.to_owned(),
            path: path.to_owned(),
            version: now.map(|object| version(&object)),
        }
    }

    pub(crate) fn expect_leader(&self, incarnation: &str, path: &str) {
        let holder = self.holder();
        if holder
            .as_deref()
            .is_some_and(|holder| holder != incarnation)
        {
            let what = format!("{incarnation} writes {path} though {holder:?} leads");
            self.trace.violated("fenced", &what);
        }
    }

    /// The identity that holds the Lease.
    pub(crate) fn holder(&self) -> Option<String> {
        let lease = direct::get(&self.api, LEASE)?;
        let holder = lease["spec"]["holderIdentity"].as_str()?;
        Some(holder.to_owned())
    }

    /// Judges the changes that a patch made to an object.
    pub(crate) fn patched(&self, sent: &Sent, before: &Value, after: &Value) {
        let mut changes = BTreeSet::new();
        differ("", before, after, &mut changes);
        changes.retain(|path| path != "/metadata/resourceVersion");
        let path = &sent.path;
        if is_pod_status(path) {
            self.condition_written(sent, before, after, &changes);
        } else {
            self.expect(&changes, path, |at| at.ends_with("/clientConfig/caBundle"));
        }
    }

    fn expect(&self, changes: &BTreeSet<String>, path: &str, ours: impl Fn(&str) -> bool) {
        for change in changes.iter().filter(|change| !ours(change)) {
            self.trace
                .violated("nothing lost", &format!("{path} changed {change}"));
        }
    }

    fn condition_written(
        &self,
        sent: &Sent,
        before: &Value,
        after: &Value,
        changes: &BTreeSet<String>,
    ) {
        self.expect(changes, &sent.path, |at| {
            at.starts_with("/status/conditions")
        });
        let (had, has) = (conditions(before), conditions(after));
        let kept = |of: &[Value]| -> Vec<Value> {
            let others = of.iter().filter(|c| !has_type_of_gate(c, before));
            others.cloned().collect()
        };
        if kept(&had) != kept(&has) {
            let what = format!("{}: conditions of others {had:?} became {has:?}", sent.path);
            self.trace.violated("nothing lost", &what);
        }
        let types: BTreeSet<&str> = has.iter().filter_map(|c| c["type"].as_str()).collect();
        if types.len() != has.len() || has.len() < had.len() {
            let what = format!("{}: {had:?} became {has:?}", sent.path);
            self.trace.violated("no gate lost or doubled", &what);
        }
        for condition in has.iter().filter(|c| !had.contains(c)) {
            let kind = condition["type"].as_str().unwrap_or_default();
            let former = had.iter().find(|c| c["type"] == condition["type"]);
            let was_open = former.is_some_and(|c| c["status"] == "True");
            let Some(gate) = kind.strip_prefix(PREFIX) else {
                continue;
            };
            if was_open && condition["status"] != "True" {
                self.closed(sent, before, gate);
            }
            let former_leader = self
                .holder()
                .is_some_and(|holder| holder != sent.incarnation);
            if former_leader && sent.version.as_deref() != Some(&version(before)) {
                let what = format!("{} {gate} by {}", sent.path, sent.incarnation);
                self.trace
                    .violated("no late write of a former leader", &what);
            }
            if condition["status"] == "True" && !was_open && self.knows_all {
                self.opened(sent, before, gate, condition);
            }
            self.note_told(sent, before, gate);
        }
    }

    /// Judges the closing of an open gate: the pod has another address, or it follows ELB.
    fn closed(&self, sent: &Sent, pod: &Value, gate: &str) {
        let facts = self.facts.lock();
        let right = match facts.moved.contains(&uid(pod)) {
            true => Ok("it moved"),
            false if self.knows_all => {
                let key = (uid(pod), gate.to_owned());
                policies::is_followed(&facts, &sent.incarnation, &key)
            }
            false => self.is_annotated(pod),
        };
        drop(facts);
        let what = format!("{} {gate}", sent.path);
        match right {
            Ok(why) => {
                let what = format!("closes {what}: {why}");
                self.trace.note(&sent.incarnation, &what);
            }
            Err(why) => {
                let what = format!("{what} is closed again: {why}");
                self.trace.violated("open stays open", &what);
            }
        }
    }

    /// Whether the pod or its namespace has the annotation under which gates close, in a world without facts.
    fn is_annotated(&self, pod: &Value) -> Result<&'static str, &'static str> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let namespace = direct::get(&self.api, &format!("/api/v1/namespaces/{namespace}"));
        let mut objects = [Some(pod), namespace.as_ref()].into_iter().flatten();
        let follows =
            |object: &Value| object["metadata"]["annotations"][AFTER_OPEN_ANNOTATION] == "follow";
        match objects.any(follows) {
            true => Ok("it follows"),
            false => Err("it holds"),
        }
    }

    fn note_told(&self, sent: &Sent, pod: &Value, gate: &str) {
        let mut facts = self.facts.lock();
        let Some((key, known)) = facts.pods.iter().find(|(_, known)| known.uid == uid(pod)) else {
            return;
        };
        let told = Told {
            uid: known.uid.clone(),
            target: known.target(),
            gate: (key.0.clone(), gate.to_owned()),
        };
        let all = facts.told.entry(sent.incarnation.clone()).or_default();
        if !all.contains(&told) {
            all.push(told);
        }
    }

    /// Judges the opening of a gate: ELB called the target healthy, or there was an absence.
    fn opened(&self, sent: &Sent, pod: &Value, gate: &str, condition: &Value) {
        let facts = self.facts.lock();
        let key = (uid(pod), gate.to_owned());
        let gone = condition["message"] == "Target Group Binding is deleted";
        let stood = |standing| facts.stood(&key, standing, ABSENT_FOR, FRESH);
        let right = match condition["reason"].as_str() {
            Some("NotSelected") if stood(Standing::NotSelected) => Ok("not selected"),
            Some("NotSelected") => Err("it is selected"),
            _ if gone && stood(Standing::Gone) => Ok("gone"),
            _ if gone && stood(Standing::Terminating) => is_unregistered(&facts, sent, pod, gate),
            _ if gone => Err("its binding is there"),
            Some("GateTimeout") => policies::is_old(&facts, &key),
            Some("TargetGroupUnused") => policies::is_unused(&facts, &sent.incarnation, &key),
            Some("") | None => is_healthy(&facts, sent, pod, gate),
            Some(_) => Err("for no known reason"),
        };
        drop(facts);
        let what = format!("{} {gate}", sent.path);
        match right {
            Ok(right) => {
                let what = format!("opens {what}: {right}");
                self.trace.note(&sent.incarnation, &what);
            }
            Err(why) => {
                let what = format!("{what} by {}: {why}", sent.incarnation);
                self.trace.violated("no gate opened without right", &what);
            }
        }
    }

    /// Notes an answer of ELB to a replica.
    pub(crate) fn heard(&self, incarnation: &str, heard: Heard) {
        let mut facts = self.facts.lock();
        facts
            .heard
            .entry(incarnation.to_owned())
            .or_default()
            .push(heard);
    }
}

/// Whether ELB answered at least half a minute apart, and always between, that it does not have this pod's target
/// or deregisters it.
fn is_unregistered(
    facts: &Facts,
    sent: &Sent,
    pod: &Value,
    gate: &str,
) -> Result<&'static str, &'static str> {
    let uid = uid(pod);
    let Some((key, known)) = facts.pods.iter().find(|(_, known)| known.uid == uid) else {
        return Err("the pod is gone");
    };
    let groups = facts.groups.get(&(key.0.clone(), gate.to_owned()));
    let groups = groups.map(Vec::as_slice).unwrap_or_default();
    let heard = facts.heard.get(&sent.incarnation).into_iter().flatten();
    let mut about: Vec<&Heard> = heard.filter(|h| groups.contains(&h.arn)).collect();
    about.sort_by_key(|h| h.sent);
    let is_registered = |h: &&&Heard| {
        let state = h.states.get(&known.target()).map(String::as_str);
        !matches!(state, None | Some("unused" | "draining"))
    };
    let mut last = about.iter().rev().take_while(|h| !is_registered(h));
    let latest = last.next().ok_or("ELB has the target")?.sent;
    let first = last.last().map_or(latest, |h| h.sent);
    match latest - first >= ABSENT_FOR {
        true => Ok("terminating"),
        false => Err("ELB had the target lately"),
    }
}

/// Whether ELB called this pod's target healthy, in an answer that was requested when the pod was ready.
fn is_healthy(
    facts: &Facts,
    sent: &Sent,
    pod: &Value,
    gate: &str,
) -> Result<&'static str, &'static str> {
    let (uid, now) = (uid(pod), Instant::now());
    let Some((key, known)) = facts.pods.iter().find(|(_, known)| known.uid == uid) else {
        return Err("the pod is gone");
    };
    let due = *facts.due.get(&uid).ok_or("the pod was never ready")?;
    let binding = (key.0.clone(), gate.to_owned());
    let groups = facts
        .groups
        .get(&binding)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let target = known.target();
    let heard = facts
        .heard
        .get(&sent.incarnation)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let about = || {
        heard
            .iter()
            .filter(|h| groups.contains(&h.arn) && h.sent >= due)
    };
    let is_healthy = |h: &Heard| {
        h.states
            .get(&target)
            .is_some_and(|state| state == "healthy")
    };
    let mut healthy = about()
        .filter(|h| is_healthy(h) && now - h.received <= FRESH)
        .peekable();
    if healthy.peek().is_none() {
        return Err("ELB never said healthy since it was due");
    }
    let told = facts
        .told
        .get(&sent.incarnation)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let of_another = |occupants: &BTreeSet<String>| occupants.iter().any(|other| *other != uid);
    let had_another = facts.occupants.get(&known.ip).is_some_and(of_another);
    let used = facts.calm && had_another
        || told
            .iter()
            .any(|t| t.target == target && t.uid != uid && t.gate == binding);
    let otherwise = about().find(|h| !is_healthy(h)).map(|h| h.received);
    let proven =
        |h: &Heard| otherwise.is_some_and(|at| at <= h.received) || h.sent >= due + PROVING;
    match used {
        false => Ok("healthy"),
        true if healthy.any(proven) => Ok("healthy at a used address"),
        true => Err("its address was another's, whose health this may be"),
    }
}

/// Whether a patch of this path is judged by its changes.
pub(crate) fn is_judged(path: &str) -> bool {
    is_pod_status(path) || path.contains("webhookconfigurations")
}

pub(crate) fn is_pod_status(path: &str) -> bool {
    path.contains("/pods/") && path.ends_with("/status")
}

/// The path without the subresource.
pub(crate) fn object_path(path: &str) -> &str {
    path.strip_suffix("/status").unwrap_or(path)
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn version(object: &Value) -> String {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.unwrap_or_default().to_owned()
}

pub(crate) fn conditions(pod: &Value) -> Vec<Value> {
    pod["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn has_type_of_gate(condition: &Value, pod: &Value) -> bool {
    let gates = pod["spec"]["readinessGates"].as_array();
    let mut gates = gates.into_iter().flatten();
    gates.any(|gate| gate["conditionType"] == condition["type"])
}

/// The paths at which two objects differ. An array counts as one value unless both have the same length.
fn differ(at: &str, before: &Value, after: &Value, changes: &mut BTreeSet<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let of = |object: &serde_json::Map<String, Value>| {
                    object.get(key).cloned().unwrap_or_default()
                };
                differ(&format!("{at}/{key}"), &of(before), &of(after), changes);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                differ(&format!("{at}/{index}"), before, after, changes);
            }
        }
        _ if before != after => {
            changes.insert(at.to_owned());
        }
        _ => {}
    }
}
