//! Watches of a scripted API server, on a paused clock.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::names::{BindingApi, ObjectKey};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::*;
use crate::kubernetes::testing::{Answer, Scripted, event, list, page, status, until};

mod lists;
mod targets;

const SERVICES: &str = "/api/v1/services";
const SERVICES_WATCH: &str = "/api/v1/services?watch";
const BINDINGS: &str = "/apis/elbv2.k8s.aws/v1beta1/targetgroupbindings";
const BINDINGS_WATCH: &str = "/apis/elbv2.k8s.aws/v1beta1/targetgroupbindings?watch";

struct World {
    api: Scripted,
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
    /// Whether targets are registered.
    records: bool,
    running: Option<JoinHandle<Vec<()>>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

fn world() -> World {
    World {
        api: Scripted::default(),
        cache: Arc::default(),
        metrics: Arc::default(),
        records: false,
        running: None,
    }
}

impl World {
    fn watched(self) -> Self {
        self.watched_in(&[])
    }

    fn watched_in(mut self, namespaces: &[&str]) -> Self {
        let options = WatchOptions {
            namespaces: namespaces.iter().map(|name| Arc::from(*name)).collect(),
            page_size: 2,
            records: self.records.then(|| "targetgate-system".into()),
            ..WatchOptions::default()
        };
        let watches = watches(&self.api.client(), &self.cache, &self.metrics, &options);
        let watches = watches.into_iter().map(|(_, watch)| watch);
        self.running = Some(tokio::spawn(join_all(watches)));
        self
    }

    fn service_names(&self, namespace: &str) -> Vec<String> {
        self.cache.read(|index| {
            let view = index.namespace(namespace);
            let names = view.iter().flat_map(|view| view.routes.services());
            names.map(|(name, _)| name.to_string()).collect()
        })
    }

    async fn until_services(&self, names: &[&str]) {
        let what = format!("Services {names:?}");
        until(&what, || self.service_names("shop") == names).await;
    }

    fn bindings(&self) -> usize {
        self.cache.read(|index| {
            index
                .namespace("shop")
                .map_or(0, |view| view.routes.bindings().count())
        })
    }

    fn look(&self, watched: WatchedResource) -> InitialList {
        self.cache.look(watched)
    }

    fn restarts(&self, resource: &str) -> usize {
        let sample = format!("targetgate_watch_restarts_total{{resource=\"{resource}\"}} ");
        let text = self.metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(&sample));
        value.map_or(0, |value| value.parse().unwrap())
    }
}

fn object(name: &str, version: &str) -> Value {
    object_in("shop", name, version)
}

fn object_in(namespace: &str, name: &str, version: &str) -> Value {
    json!({
        "metadata": { "namespace": namespace, "name": name, "resourceVersion": version },
        "spec": { "selector": { "app": name }, "serviceRef": { "name": name, "port": 80 } }
    })
}

fn gone() -> Value {
    status(410, "Expired", "too old resource version: 1 (9)", json!({}))
}

