//! What the registrar puts on bindings: finalizers, and the condition `Ready`.
//!
//! Needs the verbs `get` and `patch` on `targetgroupbindings.elbv2.k8s.aws`, and `patch` on its `status`.

use jiff::Timestamp;
use kube::Client;
use kube::api::{GetParams, Patch, PatchParams};
use kube::core::Request;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use targetgate_core::index::BindingKey;
use targetgate_core::names::{FINALIZER, INCUMBENT_FINALIZER};
use targetgate_core::targets::machine::action::{Finalizer, Status, Written};
use targetgate_core::text::cut;
use tokio::time::Instant;

use crate::kubernetes::MANAGER;
use crate::kubernetes::decode::url_path;
use crate::kubernetes::targets::{Failure, json_patch, send};
use crate::state::cache::WatchedResource;

/// How often a binding is read and patched before another client's writes between the two count as a conflict.
/// Chosen: the incumbent puts its finalizer back within 100 ms, once.
const ATTEMPTS: usize = 3;
/// Maximum length of a condition's message, in bytes: that of the CRD. Kubernetes' own kinds have the same.
const MAX_MESSAGE: usize = 32_768;
/// The type of our condition.
const READY: &str = "Ready";

/// A binding as it is now, as far as it is changed here.
#[derive(Debug, Deserialize)]
struct Binding {
    metadata: Metadata,
    #[serde(default)]
    status: BindingStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    resource_version: String,
    /// `None` if it has none: such a list is absent.
    finalizers: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
struct BindingStatus {
    conditions: Option<Vec<Value>>,
}

/// Puts a finalizer on the binding of this UID, or takes it off, and keeps all others: the patch tests that the list is
/// the one that was read. A binding that is gone is a conflict, which a watch settles.
pub async fn patch_finalizer(
    client: &Client,
    key: &BindingKey,
    uid: &str,
    finalizer: Finalizer,
    by: Instant,
) -> Written {
    let verb = match finalizer {
        Finalizer::AddOurs => "put finalizer targetgate.dev/targets on",
        Finalizer::RemoveOurs => "take finalizer targetgate.dev/targets off",
        Finalizer::RemoveIncumbents => "take finalizer elbv2.k8s.aws/resources off",
    };
    for _ in 0..ATTEMPTS {
        let binding = match read(client, key, uid, by).await {
            Ok(Some(binding)) => binding,
            Ok(None) => return Written::Conflict,
            Err(failure) => return failure.written(verb, &what(key)),
        };
        let Some(patch) = binding.with(finalizer) else {
            return Written::Done(None);
        };
        let request = json_patch(&requests(key), &key.object.name, None, &patch);
        match send::<IgnoredAny>(client, request, by).await {
            Ok(_) => return Written::Done(None),
            Err(failure) if failure.is_failed_test() || failure.code() == 409 => {}
            Err(failure) => return failure.written(verb, &what(key)),
        }
    }
    Written::Conflict
}

/// Writes the condition `Ready` of a binding, and `observedGeneration`, and keeps all other conditions.
pub async fn write_status(
    client: &Client,
    status: &Status,
    now: Timestamp,
    by: Instant,
) -> Written {
    let (key, verb) = (&status.binding, "write the status of");
    for _ in 0..ATTEMPTS {
        let binding = match read(client, key, &status.uid, by).await {
            Ok(Some(binding)) => binding,
            Ok(None) => return Written::Conflict,
            Err(failure) => return failure.written(verb, &what(key)),
        };
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(binding.told(status, now));
        let request = requests(key).patch_subresource("status", &key.object.name, &params, &patch);
        match send::<IgnoredAny>(client, request, by).await {
            Ok(_) => return Written::Done(None),
            Err(failure) if failure.code() == 409 => {}
            Err(failure) => return failure.written(verb, &what(key)),
        }
    }
    Written::Conflict
}

/// The binding; `None` if it is gone, or another has its name.
async fn read(
    client: &Client,
    key: &BindingKey,
    uid: &str,
    by: Instant,
) -> Result<Option<Binding>, Failure> {
    let request = requests(key).get(&key.object.name, &GetParams::default());
    match send::<Binding>(client, request, by).await {
        Ok(binding) => Ok(Some(binding).filter(|binding| binding.metadata.uid == uid)),
        Err(failure) if failure.is_absence() => Ok(None),
        Err(failure) => Err(failure),
    }
}

impl Binding {
    /// The patch that changes the finalizers; `None` if they are as they should be.
    fn with(&self, finalizer: Finalizer) -> Option<Value> {
        let before = self.metadata.finalizers.as_ref();
        let all = before.map_or(&[][..], Vec::as_slice);
        let (name, on) = match finalizer {
            Finalizer::AddOurs => (FINALIZER, true),
            Finalizer::RemoveOurs => (FINALIZER, false),
            Finalizer::RemoveIncumbents => (INCUMBENT_FINALIZER, false),
        };
        let mut after: Vec<&str> = all.iter().map(String::as_str).collect();
        after.retain(|known| *known != name);
        after.extend(on.then_some(name));
        if all.iter().eq(&after) || (on && all.iter().any(|known| known == name)) {
            return None;
        }
        let Metadata {
            uid,
            resource_version,
            ..
        } = &self.metadata;
        let unchanged = match before {
            Some(before) => {
                json!({ "op": "test", "path": "/metadata/finalizers", "value": before })
            }
            // What is absent cannot be tested, but another version than the stored one is a conflict, as in a PUT.
            None => {
                json!({ "op": "replace", "path": "/metadata/resourceVersion", "value": resource_version })
            }
        };
        Some(json!([
            { "op": "test", "path": "/metadata/uid", "value": uid },
            unchanged,
            { "op": "add", "path": "/metadata/finalizers", "value": after },
        ]))
    }

