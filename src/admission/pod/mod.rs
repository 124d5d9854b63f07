//! The pod hook: it adds the gates of a new pod and what its end needs, from memory, and never denies a pod
//! (contract 2, 9).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use serde::de::IgnoredAny;
use targetgate_core::drain::{Asked, DrainLabel, DrainMode, DrainPolicy, asked};
use targetgate_core::gates::inject;
use targetgate_core::gates::inject::{Decision, GatePolicy, NewPod};
use targetgate_core::gates::patch;
use targetgate_core::index::{Index, NamespaceView};
use targetgate_core::names::{ConditionPrefix, DRAIN_LABEL, GateName, is_legacy_gate};
use targetgate_core::object::OwnAnnotations;
use targetgate_core::reason::Reason;
use targetgate_core::text::cut;

use crate::admission::answer::Answer;
use crate::admission::prune_json::{Keep, Member, prune};
use crate::admission::refusal::Refusal;
use crate::admission::review;
use crate::admission::review::{MAX_NAMESPACE, Object, Request, Review};
use crate::state::api_server::ApiServer;
use crate::state::cache::{Cache, InitialList, WatchedResource};

mod drain;
mod object;
#[cfg(test)]
mod tests;

use crate::admission::pod::drain::End;
use crate::admission::pod::object::{LabelList, Pod};

/// Maximum length of the `bindings` annotation, in bytes, because the API server writes it into the audit log for every
/// new pod. Chosen.
const MAX_AUDIT: usize = 512;
const CUT: char = '…';
/// Maximum length of a warning, in bytes: the API server may cut a longer one.
/// Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>
const MAX_WARNING: usize = 256;

/// What the hook decides by, besides the index.
#[derive(Debug, Clone)]
pub struct PodPolicy {
    /// The pods that get gates, and the names of gates.
    pub gates: GatePolicy,
    /// The prefixes of all gates that are opened.
    pub prefixes: Vec<ConditionPrefix>,
    /// The pods that get a sleep, and its length.
    pub drain: DrainPolicy,
    pub server: Arc<ApiServer>,
}

impl Default for PodPolicy {
    fn default() -> Self {
        Self {
            gates: GatePolicy::default(),
            prefixes: vec![ConditionPrefix::default()],
            drain: DrainPolicy::default(),
            server: Arc::default(),
        }
    }
}

/// Allows the pod without gates, and tells the client why.
fn allow(reason: Reason, why: fmt::Arguments<'_>) -> Answer {
    let gateless = "the pod was admitted without readiness gates of targetgate";
    Answer::allowed(reason)
        .audited()
        .warn(format!("{gateless}: {why}"))
}

/// The members of a review that are parsed.
const KEPT: Keep = Keep::Only(&[
    API_VERSION,
    KIND,
    ("request", Keep::Only(&request(object::KEPT))),
]);
/// The same, and those that decide about the pod's end.
const KEPT_WITH_END: Keep = Keep::Only(&[
    API_VERSION,
    KIND,
    ("request", Keep::Only(&request(object::KEPT_WITH_END))),
]);
const API_VERSION: Member = ("apiVersion", Keep::Whole);
const KIND: Member = ("kind", Keep::Whole);

const fn request(object: &'static [Member]) -> [Member; 7] {
    [
        ("uid", Keep::Whole),
        ("operation", Keep::Whole),
        ("namespace", Keep::Whole),
        ("name", Keep::Whole),
        ("resource", Keep::Whole),
        ("subResource", Keep::Whole),
        ("object", Keep::Only(object)),
    ]
}

/// An answer, and the uid of the request that it answers.
#[derive(Debug)]
pub struct Reply {
    /// `request.uid`.
    pub uid: String,
    /// The namespace of the request, for the log; empty if it was not parsed.
    pub namespace: String,
    /// The answer, which always allows the pod.
    pub answer: Answer,
    /// What was decided about the end of the pod, and why; `None` if it has no gate of ours.
    pub drain: Option<Reason>,
}

/// Answers a review of the pod hook.
///
/// # Errors
/// The body does not have a uid that the answer could repeat.
pub fn reply(body: &[u8], cache: &Cache, policy: &PodPolicy) -> Result<Reply, Refusal> {
    let of_pod = |review: Review<'_, Object<Pod<'_>>, _>, end: End<'_>| {
        of_review(review, |request| decided(request, end, cache, policy))
    };
    caught(body, || {
        // Where drain is likely to be on, pruning twice would cost more than parsing what it needs.
        let with_end =
            policy.drain.mode == DrainMode::Sleep || cache.read(Index::has_drained_namespace);
        let (keep, end) = match with_end {
            true => (&KEPT_WITH_END, End::Read),
            false => (&KEPT, End::In(body)),
        };
        let kept = prune(body, keep);
        if let Some(Ok(review)) = kept.as_deref().map(review::decode) {
            return of_pod(review, end);
        }
        // Parse the whole review again, so that the error is about all of it.
        match review::decode(body) {
            Ok(review) => of_pod(review, End::Read),
            Err(error) => unread(body, &error),
        }
    })
}

