//! Calls admission webhooks as kube-apiserver does: the mutating ones one after another in the
//! order of their configurations' names, the validating ones concurrently.

mod call;
mod cel;
mod review;
mod rules;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::{call::Caller, cel::Verdict, rules::Webhook};
use super::{
    Inner,
    dial::Dial,
    object::Object,
    status::{Cause, Status},
    store::Scan,
    target::Target,
};
use crate::clock::Now;

/// At most this many audit annotations are kept; the oldest are dropped first. Chosen.
const AUDIT_KEPT: usize = 10_000;

/// The operation that a request asks for, as an AdmissionReview names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// POST, or an apply of an object that does not exist.
    Create,
    /// PUT and PATCH.
    Update,
    /// DELETE.
    Delete,
}

impl Operation {
    /// The name of the operation in an AdmissionReview.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
        }
    }
}

/// A request that admission has to decide on.
pub struct Review<'a> {
    /// The operation.
    pub operation: Operation,
    /// The resource and the object that the operation is about.
    pub target: &'a Target,
    /// The new state of the object; `None` on DELETE.
    pub object: Option<Object>,
    /// The stored state of the object; `None` on CREATE.
    pub old: Option<&'a Object>,
    /// Whether the request is a dry run, which stores nothing.
    pub dry_run: bool,
    /// The object whose labels `namespaceSelector` is matched against; `None` for an object that
    /// has no namespace.
    pub namespace_labels: Option<Arc<Object>>,
    /// The warnings that webhooks have returned so far.
    pub warnings: Vec<String>,
}

/// One audit annotation that a webhook returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub operation: &'static str,
    /// The plural, with the subresource.
    pub resource: String,
    pub namespace: String,
    /// The object's name; empty while `generateName` has not been resolved.
    pub name: String,
    /// `WEBHOOK/KEY`.
    pub key: String,
    /// The value of the annotation.
    pub value: String,
}

/// The part of the server that calls webhooks, with its audit annotations and counts.
pub struct Admission {
    caller: Caller,
    audit: Mutex<VecDeque<Audit>>,
    counts: Mutex<BTreeMap<String, Counts>>,
}

/// The number of calls of one webhook, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that were attempted.
    pub calls: u64,
    /// Requests that passed because a call failed under `failurePolicy: Ignore`, as
    /// `apiserver_admission_webhook_fail_open_count` counts them.
    pub failed_open: u64,
    /// Requests that were refused because a call failed.
    pub failed_closed: u64,
    /// Requests that the webhook denied.
    pub denied: u64,
}

/// The two phases of admission.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Mutating,
    Validating,
}

/// A valid answer of a webhook.
struct Answer {
    patch: Option<json_patch::Patch>,
    warnings: Vec<String>,
}

/// Why a webhook gave no valid answer.
enum Trouble {
    /// The webhook could not be asked, so that its failure policy decides.
    Failed(String),
    /// The webhook was asked, and the request is refused.
    Refused(Status),
}

