//! The hooks: they answer reviews.
//!
//! [`router`] serves them: one path for new pods, two for bindings. A hook's answer is always a whole
//! `AdmissionReview` with status 200; a request that is not a review is refused with another status and a sentence.

pub mod answer;
pub mod binding;
pub mod body;
mod deadline;
pub mod metrics;
pub mod pod;
mod prune_json;
pub mod refusal;
pub mod review;
mod room;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::FutureExt as _;
use http::header::CONTENT_TYPE;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::{debug, warn};

use targetgate_core::reason::Reason;
use targetgate_core::text::cut;

use crate::admission::answer::Answer;
use crate::admission::binding::BindingReviewer;
use crate::admission::body::{Intake, Limits, Received};
use crate::admission::deadline::answer_by;
use crate::admission::metrics::AdmissionMetrics;
use crate::admission::pod::PodPolicy;
use crate::admission::refusal::Refusal;
use crate::admission::review::Request;
use crate::admission::room::Room;
use crate::metrics::{Metrics, RefusalMetrics};
use crate::state::cache::Cache;
use crate::telemetry::LogThrottle;

/// Path of the pod hook.
pub const POD_PATH: &str = "/mutate-v1-pod";
/// Path of the hook that fills in bindings.
pub const MUTATE_BINDING_PATH: &str = "/mutate-elbv2-k8s-aws-v1beta1-targetgroupbinding";
/// Path of the hook that checks bindings.
pub const VALIDATE_BINDING_PATH: &str = "/validate-elbv2-k8s-aws-v1beta1-targetgroupbinding";

/// Maximum length of a warning in a line of the log, in bytes. Chosen.
const MAX_LOGGED: usize = 512;

/// The parts and settings of the hooks.
#[derive(Clone)]
pub struct Hooks {
    pub cache: Arc<Cache>,
    /// What new pods get.
    pub policy: PodPolicy,
    pub metrics: Arc<Metrics>,
    pub bindings: Arc<BindingReviewer>,
    pub limits: Limits,
}

/// One of the two hooks for bindings.
#[derive(Debug, Clone, Copy)]
enum BindingHook {
    /// Fills in defaults from AWS.
    Mutate,
    /// Checks a binding against the rules.
    Validate,
}

impl BindingHook {
    /// The name in metrics and logs.
    fn as_str(self) -> &'static str {
        match self {
            Self::Mutate => "binding-mutate",
            Self::Validate => "binding-validate",
        }
    }

    async fn review(
        self,
        reviewer: &BindingReviewer,
        request: &Request<'_, &RawValue>,
        answer_by: Instant,
    ) -> Answer {
        match self {
            Self::Mutate => reviewer.mutate(request, answer_by).await,
            Self::Validate => reviewer.validate(request, answer_by).await,
        }
    }
}

/// The router of the hooks.
pub fn router(hooks: Hooks) -> Router {
    let room = Room::new(hooks.limits.bodies);
    let shared = Arc::new(Shared {
        pods: Intake::new(&hooks.limits, &room),
        bindings: Intake::new(&hooks.limits, &room),
        said: LogThrottle::default(),
        metrics: hooks.metrics.of(),
        refusals: hooks.metrics.of(),
        hooks,
    });
    Router::new()
        .route(POD_PATH, post(pod))
        .route(MUTATE_BINDING_PATH, post(mutate_binding))
        .route(VALIDATE_BINDING_PATH, post(validate_binding))
        .fallback(wrong_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shared)
}

/// The hooks, with bounds for each kind, so that reviews of bindings that wait for AWS do not displace those of pods.
struct Shared {
    hooks: Hooks,
    metrics: AdmissionMetrics,
    refusals: RefusalMetrics,
    said: LogThrottle,
    pods: Intake,
    bindings: Intake,
}

async fn wrong_path(State(shared): State<Arc<Shared>>) -> Response {
    shared.refuse("none", Refusal::Path)
}

async fn wrong_method(State(shared): State<Arc<Shared>>) -> Response {
    shared.refuse("none", Refusal::Method)
}