/// Allows the pod if the hook panics.
fn caught(body: &[u8], reply: impl FnOnce() -> Result<Reply, Refusal>) -> Result<Reply, Refusal> {
    // The closure only reads, so that a panic cannot leave shared state half changed.
    catch_unwind(AssertUnwindSafe(reply)).unwrap_or_else(|_| shed(body, Reason::Internal))
}

/// Sheds a review: allows the pod unread, from the start of its body.
///
/// # Errors
/// The start does not have a uid that the answer could repeat.
pub fn shed(start: &[u8], why: Reason) -> Result<Reply, Refusal> {
    let (without_uid, said) = match why {
        Reason::Overloaded => (Refusal::Overloaded, "targetgate is overloaded"),
        _ => (Refusal::Internal, "targetgate failed inside"),
    };
    let uid = review::uid(start).ok_or(without_uid)?;
    Ok(Reply {
        uid,
        namespace: String::new(),
        drain: None,
        answer: allow(why, format_args!("{said}")),
    })
}

/// Checks the envelope, and answers with `decide` if the request creates a v1 Pod.
fn of_review<'a, O>(
    review: Review<'a, O, IgnoredAny>,
    decide: impl FnOnce(&Request<'a, O, IgnoredAny>) -> Decided,
) -> Result<Reply, Refusal> {
    let Some(request) = review.request.filter(Request::has_uid) else {
        let problem = review::without_uid();
        return Err(Refusal::NoReview { problem });
    };
    let Decided { answer, drain } =
        if review.kind != review::KIND || review.api_version != review::API_VERSION {
            allow(
                Reason::BadReview,
                format_args!(
                    "the request is no {} of {}",
                    review::KIND,
                    review::API_VERSION
                ),
            )
            .into()
        } else if creates_pod(&request) {
            decide(&request)
        } else {
            Answer::allowed(Reason::NotPodCreate).audited().into()
        };
    Ok(Reply {
        namespace: request.logged_namespace().to_owned(),
        uid: request.uid.into_owned(),
        answer,
        drain,
    })
}

/// Answers a body that does not parse as the review of a Pod: it may be of another resource, or broken.
fn unread(body: &[u8], error: &serde_json::Error) -> Result<Reply, Refusal> {
    let problem = review::problem(error);
    if let Ok(review) = review::decode::<IgnoredAny, IgnoredAny>(body) {
        let object = |_: &_| allow(Reason::BadObject, format_args!("its object: {problem}")).into();
        return of_review(review, object);
    }
    let Some(uid) = review::uid(body) else {
        return Err(Refusal::NoReview { problem });
    };
    Ok(Reply {
        uid,
        namespace: String::new(),
        drain: None,
        answer: allow(Reason::BadReview, format_args!("the review: {problem}")),
    })
}

fn creates_pod<O, Old>(request: &Request<'_, O, Old>) -> bool {
    let resource = &request.resource;
    request.operation == "CREATE"
        && request.sub_resource.is_empty()
        && (&*resource.group, &*resource.version, &*resource.resource) == ("", "v1", "pods")
}

/// An answer, and what was decided about the end of the pod.
struct Decided {
    answer: Answer,
    drain: Option<Reason>,
}

impl From<Answer> for Decided {
    fn from(answer: Answer) -> Self {
        Self {
            answer,
            drain: None,
        }
    }
}

fn decided(
    request: &Request<'_, Object<Pod<'_>>, IgnoredAny>,
    end: End<'_>,
    cache: &Cache,
    policy: &PodPolicy,
) -> Decided {
    let bad = |what| allow(Reason::BadObject, format_args!("its object: {what}")).into();
    let Some(Object(pod)) = &request.object else {
        return bad("there is none");
    };
    // The resource identifies the object; its kind must not contradict it.
    if !matches!(&*pod.kind, "Pod" | "") {
        return bad("it is not of kind Pod");
    }
    // The patch changes spec, so spec must exist: the API server would reject the pod if the patch failed.
    let Some(Object(spec)) = &pod.spec else {
        return bad("it has no spec");
    };
    let gates = spec.readiness_gates.as_deref().unwrap_or_default();
    let gates: Vec<&str> = gates.iter().map(|Object(g)| &*g.condition_type).collect();
    let known = cache.look(WatchedResource::Namespaces) != InitialList::Pending;
    let (answer, asked) = match unknown(&request.namespace, cache, &policy.gates) {
        Some(answer) => (answer, None),
        None => cache.read(|index| {
            let view = index.namespace(&request.namespace);
            in_namespace(pod, &gates, view, known, policy)
        }),
    };
    let answer = warn_of_legacy_gate(answer, &gates);
    // The lock of the index is not held while the containers are read.
    let Some(asked) = asked else {
        return answer.into();
    };
    let (answer, drain) = drain::answered(answer, asked, pod, end);
    let drain = Some(drain);
    Decided { answer, drain }
}

