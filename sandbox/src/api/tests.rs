use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use kube::{
    Client, ResourceExt,
    api::{
        Api as Kube, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
        Preconditions, WatchEvent, WatchParams,
    },
    core::{ApiResource, GroupVersionKind},
    runtime::watcher,
};
use serde_json::{Value, json};

use super::{Api, Away, Match, Options, Status, Verb, When};

fn simulated() -> Api {
    Api::new(Options {
        now: crate::clock::simulated("2026-11-21T12:00:00Z".parse().unwrap()),
        ..Options::default()
    })
}

fn pod(name: &str) -> Pod {
    from(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    }))
}

fn config(name: &str) -> ConfigMap {
    from(json!({"metadata": {"name": name}, "data": {"a": "1"}}))
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        other => panic!("not an API error: {other:?}"),
    }
}

fn gone(code: u16, reason: &str) -> (u16, String) {
    (code, reason.to_owned())
}

fn pods(client: &Client) -> Kube<Pod> {
    Kube::namespaced(client.clone(), "default")
}

async fn create(client: &Client, name: &str) -> Pod {
    let made = pods(client)
        .create(&PostParams::default(), &pod(name))
        .await;
    made.unwrap()
}

/// Replaces the whole of an object by JSON, through the raw request.
async fn strategic(client: &Client, name: &str, patch: Value) -> Result<Pod, kube::Error> {
    let params = PatchParams::default();
    pods(client)
        .patch_status(name, &params, &Patch::Strategic(patch))
        .await
}

#[tokio::test(start_paused = true)]
async fn a_new_object_gets_what_the_server_gives() {
    let client = simulated().client();
    let made = create(&client, "p").await;
    assert_eq!(made.namespace().as_deref(), Some("default"));
    assert!(made.uid().is_some_and(|uid| uid.len() == 36));
    assert_eq!(made.metadata.generation, Some(1));
    assert_eq!(
        made.metadata.creation_timestamp.unwrap().0.to_string(),
        "2026-11-21T12:00:00Z"
    );
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"));
}

#[tokio::test(start_paused = true)]
async fn creating_twice_is_already_exists_and_reading_nothing_is_not_found() {
    let client = simulated().client();
    create(&client, "p").await;
    let again = pods(&client)
        .create(&PostParams::default(), &pod("p"))
        .await;
    assert_eq!(code(again), gone(409, "AlreadyExists"));
    let absent = pods(&client).get("q").await;
    assert_eq!(
        absent
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("pods \"q\" not found"),
        true
    );
    assert_eq!(code(absent), gone(404, "NotFound"));
    let elsewhere: Kube<Pod> = Kube::namespaced(client, "nowhere");
    let made = elsewhere.create(&PostParams::default(), &pod("p")).await;
    assert_eq!(code(made), gone(404, "NotFound"));
}