impl Admission {
    /// Admission that has not called any webhook yet.
    pub fn new(dial: Arc<dyn Dial>, now: Now) -> Admission {
        Admission {
            caller: Caller::new(dial, now),
            audit: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// All audit annotations that are kept, the newest last.
    pub fn audit(&self) -> Vec<Audit> {
        self.audit.lock().iter().cloned().collect()
    }

    /// The counts of a webhook, by the webhook's name.
    pub fn counts(&self, webhook: &str) -> Counts {
        let counts = self.counts.lock();
        counts.get(webhook).copied().unwrap_or_default()
    }

    fn count(&self, webhook: &Webhook, add: impl FnOnce(&mut Counts)) {
        add(self.counts.lock().entry(webhook.name.clone()).or_default());
    }

    /// Lets the mutating webhooks change `review.object`.
    pub async fn mutate(&self, api: &Inner, review: &mut Review<'_>) -> Result<(), Status> {
        let webhooks = webhooks(api, review, Phase::Mutating)?;
        // Marks the webhooks that saw an object which a later webhook changed.
        let mut outdated = vec![false; webhooks.len()];
        for (at, webhook) in webhooks.iter().enumerate() {
            if self.mutate_by(api, webhook, review).await? {
                outdated[..at].fill(true);
            }
        }
        for (webhook, outdated) in webhooks.iter().zip(outdated) {
            if outdated && webhook.is_reinvoked() {
                self.mutate_by(api, webhook, review).await?;
            }
        }
        Ok(())
    }

    /// Asks the validating webhooks concurrently. The first refusal in their order is returned.
    pub async fn validate(&self, api: &Inner, review: &mut Review<'_>) -> Result<(), Status> {
        let webhooks = webhooks(api, review, Phase::Validating)?;
        let shared: &Review<'_> = review;
        let asked = webhooks
            .iter()
            .map(|webhook| self.ask(api, webhook, shared));
        let mut warnings = Vec::new();
        for answer in join_all(asked).await {
            warnings.extend(answer?.map(|answer| answer.warnings).unwrap_or_default());
        }
        review.warnings.extend(warnings);
        Ok(())
    }

    /// Returns whether the webhook changed the object.
    async fn mutate_by(
        &self,
        api: &Inner,
        webhook: &Webhook,
        review: &mut Review<'_>,
    ) -> Result<bool, Status> {
        let Some(answer) = self.ask(api, webhook, review).await? else {
            return Ok(false);
        };
        review.warnings.extend(answer.warnings);
        let (Some(patch), Some(object)) = (answer.patch, &review.object) else {
            return Ok(false);
        };
        // The version that the webhook saw differs from the stored one in `apiVersion` only.
        let mut patched = object.to_value();
        let applied = json_patch::patch(&mut patched, &patch).map_err(|error| error.to_string());
        let patched = applied.and_then(|()| Object::new(patched));
        let mut patched = patched.map_err(|error| {
            let name = &webhook.name;
            Status::internal(format!("applying the patch of webhook \"{name}\": {error}"))
        })?;
        patched.set("apiVersion", object.field("apiVersion").clone());
        let changed = patched != *object;
        review.object = Some(patched);
        Ok(changed)
    }

    /// Asks one webhook if it wants the request; returns `None` if it does not, or if a failed call
    /// is ignored.
    async fn ask(
        &self,
        api: &Inner,
        webhook: &Webhook,
        review: &Review<'_>,
    ) -> Result<Option<Answer>, Status> {
        let wants = webhook.wants(review).map_err(Status::internal)?;
        let Some(served) = wants else {
            return Ok(None);
        };
        let uid = api.store.uid();
        let request = review::request(review, &served, &uid);
        match cel::evaluate(&webhook.match_conditions, &request) {
            Verdict::Match => {}
            Verdict::NoMatch => return Ok(None),
            Verdict::Failed(_) if webhook.ignores_failure() => return Ok(None),
            Verdict::Failed(why) => {
                return Err(Status::forbidden(format!(
                    "{} \"{}\" is forbidden: {why}",
                    review.target.served.resource.qualified(),
                    review.target.name
                )));
            }
        }
        if review.dry_run && !webhook.supports_dry_run() {
            return Err(Status::bad_request(format!(
                "admission webhook \"{}\" does not support dry run",
                webhook.name
            )));
        }
        self.count(webhook, |counts| counts.calls += 1);
        match self.converse(webhook, review, request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Trouble::Refused(status)) => {
                self.count(webhook, |counts| counts.denied += 1);
                Err(status)
            }
            Err(Trouble::Failed(why)) if webhook.ignores_failure() => {
                tracing::debug!(
                    webhook = webhook.name,
                    why,
                    "failed to call a webhook; ignored"
                );
                self.count(webhook, |counts| counts.failed_open += 1);
                Ok(None)
            }
            Err(Trouble::Failed(why)) => {
                self.count(webhook, |counts| counts.failed_closed += 1);
                Err(Status::internal(format!(
                    "failed calling webhook \"{}\": {why}",
                    webhook.name
                )))
            }
        }
    }

    async fn converse(
        &self,
        webhook: &Webhook,
        review: &Review<'_>,
        request: Value,
    ) -> Result<Answer, Trouble> {
        let uid = request["uid"].clone();
        let body = json!({
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": request,
        });
        let called = self.caller.call(webhook, &body).await;
        let answered = called.map_err(Trouble::Failed)?;
        let response = review::checked(&answered, &uid).map_err(Trouble::Failed)?;
        self.record(webhook, review, &response["auditAnnotations"]);
        if response["allowed"] != true {
            return Err(Trouble::Refused(review::denial(
                webhook,
                &response["status"],
            )));
        }
        let warnings = response["warnings"].as_array().into_iter().flatten();
        Ok(Answer {
            patch: review::patch(response).map_err(Trouble::Failed)?,
            warnings: warnings
                .filter_map(|warning| warning.as_str().map(str::to_owned))
                .collect(),
        })
    }

    fn record(&self, webhook: &Webhook, review: &Review<'_>, annotations: &Value) {
        let mut audit = self.audit.lock();
        for (key, value) in annotations.as_object().into_iter().flatten() {
            if audit.len() == AUDIT_KEPT {
                audit.pop_front();
            }
            audit.push_back(Audit {
                operation: review.operation.as_str(),
                resource: review.target.path(),
                namespace: review.target.namespace.clone(),
                name: review.target.name.clone(),
                key: format!("{}/{key}", webhook.name),
                value: value.as_str().unwrap_or_default().to_owned(),
            });
        }
    }
}

/// Checks a webhook configuration, and returns a cause for each entry of `webhooks` that cannot be
/// read.
pub fn check(configuration: &Object) -> Vec<Cause> {
    let entries = configuration.field("webhooks").as_array();
    let entries = entries.into_iter().flatten().enumerate();
    entries
        .filter_map(|(at, entry)| {
            let error = serde_json::from_value::<Webhook>(entry.clone()).err()?;
            let field = format!("webhooks[{at}]");
            Some(Cause::invalid(field, entry, &error.to_string()))
        })
        .collect()
}

/// The webhooks of one phase in the order of their configurations' names. Webhook configurations
/// themselves are never sent to any webhook, because a broken one could then not be repaired.
fn webhooks(api: &Inner, review: &Review<'_>, phase: Phase) -> Result<Vec<Webhook>, Status> {
    let group = "admissionregistration.k8s.io";
    let plural = match phase {
        Phase::Mutating => "mutatingwebhookconfigurations",
        Phase::Validating => "validatingwebhookconfigurations",
    };
    let Some(served) = api.served(group, "v1", plural) else {
        return Ok(vec![]);
    };
    if review.target.served.resource.group == group {
        return Ok(vec![]);
    }
    let configurations = api.store.list(&Scan::all(&served.resource, None));
    let mut webhooks = Vec::new();
    for (_, configuration) in configurations.items {
        for webhook in configuration
            .field("webhooks")
            .as_array()
            .into_iter()
            .flatten()
        {
            let webhook = serde_json::from_value(webhook.clone()).map_err(|error| {
                Status::internal(format!("{plural} \"{}\": {error}", configuration.name()))
            })?;
            webhooks.push(webhook);
        }
    }
    Ok(webhooks)
}