/// The answer where the index does not know what decides.
fn unknown(namespace: &str, cache: &Cache, policy: &GatePolicy) -> Option<Answer> {
    if !cache.watches(namespace) {
        let namespace = cut(namespace, MAX_NAMESPACE);
        let why = format_args!("--watch-namespaces leaves out namespace {namespace:?}");
        return Some(allow(Reason::NotWatched, why));
    }
    let starting = "targetgate has just started and does not know the bindings and Services yet";
    (!knows_what_decides(cache, policy))
        .then(|| allow(Reason::NotReady, format_args!("{starting}")))
}

/// Warns of a legacy gate that the pod keeps, whose condition nobody writes any more.
fn warn_of_legacy_gate(answer: Answer, gates: &[&str]) -> Answer {
    // A gate that is due takes the place of legacy ones.
    let due = matches!(answer.reason, Reason::Injected | Reason::AlreadyInjected);
    let Some(gate) = gates.iter().find(|gate| !due && is_legacy_gate(gate)) else {
        return answer;
    };
    let warning = format!(
        "nobody writes the condition of a gate that the pod keeps, so that it never becomes Ready: remove from its template the readiness gate {gate:?}"
    );
    answer.warn(cut(&warning, MAX_WARNING))
}

/// Whether the initial lists of Services and of bindings that gate pods are complete.
fn knows_what_decides(cache: &Cache, policy: &GatePolicy) -> bool {
    let known = |watched| cache.look(watched) != InitialList::Pending;
    let mut apis = policy.apis.iter();
    known(WatchedResource::Services) && apis.all(|api| known(WatchedResource::Bindings(*api)))
}

/// Decides about gates, and what is asked for the end of a pod that has one. `known` tells whether the Namespaces are.
fn in_namespace(
    pod: &Pod<'_>,
    gates: &[&str],
    view: Option<&NamespaceView>,
    known: bool,
    policy: &PodPolicy,
) -> (Answer, Option<Asked>) {
    static EMPTY: LazyLock<NamespaceView> = LazyLock::new(NamespaceView::default);
    let view = view.unwrap_or(&EMPTY);
    let (none, never) = (LabelList::default(), OwnAnnotations::default());
    let metadata = pod.metadata.as_ref().map(|Object(metadata)| metadata);
    let annotations = metadata
        .and_then(|m| m.annotations.as_ref())
        .unwrap_or(&never);
    let new = NewPod {
        labels: metadata.and_then(|m| m.labels.as_ref()).unwrap_or(&none),
        gates,
        opted_out: annotations.opted_out,
    };
    let decision = inject::decide(&new, &view.routes, &policy.gates);
    let answer = of_gates(pod, &decision).warn_of_unreadable(&annotations.unreadable);
    let has_gate = |gate: &&str| GateName::under(&policy.prefixes, gate).is_some();
    if decision.reason > Reason::AlreadyInjected && !gates.iter().any(has_gate) {
        return (answer, None);
    }
    let label = view.namespace.drain;
    let kinds = decision.giving().map(|binding| binding.load_balancer);
    let (own, known_label) = (annotations.of_drain(), known.then_some(label));
    let server = policy.server.version();
    let asked = asked(own, known_label, kinds, &policy.drain, server);
    (warn_of_label(answer, label), Some(asked))
}

/// The answer that carries out a decision about gates.
fn of_gates(pod: &Pod<'_>, decision: &Decision<'_>) -> Answer {
    let mut answer = Answer::allowed(decision.reason).audited();
    let has_list = matches!(&pod.spec, Some(Object(spec)) if spec.readiness_gates.is_some());
    answer.patch = patch::of_pod(decision, has_list);
    if decision.reason != Reason::NoBinding {
        answer.audit.insert("bindings", by_binding(decision));
    }
    answer
}

/// Warns of a Namespace's label of ours that cannot be read, and therefore counts as absent.
fn warn_of_label(answer: Answer, label: DrainLabel) -> Answer {
    match label {
        DrainLabel::Unreadable => answer.warn(format!(
            "the label {DRAIN_LABEL} of the Namespace is ignored: its value is neither sleep nor off"
        )),
        DrainLabel::Absent | DrainLabel::Mode(_) => answer,
    }
}

/// `name=Reason`, joined by commas, the injected gates first, so that truncation spares them.
fn by_binding(decision: &Decision<'_>) -> String {
    let first = decision.injected().map(|name| (name, Reason::Injected));
    let rest = decision.bindings();
    let rest = rest.map(|(binding, reason)| (&*binding.name, reason));
    let rest = rest.filter(|(_, reason)| *reason != Reason::Injected);
    let mut text = String::with_capacity(MAX_AUDIT);
    for (name, reason) in first.chain(rest) {
        let comma = if text.is_empty() { "" } else { "," };
        let parts = [comma, name, "=", reason.as_str()];
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if text.len() + length > MAX_AUDIT - CUT.len_utf8() {
            text.push(CUT);
            break;
        }
        text.extend(parts);
    }
    text
}