#[tokio::test(start_paused = true)]
async fn what_is_listed_and_then_changed_is_in_the_index() {
    let world = world();
    let bookmark = json!({ "kind": "Service", "apiVersion": "v1",
        "metadata": { "resourceVersion": "20" } });
    world
        .api
        .answer(
            SERVICES,
            Answer::Json(
                200,
                page(&[object("a", "1"), object("b", "2")], "9", "more"),
            ),
        )
        .answer(SERVICES, Answer::Json(200, list(&[object("c", "3")], "9")))
        .answer(
            SERVICES_WATCH,
            Answer::EventsThenEnd(vec![
                event("ADDED", object("d", "11")),
                event("DELETED", object("a", "12")),
                event("BOOKMARK", bookmark),
            ]),
        );
    let world = world.watched();
    world.until_services(&["b", "c", "d"]).await;
    until("resumed", || world.api.seen(SERVICES_WATCH).len() == 2).await;

    let lists = world.api.seen(SERVICES);
    assert_eq!(
        lists.len(),
        2,
        "an ended watch is resumed, not listed again"
    );
    assert!(lists[0].uri.contains("limit=2"), "{}", lists[0].uri);
    assert!(lists[1].uri.contains("continue=more"), "{}", lists[1].uri);
    let watches = world.api.seen(SERVICES_WATCH);
    assert!(
        watches[0].uri.contains("resourceVersion=9"),
        "{}",
        watches[0].uri
    );
    assert!(
        watches[1].uri.contains("resourceVersion=20"),
        "{}",
        watches[1].uri
    );
    assert_eq!(world.restarts("services"), 0);
    until("all listed", || world.cache.pending().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ready_before_the_last_page() {
    let world = world();
    world
        .api
        .answer(
            SERVICES,
            Answer::Json(200, page(&[object("a", "1")], "9", "more")),
        )
        .answer(SERVICES, Answer::Silence);
    let world = world.watched();
    until("the rest", || {
        world.cache.pending() == [WatchedResource::Services]
    })
    .await;
    assert_eq!(world.service_names("shop"), ["a"]);
    assert_eq!(world.look(WatchedResource::Services), InitialList::Pending);
    // A page that times out is read again, and the list goes on with it.
    world
        .api
        .answer(SERVICES, Answer::Json(200, list(&[object("b", "1")], "9")));
    world.until_services(&["a", "b"]).await;
    assert_eq!(world.look(WatchedResource::Services), InitialList::Listed);
}

#[tokio::test(start_paused = true)]
async fn a_watch_is_known_to_fail_from_its_last_page_or_event_until_it_works() {
    let world = world();
    for _ in 0..3 {
        world.api.answer(SERVICES_WATCH, Answer::Refused);
    }
    let world = world.watched();
    let services = WatchedResource::Services;
    until("listed", || world.look(services) == InitialList::Listed).await;
    let since = world.cache.watch_fails_since(services).unwrap();
    assert!(since.elapsed() < Duration::from_secs(1), "{since:?}");
    until("it failed twice", || world.restarts("services") == 2).await;
    assert_eq!(world.cache.watch_fails_since(services), Some(since));
    until("it works", || {
        world.cache.watch_fails_since(services).is_none()
    })
    .await;
    assert_eq!(world.restarts("services"), 3);
}

#[tokio::test(start_paused = true)]
async fn of_pods_only_those_that_have_not_finished_are_asked_for() {
    let world = world().watched();
    until("pods are watched", || {
        !world.api.seen("/api/v1/pods?watch").is_empty()
    })
    .await;
    for path in ["/api/v1/pods", "/api/v1/pods?watch"] {
        let uri = &world.api.seen(path)[0].uri;
        let selector = "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
        assert!(uri.contains(selector), "{uri}");
    }
}

#[rstest]
#[case::as_an_event(Answer::Events(vec![event("ERROR", gone())]))]
#[case::as_an_answer(Answer::Json(410, gone()))]
#[case::after_a_line_that_is_no_event(Answer::Events(vec![json!({ "type": "NEWS", "object": 1 })]))]
#[tokio::test(start_paused = true)]
async fn after_410_gone_it_is_listed_again(#[case] answer: Answer) {
    let world = world();
    world
        .api
        .answer(SERVICES, Answer::Json(200, list(&[object("a", "1")], "1")))
        .answer(SERVICES_WATCH, answer)
        .answer(SERVICES, Answer::Json(200, list(&[object("b", "8")], "9")));
    let world = world.watched();
    world.until_services(&["b"]).await;
    assert_eq!(world.restarts("services"), 1);
}

#[rstest]
#[case::dropped(Answer::Refused)]
#[case::overloaded(Answer::Json(429, status(429, "TooManyRequests", "slow down", json!({ "retryAfterSeconds": 1 }))))]
#[case::silent(Answer::Silence)]
#[tokio::test(start_paused = true)]
async fn a_watch_that_cannot_start_is_tried_again_from_where_it_was(#[case] answer: Answer) {
    let world = world();
    world
        .api
        .answer(SERVICES, Answer::Json(200, list(&[object("a", "1")], "7")))
        .answer(SERVICES_WATCH, answer)
        .answer(
            SERVICES_WATCH,
            Answer::Events(vec![event("ADDED", object("b", "8"))]),
        );
    let world = world.watched();
    world.until_services(&["a", "b"]).await;
    assert_eq!(world.api.seen(SERVICES).len(), 1);
    let watches = world.api.seen(SERVICES_WATCH);
    assert!(
        watches[1].uri.contains("resourceVersion=7"),
        "{}",
        watches[1].uri
    );
    assert_eq!(world.restarts("services"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_at_start_is_waited_for() {
    let world = world();
    for _ in 0..30 {
        world.api.answer(SERVICES, Answer::Refused);
    }
    world
        .api
        .answer(SERVICES, Answer::Json(200, list(&[object("a", "1")], "1")));
    let world = world.watched();
    let started = Instant::now();
    world.until_services(&["a"]).await;
    assert_eq!(world.restarts("services"), 30);
    let took = started.elapsed();
    assert!(took > Duration::from_secs(100), "no pauses: {took:?}");
    assert!(
        took < Duration::from_secs(300),
        "pauses beyond ten seconds: {took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_asked_for_until_it_is_given() {
    let world = world();
    let forbidden = status(
        403,
        "Forbidden",
        "services is forbidden",
        json!({ "kind": "services" }),
    );
    world
        .api
        .answer(SERVICES, Answer::Json(403, forbidden))
        .answer(SERVICES, Answer::Json(200, list(&[object("a", "1")], "1")));
    let world = world.watched();
    world.until_services(&["a"]).await;
    assert_eq!(world.restarts("services"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_says_nothing_is_resumed() {
    let world = world().watched();
    until("a second watch", || {
        world.api.seen(SERVICES_WATCH).len() == 2
    })
    .await;
    assert_eq!(world.api.seen(SERVICES).len(), 1);
    assert_eq!(world.restarts("services"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_not_started_in_a_loop() {
    let world = world();
    for _ in 0..10 {
        world
            .api
            .answer(SERVICES_WATCH, Answer::EventsThenEnd(vec![]));
    }
    let world = world.watched();
    let started = Instant::now();
    until("the eleventh", || {
        world.api.seen(SERVICES_WATCH).len() == 11
    })
    .await;
    assert!(
        started.elapsed() > Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

#[rstest]
#[case::of_a_group_that_nobody_serves(Answer::Text(404, "404 page not found\n"))]
#[case::of_a_group_without_the_kind(Answer::Json(404, status(404, "NotFound",
    "the server could not find the requested resource", json!({}))))]
#[tokio::test(start_paused = true)]
async fn a_crd_that_is_absent_is_no_error_and_may_appear(#[case] answer: Answer) {
    let world = world();
    world.api.answer(BINDINGS, answer);
    let elbv2 = WatchedResource::Bindings(BindingApi::Elbv2);
    let world = world.watched();
    until("all looked at", || world.cache.pending().is_empty()).await;
    assert_eq!(world.look(elbv2), InitialList::NotServed);
    world.api.answer(
        BINDINGS,
        Answer::Json(200, list(&[object("web", "1")], "1")),
    );

    let absent = Instant::now();
    until("listed", || world.look(elbv2) == InitialList::Listed).await;
    assert!(
        absent.elapsed() <= Duration::from_secs(10),
        "{:?}",
        absent.elapsed()
    );
    assert_eq!(world.bindings(), 1);
    assert_eq!(world.restarts(elbv2.as_str()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_not_served_is_looked_for_each_few_minutes() {
    const SCRIPTED: usize = 60;
    let world = world();
    for _ in 0..SCRIPTED {
        world
            .api
            .answer(BINDINGS, Answer::Text(404, "404 page not found\n"));
    }
    let world = world.watched();
    let elbv2 = WatchedResource::Bindings(BindingApi::Elbv2);
    sleep(Duration::from_secs(60)).await;
    let soon = world.api.seen(BINDINGS).len();
    assert!((6..=10).contains(&soon), "{soon} in the first minute");
    sleep(Duration::from_secs(3600)).await;
    // At least each five minutes, and at most each two and a half.
    let hour = world.api.seen(BINDINGS).len() - soon;
    assert!((12..=30).contains(&hour), "{hour} in an hour");
    assert_eq!(world.look(elbv2), InitialList::NotServed);
}

#[tokio::test(start_paused = true)]
async fn a_crd_that_goes_leaves_its_bindings_in_doubt_until_it_is_back() {
    let world = world();
    world
        .api
        .answer(
            BINDINGS,
            Answer::Json(200, list(&[object("a", "1"), object("b", "2")], "2")),
        )
        .answer(
            BINDINGS_WATCH,
            Answer::EventsThenEnd(vec![event("DELETED", object("a", "3"))]),
        )
        .answer(BINDINGS_WATCH, Answer::Text(404, "404 page not found\n"));
    let elbv2 = WatchedResource::Bindings(BindingApi::Elbv2);
    let world = world.watched();
    until("gone", || world.look(elbv2) == InitialList::NotServed).await;
    assert_eq!(world.bindings(), 1, "what was not seen to be deleted stays");
    until("back", || world.look(elbv2) == InitialList::Listed).await;
    assert_eq!(world.bindings(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_bad_object_is_passed_over_and_the_rest_is_read() {
    let world = world();
    let bad = json!({ "metadata": { "namespace": "shop", "name": "bad", "resourceVersion": "2" },
        "spec": { "selector": ["no", "selector"] } });
    world
        .api
        .answer(
            SERVICES,
            Answer::Json(200, list(&[object("a", "1"), bad.clone()], "2")),
        )
        .answer(
            SERVICES_WATCH,
            Answer::Events(vec![
                event("MODIFIED", bad),
                event("ADDED", object("b", "3")),
            ]),
        );
    let world = world.watched();
    world.until_services(&["a", "b"]).await;
    assert_eq!(world.restarts("services"), 0);
}

#[tokio::test(start_paused = true)]
async fn of_some_namespaces_nothing_else_is_asked_for() {
    let world = world();
    let of = |namespace| format!("/api/v1/namespaces/{namespace}/services");
    let shop = list(&[object_in("shop", "a", "1")], "1");
    let bank = list(&[object_in("bank", "b", "1")], "1");
    world
        .api
        .answer(&of("shop"), Answer::Json(200, shop))
        .answer(&of("bank"), Answer::Silence)
        .answer(&of("bank"), Answer::Json(200, bank));
    let world = world.watched_in(&["shop", "bank"]);
    until("all but one", || {
        world.cache.pending() == [WatchedResource::Services]
    })
    .await;
    until("all", || world.cache.pending().is_empty()).await;
    assert_eq!(
        world.service_names("shop"),
        ["a"],
        "a list of bank is no list of shop"
    );
    assert_eq!(world.service_names("bank"), ["b"]);
    assert!(world.api.seen(SERVICES).is_empty());
    let named: Vec<bool> = world
        .api
        .seen("/api/v1/namespaces")
        .iter()
        .map(|list| list.uri.contains("fieldSelector=metadata.name%3D"))
        .collect();
    assert_eq!(named, [true, true]);
}

#[tokio::test(start_paused = true)]
async fn pods_and_namespaces_are_watched_too() {
    let world = world();
    let gate = "target-health.elbv2.k8s.aws/web";
    let pod = json!({
        "metadata": { "namespace": "shop", "name": "web-1", "uid": "u1", "resourceVersion": "3" },
        "spec": { "readinessGates": [{ "conditionType": gate }] }
    });
    let namespace = json!({ "metadata": { "name": "shop", "resourceVersion": "4",
        "labels": { "elbv2.k8s.aws/pod-readiness-gate-inject": "enabled" } } });
    world
        .api
        .answer(
            "/api/v1/pods?watch",
            Answer::Events(vec![event("ADDED", pod)]),
        )
        .answer(
            "/api/v1/namespaces?watch",
            Answer::Events(vec![event("ADDED", namespace)]),
        );
    let world = world.watched();
    let key = ObjectKey::new("shop", "web-1");
    until("the pod", || {
        world.cache.read(|index| index.pod(&key).is_some())
    })
    .await;
    until("the namespace", || {
        world.cache.read(|index| {
            let view = index.namespace("shop");
            view.is_some_and(|view| view.namespace.opted_in)
        })
    })
    .await;
}
