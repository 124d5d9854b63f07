//! Admission webhooks, called as kube-apiserver calls them: the mutating ones one after another in
//! the order of their configurations' names, the validating ones at once.

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

/// How many audit annotations are kept; older ones go.
const AUDIT_KEPT: usize = 10_000;

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// POST, or an apply of what is not there.
    Create,
    /// PUT and PATCH.
    Update,
    /// DELETE.
    Delete,
}

impl Operation {
    /// As an AdmissionReview has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
        }
    }
}

/// A request on its way to be admitted.
pub struct Review<'a> {
    /// What is about to be done
    pub operation: Operation,
    /// to what.
    pub target: &'a Target,
    /// The object to be; `None` on DELETE.
    pub object: Option<Object>,
    /// The stored object; `None` on CREATE.
    pub old: Option<&'a Object>,
    /// Nothing is kept.
    pub dry_run: bool,
    /// What carries the labels for `namespaceSelector`; `None` when there is no namespace.
    pub namespace_labels: Option<Arc<Object>>,
    /// What webhooks warned of.
    pub warnings: Vec<String>,
}

/// What a webhook wrote into the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub operation: &'static str,
    /// The plural, with the subresource.
    pub resource: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name; what is generated later is empty here.
    pub name: String,
    /// `WEBHOOK/KEY`.
    pub key: String,
    /// The annotation.
    pub value: String,
}

/// The part of the server that calls webhooks.
pub struct Admission {
    caller: Caller,
    audit: Mutex<VecDeque<Audit>>,
    counts: Mutex<BTreeMap<String, Counts>>,
}

/// How the calls of one webhook went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that were tried.
    pub calls: u64,
    /// Requests that passed because a call failed under `failurePolicy: Ignore`, as
    /// `apiserver_admission_webhook_fail_open_count` counts them.
    pub failed_open: u64,
    /// Requests that were refused because a call failed.
    pub failed_closed: u64,
    /// Requests that the webhook denied.
    pub denied: u64,
}

/// Which of the two phases.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Mutating,
    Validating,
}

/// A good answer of a webhook.
struct Answer {
    patch: Option<json_patch::Patch>,
    warnings: Vec<String>,
}

/// Why a webhook gave no good answer.
enum Trouble {
    /// It could not be asked: the failure policy decides.
    Failed(String),
    /// It was asked, and this is the end of the request.
    Refused(Status),
}

impl Admission {
    /// Without any call made yet.
    pub fn new(dial: Arc<dyn Dial>, now: Now) -> Admission {
        Admission {
            caller: Caller::new(dial, now),
            audit: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    /// Every audit annotation that is kept, the newest last.
    pub fn audit(&self) -> Vec<Audit> {
        self.audit.lock().iter().cloned().collect()
    }

    /// How the calls of a webhook went, by its name.
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
        // Which webhooks saw an object that a later one changed.
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

    /// Asks the validating webhooks, all at once; the first refusal in their order is the answer.
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

    /// Says whether the webhook changed the object.
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
        // The version that the webhook saw differs in nothing but `apiVersion`.
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

    /// Asks one webhook, if it wants to be; `None` is one that was passed over.
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

/// What is wrong with a configuration: the entries of `webhooks` that cannot be read.
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

/// The webhooks of one phase in the order of their configurations' names. The configurations
/// themselves are never sent to any webhook, or nobody could repair them.
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