async fn pod(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    const HOOK: &str = "pod";
    let received = match shared.pods.receive(request).await {
        Ok(received) => received,
        Err(refusal) => return shared.refuse(HOOK, refusal),
    };
    let start = Instant::now();
    let Hooks { cache, policy, .. } = &shared.hooks;
    let reply = match &received {
        Received::Whole(body, _) => pod::reply(body, cache, policy),
        Received::Shed(start) => pod::shed(start, Reason::Overloaded),
    };
    match reply {
        Ok(reply) => {
            if let Some(reason) = reply.drain {
                shared.metrics.drained(reason);
            }
            shared.answer(HOOK, &reply.uid, &reply.namespace, &reply.answer, start)
        }
        Err(refusal) => shared.refuse(HOOK, refusal),
    }
}

async fn mutate_binding(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    binding(&shared, BindingHook::Mutate, request).await
}

async fn validate_binding(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    binding(&shared, BindingHook::Validate, request).await
}

/// Answers a review of a binding. Unlike a pod, a binding that cannot be reviewed is refused, because it would not be
/// validated later.
async fn binding(shared: &Shared, hook: BindingHook, request: HttpRequest) -> Response {
    let name = hook.as_str();
    let answer_by = answer_by(request.uri(), Instant::now());
    let (body, _place) = match shared.bindings.receive(request).await {
        Ok(Received::Whole(body, place)) => (body, place),
        Ok(Received::Shed(_)) => return shared.refuse(name, Refusal::Overloaded),
        Err(refusal) => return shared.refuse(name, refusal),
    };
    let start = Instant::now();
    let request = match binding_request(&body) {
        Ok(request) => request,
        Err(refusal) => return shared.refuse(name, refusal),
    };
    let answer = hook.review(&shared.hooks.bindings, &request, answer_by);
    match AssertUnwindSafe(answer).catch_unwind().await {
        Ok(answer) => {
            let namespace = request.logged_namespace();
            shared.answer(name, &request.uid, namespace, &answer, start)
        }
        Err(_) => shared.refuse(name, Refusal::Internal),
    }
}

fn binding_request(body: &[u8]) -> Result<Request<'_, &RawValue>, Refusal> {
    let no_review = |problem| Refusal::NoReview { problem };
    let read = review::decode(body).map_err(|error| no_review(review::problem(&error)))?;
    if read.kind != review::KIND || read.api_version != review::API_VERSION {
        let problem = format!("it is no {} of {}", review::KIND, review::API_VERSION);
        return Err(no_review(problem));
    }
    let request = read.request.filter(Request::has_uid);
    request.ok_or_else(|| no_review(review::without_uid()))
}

impl Shared {
    /// Sends, counts and logs an answer. The log line does not quote the object.
    fn answer(
        &self,
        hook: &'static str,
        uid: &str,
        namespace: &str,
        answer: &Answer,
        start: Instant,
    ) -> Response {
        let body = answer.to_json(uid);
        let took = start.elapsed();
        let (reason, denied) = (answer.reason.as_str(), answer.denied.is_some());
        self.metrics.answered(hook, answer.reason, took);
        let warning = answer.warnings.first().map(|text| cut(text, MAX_LOGGED));
        match warning.and_then(|_| self.said.now(reason)) {
            Some(unsaid) => {
                warn!(
                    hook,
                    uid, namespace, reason, denied, warning, unsaid, "answered"
                );
            }
            None => debug!(
                hook,
                uid,
                namespace,
                reason,
                denied,
                warning,
                ?took,
                "answered"
            ),
        }
        ([(CONTENT_TYPE, "application/json")], body).into_response()
    }

    fn refuse(&self, hook: &'static str, refusal: Refusal) -> Response {
        let (cause, status) = (refusal.cause(), refusal.status().as_u16());
        self.refusals.refused(cause);
        match self.said.now(cause) {
            Some(unsaid) => warn!(hook, status, unsaid, %refusal, "refused"),
            None => debug!(hook, status, %refusal, "refused"),
        }
        refusal.into_response()
    }
}
