//! Admission webhooks, called as kube-apiserver calls them: the mutating ones one after another in
//! the order of their configurations' names, the validating ones at once.

mod call;
mod cel;
mod rules;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::{call::Caller, cel::Verdict, rules::Webhook};
use super::{
    Inner, dial::Dial, kinds::Served, object::Object, status::Status, store::Scan, write::Target,
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
        let request = request(review, &served, &uid);
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
        let response = checked(&answered, &uid).map_err(Trouble::Failed)?;
        self.record(webhook, review, &response["auditAnnotations"]);
        if response["allowed"] != true {
            return Err(Trouble::Refused(denial(webhook, &response["status"])));
        }
        let warnings = response["warnings"].as_array().into_iter().flatten();
        Ok(Answer {
            patch: patch(response).map_err(Trouble::Failed)?,
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

fn request(review: &Review<'_>, served: &Served, uid: &str) -> Value {
    let kind_in = |served: &Served| {
        json!({
            "group": served.resource.group,
            "version": served.version().name,
            "kind": served.resource.kind,
        })
    };
    let resource_in = |served: &Served| {
        json!({
            "group": served.resource.group,
            "version": served.version().name,
            "resource": served.resource.plural,
        })
    };
    let shown = |object: Option<&Object>| {
        object.map_or(Value::Null, |object| served.present(object).into_value())
    };
    let target = review.target;
    let options = match review.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
    };
    let mut request = json!({
        "uid": uid,
        "kind": kind_in(served),
        "resource": resource_in(served),
        "requestKind": kind_in(&target.served),
        "requestResource": resource_in(&target.served),
        "operation": review.operation.as_str(),
        "userInfo": {
            "username": "sandbox-admin",
            "groups": ["system:masters", "system:authenticated"],
        },
        "object": shown(review.object.as_ref()),
        "oldObject": shown(review.old),
        "dryRun": review.dry_run,
        "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
    });
    for (field, text) in [
        ("name", &target.name),
        ("namespace", &target.namespace),
        ("subResource", &target.subresource),
        ("requestSubResource", &target.subresource),
    ] {
        if !text.is_empty() {
            request[field] = json!(text);
        }
    }
    request
}

/// The response of a review, when it is one and answers this request.
fn checked<'a>(review: &'a Value, uid: &Value) -> Result<&'a Value, String> {
    let is = (review["apiVersion"].as_str(), review["kind"].as_str());
    if is != (Some("admission.k8s.io/v1"), Some("AdmissionReview")) {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, \
             Kind={}",
            is.0.unwrap_or_default(),
            is.1.unwrap_or_default()
        ));
    }
    let response = &review["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    if response["uid"] != *uid {
        return Err(format!(
            "expected response.uid={uid}, got {}",
            response["uid"]
        ));
    }
    Ok(response)
}

fn patch(response: &Value) -> Result<Option<json_patch::Patch>, String> {
    let Some(encoded) = response["patch"].as_str().filter(|patch| !patch.is_empty()) else {
        return match &response["patch"] {
            Value::Null | Value::String(_) => Ok(None),
            _ => Err("webhook response.patch is not a base64 string".to_owned()),
        };
    };
    if response["patchType"] != "JSONPatch" {
        return Err(format!(
            "webhook returned response.patch with response.patchType {}, not \"JSONPatch\"",
            response["patchType"]
        ));
    }
    let decoded = STANDARD
        .decode(encoded)
        .map_err(|error| format!("webhook response.patch is not base64: {error}"))?;
    serde_json::from_slice(&decoded)
        .map(Some)
        .map_err(|error| format!("webhook response.patch is not a JSON Patch: {error}"))
}

fn denial(webhook: &Webhook, status: &Value) -> Status {
    let name = &webhook.name;
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("admission webhook \"{name}\" denied the request without explanation"),
        ("", reason) => format!("admission webhook \"{name}\" denied the request: {reason}"),
        (message, _) => format!("admission webhook \"{name}\" denied the request: {message}"),
    };
    let code = status["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|code| *code >= 400).unwrap_or(403);
    let reason = match (text("reason"), code) {
        ("", 403) => "Forbidden",
        (reason, _) => reason,
    };
    Status {
        details: status["details"].clone(),
        ..Status::new(code, reason, message)
    }
}