    /// The patch of `status`. A merge patch replaces lists whole, so that it carries the other conditions, under the
    /// version at which they were read.
    fn told(&self, status: &Status, now: Timestamp) -> Value {
        let mut conditions = self.status.conditions.clone().unwrap_or_default();
        let text = if status.ready { "True" } else { "False" };
        let former = conditions
            .iter()
            .find(|condition| condition["type"] == READY);
        let unchanged = former.filter(|former| former["status"] == text);
        let since = unchanged.map(|former| former["lastTransitionTime"].clone());
        let ours = json!({
            "type": READY,
            "status": text,
            "reason": status.reason.as_str(),
            "message": cut(&status.message, MAX_MESSAGE),
            "observedGeneration": status.generation,
            // Kubernetes' own kinds have whole seconds.
            "lastTransitionTime": since.unwrap_or_else(|| {
                json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
            }),
        });
        match conditions
            .iter_mut()
            .find(|condition| condition["type"] == READY)
        {
            Some(former) => *former = ours,
            None => conditions.push(ours),
        }
        json!({
            "metadata": { "uid": self.metadata.uid, "resourceVersion": self.metadata.resource_version },
            "status": { "observedGeneration": status.generation, "conditions": conditions },
        })
    }
}

impl Failure {
    /// Whether the API server did not apply a JSON patch because a test in it failed. An object that it finds invalid
    /// is named in the details.
    fn is_failed_test(&self) -> bool {
        matches!(self, Self::Call(kube::Error::Api(status))
            if status.code == 422
                && status.details.as_ref().is_none_or(|details| details.name.is_empty()))
    }
}

fn requests(key: &BindingKey) -> Request {
    let bindings = WatchedResource::Bindings(key.api);
    Request::new(url_path(bindings, Some(&key.object.namespace)))
}

fn what(key: &BindingKey) -> String {
    format!("TargetGroupBinding {}", key.object)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;
    use targetgate_core::names::{BindingApi, ObjectKey};
    use targetgate_core::reason::Reason;

    use super::*;
    use crate::kubernetes::testing::{Answer, Scripted, status};

    const WEB: &str = "/apis/elbv2.k8s.aws/v1beta1/namespaces/shop/targetgroupbindings/web";
    const WEB_STATUS: &str =
        "/apis/elbv2.k8s.aws/v1beta1/namespaces/shop/targetgroupbindings/web/status";

    fn web() -> BindingKey {
        BindingKey {
            object: ObjectKey::new("shop", "web"),
            api: BindingApi::Elbv2,
        }
    }

    fn binding(uid: &str, finalizers: Value) -> Answer {
        Answer::Json(
            200,
            json!({ "metadata": { "name": "web", "namespace": "shop", "uid": uid,
                "resourceVersion": "7", "finalizers": finalizers } }),
        )
    }

    fn failed_test() -> Answer {
        let message = "testing value /metadata/finalizers failed: test failed";
        Answer::Json(422, status(422, "Invalid", message, json!({})))
    }

    async fn patch(api: &Scripted, finalizer: Finalizer) -> Written {
        let by = Instant::now() + Duration::from_secs(60);
        patch_finalizer(&api.client(), &web(), "u-1", finalizer, by).await
    }

    #[rstest]
    #[case::ours_is_the_first(json!(null), Finalizer::AddOurs, json!(["targetgate.dev/targets"]))]
    #[case::ours_comes_last(
        json!(["elbv2.k8s.aws/resources", "a.b/c"]), Finalizer::AddOurs,
        json!(["elbv2.k8s.aws/resources", "a.b/c", "targetgate.dev/targets"])
    )]
    #[case::ours_goes(
        json!(["targetgate.dev/targets", "a.b/c"]), Finalizer::RemoveOurs, json!(["a.b/c"])
    )]
    #[case::the_incumbents_goes(
        json!(["elbv2.k8s.aws/resources", "targetgate.dev/targets"]), Finalizer::RemoveIncumbents,
        json!(["targetgate.dev/targets"])
    )]
    #[tokio::test(start_paused = true)]
    async fn one_finalizer_changes_if_the_list_is_the_one_that_was_read(
        #[case] before: Value,
        #[case] finalizer: Finalizer,
        #[case] after: Value,
    ) {
        let api = Scripted::default();
        api.answer(WEB, binding("u-1", before.clone()))
            .answer(WEB, binding("u-1", after.clone()));
        assert_eq!(patch(&api, finalizer).await, Written::Done(None));
        let sent = api.seen(WEB).remove(1);
        assert_eq!(sent.content_type, "application/json-patch+json");
        let expected = json!([
            { "op": "test", "path": "/metadata/uid", "value": "u-1" },
            match before {
                Value::Null => json!({ "op": "replace", "path": "/metadata/resourceVersion", "value": "7" }),
                before => json!({ "op": "test", "path": "/metadata/finalizers", "value": before }),
            },
            { "op": "add", "path": "/metadata/finalizers", "value": after },
        ]);
        assert_eq!(sent.body, expected);
    }

    #[rstest]
    #[case(json!(["targetgate.dev/targets"]), Finalizer::AddOurs)]
    #[case(json!(["targetgate.dev/targets", "a.b/c"]), Finalizer::AddOurs)]
    #[case(json!(["a.b/c"]), Finalizer::RemoveOurs)]
    #[case(json!(null), Finalizer::RemoveIncumbents)]
    #[tokio::test(start_paused = true)]
    async fn finalizers_that_are_as_they_should_be_are_not_patched(
        #[case] before: Value,
        #[case] finalizer: Finalizer,
    ) {
        let api = Scripted::default();
        api.answer(WEB, binding("u-1", before));
        assert_eq!(patch(&api, finalizer).await, Written::Done(None));
        assert_eq!(api.seen(WEB).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_changed_in_between_is_read_again() {
        let api = Scripted::default();
        api.answer(WEB, binding("u-1", json!(["d.e/f"])))
            .answer(WEB, failed_test())
            .answer(WEB, binding("u-1", json!(["a.b/c"])))
            .answer(WEB, binding("u-1", json!([])));
        assert_eq!(patch(&api, Finalizer::AddOurs).await, Written::Done(None));
        let sent = api.seen(WEB).remove(3);
        assert_eq!(
            sent.body[2]["value"],
            json!(["a.b/c", "targetgate.dev/targets"])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_changes_each_time_is_a_conflict_after_three_attempts() {
        let api = Scripted::default();
        for _ in 0..ATTEMPTS {
            api.answer(WEB, binding("u-1", json!(null)))
                .answer(WEB, failed_test());
        }
        assert_eq!(patch(&api, Finalizer::AddOurs).await, Written::Conflict);
        assert_eq!(api.seen(WEB).len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_binding_that_is_gone_or_another_is_a_conflict_and_is_not_patched() {
        let api = Scripted::default();
        let details = json!({ "name": "web", "kind": "targetgroupbindings" });
        let gone = status(404, "NotFound", "not found", details);
        api.answer(WEB, binding("u-2", json!(null)))
            .answer(WEB, Answer::Json(404, gone));
        for _ in 0..2 {
            assert_eq!(patch(&api, Finalizer::AddOurs).await, Written::Conflict);
        }
        assert!(api.seen(WEB).iter().all(|seen| seen.method == "GET"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hook_that_refuses_is_named() {
        let api = Scripted::default();
        let words =
            "admission webhook \"vtargetgroupbinding.elbv2.k8s.aws\" denied the request: no";
        api.answer(WEB, binding("u-1", json!(null))).answer(
            WEB,
            Answer::Json(403, status(403, "Forbidden", words, json!({}))),
        );
        let Written::Failed(why) = patch(&api, Finalizer::AddOurs).await else {
            panic!("it is refused");
        };
        let expected = format!(
            "cannot put finalizer targetgate.dev/targets on TargetGroupBinding shop/web: {words} (403)"
        );
        assert_eq!(*why, *expected);
    }

    fn told(ready: bool) -> Status {
        Status {
            binding: web(),
            uid: "u-1".into(),
            ready,
            reason: Reason::Registering,
            message: "2 of 3 targets".into(),
            generation: 4,
        }
    }

    async fn write(api: &Scripted, ready: bool) -> Written {
        let by = Instant::now() + Duration::from_secs(60);
        let now: Timestamp = "2026-11-30T08:00:00.5Z".parse().unwrap();
        write_status(&api.client(), &told(ready), now, by).await
    }

    fn with_conditions(conditions: Value) -> Answer {
        Answer::Json(
            200,
            json!({ "metadata": { "uid": "u-1", "resourceVersion": "7" },
                "status": { "conditions": conditions } }),
        )
    }

    #[rstest]
    #[case::the_status_changes(true, "2026-11-30T08:00:00Z")]
    #[case::the_status_stays(false, "2026-11-29T00:00:00Z")]
    #[tokio::test(start_paused = true)]
    async fn the_condition_is_replaced_and_the_others_are_kept(
        #[case] ready: bool,
        #[case] since: &str,
    ) {
        let api = Scripted::default();
        let other = json!({ "type": "Other", "status": "True" });
        let before = json!({ "type": "Ready", "status": "False", "lastTransitionTime": "2026-11-29T00:00:00Z" });
        api.answer(WEB, with_conditions(json!([before, other])));
        assert_eq!(write(&api, ready).await, Written::Done(None));
        let expected = json!({ "type": "Ready", "status": if ready { "True" } else { "False" },
            "reason": "Registering", "message": "2 of 3 targets", "observedGeneration": 4,
            "lastTransitionTime": since });
        let sent = api.seen(WEB_STATUS).remove(0);
        assert_eq!(sent.content_type, "application/merge-patch+json");
        assert_eq!(
            sent.body["status"],
            json!({ "observedGeneration": 4, "conditions": [expected, other] })
        );
        assert_eq!(
            sent.body["metadata"],
            json!({ "uid": "u-1", "resourceVersion": "7" })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_that_another_client_wrote_in_between_is_read_again() {
        let api = Scripted::default();
        let details = json!({ "name": "web", "kind": "targetgroupbindings" });
        let conflict = status(409, "Conflict", "modified", details);
        api.answer(WEB, with_conditions(Value::Null))
            .answer(WEB_STATUS, Answer::Json(409, conflict))
            .answer(
                WEB,
                with_conditions(json!([{ "type": "Other", "status": "True" }])),
            );
        assert_eq!(write(&api, true).await, Written::Done(None));
        let sent = api.seen(WEB_STATUS).remove(1);
        assert_eq!(sent.body["status"]["conditions"][0]["type"], "Other");
        assert_eq!(sent.body["status"]["conditions"][1]["type"], "Ready");
    }
}