#[tokio::test(start_paused = true)]
async fn generate_name_adds_five_characters() {
    let client = simulated().client();
    let mut unnamed = pod("");
    unnamed.metadata.name = None;
    unnamed.metadata.generate_name = Some("web-".to_owned());
    let first = pods(&client).create(&PostParams::default(), &unnamed).await;
    let first = first.unwrap().name_any();
    let second = pods(&client).create(&PostParams::default(), &unnamed).await;
    let second = second.unwrap().name_any();
    assert_eq!((first.len(), second.len()), (9, 9));
    assert_ne!(first, second);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_leaves_nothing() {
    let client = simulated().client();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    pods(&client).create(&params, &pod("p")).await.unwrap();
    assert_eq!(code(pods(&client).get("p").await), gone(404, "NotFound"));
}

#[tokio::test(start_paused = true)]
async fn an_update_on_an_old_version_is_a_conflict() {
    let client = simulated().client();
    let configs: Kube<ConfigMap> = Kube::default_namespaced(client);
    let params = PostParams::default();
    let old = configs.create(&params, &config("c")).await.unwrap();
    let mut new = old.clone();
    new.data = None;
    configs.replace("c", &params, &new).await.unwrap();
    let late = configs.replace("c", &params, &old).await;
    assert_eq!(code(late), gone(409, "Conflict"));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_changes_nothing_makes_no_version() {
    let client = simulated().client();
    let configs: Kube<ConfigMap> = Kube::default_namespaced(client);
    let params = PostParams::default();
    let old = configs.create(&params, &config("c")).await.unwrap();
    let same = configs.replace("c", &params, &old).await.unwrap();
    assert_eq!(same.resource_version(), old.resource_version());
}

#[tokio::test(start_paused = true)]
async fn status_and_spec_are_written_apart() {
    let client = simulated().client();
    create(&client, "p").await;
    let both = json!({
        "metadata": {"labels": {"new": "label"}},
        "status": {"podIP": "10.0.0.1"},
    });
    let by_status = strategic(&client, "p", both.clone()).await.unwrap();
    assert_eq!(
        by_status.status.unwrap().pod_ip.as_deref(),
        Some("10.0.0.1")
    );
    let labels = by_status.metadata.labels.unwrap();
    assert!(!labels.contains_key("new"));
    assert_eq!(by_status.metadata.generation, Some(1));

    let main = json!({"metadata": {"labels": {"new": "label"}}, "status": {"podIP": "10.0.0.2"}});
    let params = PatchParams::default();
    let by_main = pods(&client).patch("p", &params, &Patch::Merge(main)).await;
    let by_main = by_main.unwrap();
    assert_eq!(by_main.status.unwrap().pod_ip.as_deref(), Some("10.0.0.1"));
    assert!(by_main.metadata.labels.unwrap().contains_key("new"));
}

#[tokio::test(start_paused = true)]
async fn a_patch_is_guarded_by_uid_with_422_and_by_version_with_409() {
    let client = simulated().client();
    let made = create(&client, "p").await;
    let wrong = json!({"metadata": {"uid": "other"}, "status": {"podIP": "1.2.3.4"}});
    let refused = strategic(&client, "p", wrong).await;
    let message = refused.as_ref().unwrap_err().to_string();
    assert!(message.contains("metadata.uid: Invalid value: \"other\": field is immutable"));
    assert_eq!(code(refused), gone(422, "Invalid"));
    let right = json!({"metadata": {"uid": made.uid()}, "status": {"podIP": "1.2.3.4"}});
    strategic(&client, "p", right).await.unwrap();
    let stale = json!({
        "metadata": {"uid": made.uid(), "resourceVersion": made.resource_version()},
        "status": {"podIP": "1.2.3.5"},
    });
    assert_eq!(
        code(strategic(&client, "p", stale).await),
        gone(409, "Conflict")
    );
}

#[tokio::test(start_paused = true)]
async fn a_merge_patch_replaces_the_list_of_conditions() {
    let client = simulated().client();
    create(&client, "p").await;
    let condition = |kind| json!({"status": {"conditions": [{"type": kind, "status": "True"}]}});
    strategic(&client, "p", condition("a")).await.unwrap();
    let two = strategic(&client, "p", condition("b")).await.unwrap();
    assert_eq!(two.status.unwrap().conditions.unwrap().len(), 2);
    let params = PatchParams::default();
    let one = pods(&client)
        .patch_status("p", &params, &Patch::Merge(condition("c")))
        .await;
    assert_eq!(one.unwrap().status.unwrap().conditions.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_apply_on_an_absent_pods_status_is_not_found_and_on_the_main_resource_creates() {
    let client = simulated().client();
    let params = PatchParams::apply("test");
    let status = json!({"apiVersion": "v1", "kind": "Pod", "status": {"podIP": "1.2.3.4"}});
    let absent = pods(&client)
        .patch_status("p", &params, &Patch::Apply(status))
        .await;
    assert_eq!(code(absent), gone(404, "NotFound"));
    let made = pods(&client)
        .patch("p", &params, &Patch::Apply(pod("p")))
        .await;
    assert_eq!(made.unwrap().name_any(), "p");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_deleted_with_grace_and_gone_without() {
    let client = simulated().client();
    create(&client, "p").await;
    let terminating = pods(&client).delete("p", &DeleteParams::default()).await;
    let terminating = terminating.unwrap().left().unwrap();
    let ends = terminating.metadata.deletion_timestamp.unwrap().0;
    assert_eq!(ends.to_string(), "2026-11-21T12:00:30Z");
    assert_eq!(terminating.metadata.deletion_grace_period_seconds, Some(30));
    let other = DeleteParams::default().preconditions(Preconditions {
        uid: Some("other".to_owned()),
        resource_version: None,
    });
    let refused = pods(&client).delete("p", &other).await;
    assert_eq!(code(refused), gone(409, "Conflict"));
    let now = DeleteParams::default().grace_period(0);
    pods(&client).delete("p", &now).await.unwrap();
    assert_eq!(code(pods(&client).get("p").await), gone(404, "NotFound"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_no_node_has_no_grace() {
    let client = simulated().client();
    let mut loose = pod("p");
    loose.spec.as_mut().unwrap().node_name = None;
    pods(&client)
        .create(&PostParams::default(), &loose)
        .await
        .unwrap();
    pods(&client)
        .delete("p", &DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(code(pods(&client).get("p").await), gone(404, "NotFound"));
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_binds_a_pod_once() {
    let client = simulated().client();
    let mut loose = pod("p");
    loose.spec.as_mut().unwrap().node_name = None;
    pods(&client)
        .create(&PostParams::default(), &loose)
        .await
        .unwrap();
    let bind = || async {
        let body = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
        let params = PostParams::default();
        pods(&client)
            .create_subresource::<Value, Value>("binding", "p", &params, &body)
            .await
    };
    bind().await.unwrap();
    let bound = pods(&client).get("p").await.unwrap().spec.unwrap();
    assert_eq!(bound.node_name.as_deref(), Some("n1"));
    assert_eq!(code(bind().await), gone(409, "Conflict"));
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_holds_an_object_until_it_is_taken_off() {
    let client = simulated().client();
    let configs: Kube<ConfigMap> = Kube::default_namespaced(client);
    let mut held = config("c");
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    configs.create(&PostParams::default(), &held).await.unwrap();
    configs.delete("c", &DeleteParams::default()).await.unwrap();
    let left = configs.get("c").await.unwrap();
    assert!(left.metadata.deletion_timestamp.is_some());
    let free = json!({"metadata": {"finalizers": null}});
    let params = PatchParams::default();
    configs
        .patch("c", &params, &Patch::Merge(free))
        .await
        .unwrap();
    assert_eq!(code(configs.get("c").await), gone(404, "NotFound"));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_goes_with_its_content() {
    let client = simulated().client();
    let namespaces: Kube<Namespace> = Kube::all(client.clone());
    let shop: Namespace = from(json!({"metadata": {"name": "shop"}}));
    namespaces
        .create(&PostParams::default(), &shop)
        .await
        .unwrap();
    let inside: Kube<Pod> = Kube::namespaced(client.clone(), "shop");
    inside
        .create(&PostParams::default(), &pod("p"))
        .await
        .unwrap();
    namespaces
        .delete("shop", &DeleteParams::default())
        .await
        .unwrap();
    let left = namespaces.get("shop").await.unwrap();
    assert_eq!(left.status.unwrap().phase.as_deref(), Some("Terminating"));
    let late = inside.create(&PostParams::default(), &pod("q")).await;
    assert_eq!(code(late), gone(403, "Forbidden"));
    assert!(
        inside
            .get("p")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    inside
        .delete("p", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert_eq!(code(namespaces.get("shop").await), gone(404, "NotFound"));
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages_and_by_selectors() {
    let client = simulated().client();
    for name in ["a", "b", "c"] {
        create(&client, name).await;
    }
    let first = pods(&client)
        .list(&ListParams::default().limit(2))
        .await
        .unwrap();
    assert_eq!(first.items.len(), 2);
    let token = first.metadata.continue_.unwrap();
    let rest = ListParams::default().limit(2).continue_token(&token);
    let rest = pods(&client).list(&rest).await.unwrap();
    assert_eq!(rest.items[0].name_any(), "c");
    assert_eq!(rest.metadata.continue_, None);
    for (params, count) in [
        (ListParams::default().labels("app=web"), 3),
        (ListParams::default().labels("app!=web"), 0),
        (ListParams::default().fields("metadata.name=b"), 1),
        (ListParams::default().fields("spec.nodeName=n"), 3),
        (ListParams::default().fields("status.phase=Running"), 0),
    ] {
        let found = pods(&client).list(&params).await.unwrap();
        assert_eq!(found.items.len(), count, "{params:?}");
    }
    let bad = ListParams::default().fields("spec.color=red");
    assert_eq!(
        code(pods(&client).list(&bad).await),
        gone(400, "BadRequest")
    );
}

#[tokio::test(start_paused = true)]
async fn a_page_after_the_history_was_forgotten_is_expired() {
    let api = simulated();
    let client = api.client();
    create(&client, "a").await;
    create(&client, "b").await;
    let first = pods(&client)
        .list(&ListParams::default().limit(1))
        .await
        .unwrap();
    api.forget_history();
    let token = first.metadata.continue_.unwrap();
    let next = ListParams::default().continue_token(&token);
    assert_eq!(code(pods(&client).list(&next).await), gone(410, "Expired"));
}

async fn next_kind(
    stream: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<Pod>>> + Unpin),
) -> String {
    match stream.next().await {
        Some(Ok(WatchEvent::Added(pod))) => format!("added {}", pod.name_any()),
        Some(Ok(WatchEvent::Modified(pod))) => format!("modified {}", pod.name_any()),
        Some(Ok(WatchEvent::Deleted(pod))) => format!("deleted {}", pod.name_any()),
        Some(Ok(WatchEvent::Bookmark(_))) => "bookmark".to_owned(),
        Some(Ok(WatchEvent::Error(status))) => format!("error {}", status.code),
        Some(Err(error)) => panic!("{error}"),
        None => "end".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_enters_and_leaves_its_selection() {
    let client = simulated().client();
    create(&client, "a").await;
    let params = WatchParams::default().labels("app=web");
    let watch = pods(&client).watch(&params, "0").await.unwrap();
    let mut watch = watch.boxed();
    assert_eq!(next_kind(&mut watch).await, "added a");
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"app": value}}}));
    let params = PatchParams::default();
    pods(&client)
        .patch("a", &params, &label("other"))
        .await
        .unwrap();
    assert_eq!(next_kind(&mut watch).await, "deleted a");
    pods(&client)
        .patch("a", &params, &label("web"))
        .await
        .unwrap();
    assert_eq!(next_kind(&mut watch).await, "added a");
    strategic(&client, "a", json!({"status": {"podIP": "1.2.3.4"}}))
        .await
        .unwrap();
    assert_eq!(next_kind(&mut watch).await, "modified a");
    pods(&client)
        .delete("a", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    assert_eq!(next_kind(&mut watch).await, "deleted a");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_brings_bookmarks_and_ends_in_its_time() {
    let client = simulated().client();
    let params = WatchParams::default().timeout(100);
    let watch = pods(&client).watch(&params, "1").await.unwrap();
    let mut watch = watch.boxed();
    for expected in ["bookmark", "bookmark", "end"] {
        assert_eq!(next_kind(&mut watch).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_forgotten_version_is_gone_at_the_start_and_in_the_middle() {
    let api = simulated();
    let client = api.client();
    let version = create(&client, "a").await.resource_version().unwrap();
    let open = pods(&client).watch(&WatchParams::default(), &version).await;
    let mut open = open.unwrap().boxed();
    api.forget_history();
    assert_eq!(next_kind(&mut open).await, "error 410");
    let late = pods(&client).watch(&WatchParams::default(), &version).await;
    assert_eq!(code(late.map(|_| ())), gone(410, "Expired"));
}

#[tokio::test(start_paused = true)]
async fn kubes_watcher_survives_closed_watches_and_a_forgotten_history() {
    let api = simulated();
    let client = api.client();
    create(&client, "a").await;
    let events = watcher(pods(&client), watcher::Config::default());
    let applied = events.try_filter_map(|event| async move {
        Ok(match event {
            watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => Some(pod.name_any()),
            _ => None,
        })
    });
    let applied = applied.filter_map(|event| async move { event.ok() });
    let mut applied = applied.boxed();
    assert_eq!(applied.next().await.as_deref(), Some("a"));
    api.faults().close_watches();
    create(&client, "b").await;
    assert_eq!(applied.next().await.as_deref(), Some("b"));
    api.forget_history();
    let mut again = [applied.next().await.unwrap(), applied.next().await.unwrap()];
    again.sort();
    assert_eq!(again, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_resource_is_seen_late_and_others_at_once() {
    let api = simulated();
    let client = api.client();
    api.faults().delay_watch("pods", Duration::from_secs(5));
    let watch = pods(&client)
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    let mut watch = watch.boxed();
    let start = tokio::time::Instant::now();
    create(&client, "a").await;
    assert_eq!(next_kind(&mut watch).await, "added a");
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_refuses_and_ends_its_watches() {
    let api = simulated();
    let client = api.client();
    let watch = pods(&client)
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    let mut watch = watch.boxed();
    api.faults().away(Some(Away::Refusing));
    assert_eq!(next_kind(&mut watch).await, "end");
    assert!(pods(&client).get("a").await.is_err());
    api.faults().away(Some(Away::Answering(500)));
    assert_eq!(code(pods(&client).get("a").await).0, 500);
    api.faults().away(None);
    assert_eq!(code(pods(&client).get("a").await).0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_the_fact_has_done_its_work() {
    let api = simulated();
    let client = api.client();
    let which = Match::new(Verb::Create, "pods");
    let status = Status::new(504, "Timeout", "too slow");
    api.faults()
        .fail(1, which.clone(), status.clone(), When::After);
    let late = pods(&client)
        .create(&PostParams::default(), &pod("a"))
        .await;
    assert_eq!(code(late), gone(504, "Timeout"));
    pods(&client).get("a").await.unwrap();
    api.faults().fail(1, which, status, When::Before);
    let never = pods(&client)
        .create(&PostParams::default(), &pod("b"))
        .await;
    assert_eq!(code(never), gone(504, "Timeout"));
    assert_eq!(code(pods(&client).get("b").await).0, 404);
    create(&client, "b").await;
    assert_eq!(api.calls().count(Verb::Create, "pods"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_gate_of_64_characters_is_refused_and_gates_never_change() {
    let client = simulated().client();
    let gated = |name: &str, gates: &[String]| {
        let mut made = pod(name);
        let gates = gates
            .iter()
            .map(|gate| from(json!({"conditionType": gate})));
        made.spec.as_mut().unwrap().readiness_gates = Some(gates.collect());
        made
    };
    let gate = |length| format!("target-health.elbv2.k8s.aws/{}", "a".repeat(length));
    let params = PostParams::default();
    let long = pods(&client)
        .create(&params, &gated("a", &[gate(64)]))
        .await;
    assert_eq!(code(long), gone(422, "Invalid"));
    let twice = gated("b", &[gate(63), gate(63)]);
    pods(&client).create(&params, &twice).await.unwrap();
    let fewer = json!({"spec": {"readinessGates": []}});
    let fewer = pods(&client)
        .patch("b", &PatchParams::default(), &Patch::Merge(fewer))
        .await;
    assert_eq!(code(fewer), gone(422, "Invalid"));
}

#[tokio::test(start_paused = true)]
async fn a_service_port_gets_its_target_port() {
    let client = simulated().client();
    let services: Kube<Service> = Kube::default_namespaced(client);
    let web: Service = from(json!({
        "metadata": {"name": "web"},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}},
    }));
    let made = services.create(&PostParams::default(), &web).await.unwrap();
    let ports = made.spec.unwrap().ports.unwrap();
    assert_eq!(serde_json::to_value(&ports[0].target_port).unwrap(), 80);
}

fn things_definition() -> Value {
    let schema = |required: Value| {
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {
            "type": "object",
            "required": required,
            "properties": {"port": {"x-kubernetes-int-or-string": true}},
        }}}})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema(json!(["port"])),
                 "subresources": {"status": {}}},
                {"name": "v1alpha1", "served": true, "storage": false, "schema": schema(json!([]))},
            ],
        },
    })
}

pub(super) fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

fn things(client: &Client, version: &str) -> Kube<DynamicObject> {
    let resource = resource("example.com", version, "Thing");
    Kube::default_namespaced_with(client.clone(), &resource)
}

async fn define_things(client: &Client) {
    let crds = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Kube<DynamicObject> = Kube::all_with(client.clone(), &crds);
    let made = crds
        .create(&PostParams::default(), &from(things_definition()))
        .await;
    made.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_custom_resource_is_served_while_it_is_defined() {
    let client = simulated().client();
    let before = things(&client, "v1").list(&ListParams::default()).await;
    assert_eq!(code(before).0, 404);
    define_things(&client).await;
    let thing = json!({"metadata": {"name": "t"}, "spec": {"port": 1, "junk": 2}});
    let made = things(&client, "v1")
        .create(&PostParams::default(), &from(thing))
        .await;
    assert_eq!(made.unwrap().data["spec"], json!({"port": 1}));
    let old = things(&client, "v1alpha1").get("t").await.unwrap();
    assert_eq!(old.types.unwrap().api_version, "example.com/v1alpha1");
    let bad = json!({"metadata": {"name": "u"}, "spec": {}});
    let bad = things(&client, "v1")
        .create(&PostParams::default(), &from(bad))
        .await;
    assert!(
        bad.as_ref()
            .unwrap_err()
            .to_string()
            .contains("spec.port: Required value")
    );
    assert_eq!(code(bad), gone(422, "Invalid"));

    let crds = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Kube<DynamicObject> = Kube::all_with(client.clone(), &crds);
    let watch = things(&client, "v1")
        .watch(&WatchParams::default(), "0")
        .await
        .unwrap();
    let mut watch = watch.boxed();
    assert!(matches!(watch.next().await, Some(Ok(WatchEvent::Added(_)))));
    crds.delete("things.example.com", &DeleteParams::default())
        .await
        .unwrap();
    assert!(matches!(
        watch.next().await,
        Some(Ok(WatchEvent::Deleted(_)))
    ));
    assert!(watch.next().await.is_none());
    let after = things(&client, "v1").list(&ListParams::default()).await;
    assert_eq!(code(after).0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_custom_resource_must_be_replaced_at_a_version() {
    let client = simulated().client();
    define_things(&client).await;
    let thing = json!({"metadata": {"name": "t"}, "spec": {"port": 1}});
    let params = PostParams::default();
    things(&client, "v1")
        .create(&params, &from(thing.clone()))
        .await
        .unwrap();
    let blind = things(&client, "v1")
        .replace("t", &params, &from(thing))
        .await;
    assert_eq!(code(blind), gone(422, "Invalid"));
}

#[tokio::test(start_paused = true)]
async fn a_collection_is_deleted_by_selector() {
    let client = simulated().client();
    let configs: Kube<ConfigMap> = Kube::default_namespaced(client);
    for name in ["a", "b"] {
        configs
            .create(&PostParams::default(), &config(name))
            .await
            .unwrap();
    }
    let only = ListParams::default().fields("metadata.name=a");
    configs
        .delete_collection(&DeleteParams::default(), &only)
        .await
        .unwrap();
    let left = configs.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items.len(), 1);
    assert_eq!(left.items[0].name_any(), "b");
}
