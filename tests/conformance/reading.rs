//! Lists in pages, and watches that continue from the version of a list.

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use rstest::rstest;
use serde_json::json;
use targetgate_sandbox::harness::waiting::DEADLINE;
use tokio::time::timeout;

use crate::servers::{Cluster, Server, answer, code};

type Event = WatchEvent<ConfigMap>;

/// The next event, as `added a` or `deleted a`.
async fn next(events: &mut (impl Stream<Item = kube::Result<Event>> + Unpin)) -> String {
    loop {
        let event = timeout(DEADLINE, events.next()).await.expect("no event");
        return match event.expect("the watch has ended").unwrap() {
            WatchEvent::Added(map) => format!("added {}", map.name_any()),
            WatchEvent::Modified(map) => format!("modified {}", map.name_any()),
            WatchEvent::Deleted(map) => format!("deleted {}", map.name_any()),
            // A real API server sends bookmarks at times of its own choice.
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => panic!("{status:?}"),
        };
    }
}

async fn annotate(cluster: &Cluster, name: &str, value: &str) {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "a": value } } }));
    let params = PatchParams::default();
    cluster
        .config_maps()
        .patch(name, &params, &patch)
        .await
        .unwrap();
}

async fn label(cluster: &Cluster, name: &str, value: Option<&str>) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "app": value } } }));
    let params = PatchParams::default();
    cluster
        .config_maps()
        .patch(name, &params, &patch)
        .await
        .unwrap();
}

#[rstest]
#[tokio::test]
async fn a_list_comes_in_pages_of_one_version(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let maps = cluster.config_maps();
    for name in ["a", "b", "c", "d", "e"] {
        cluster.config_map(name).await.unwrap();
    }
    let mut params = ListParams::default().limit(2);
    let (mut names, mut left, mut versions) = (vec![], vec![], vec![]);
    loop {
        let page = maps.list(&params).await.unwrap();
        names.extend(page.items.iter().map(ResourceExt::name_any));
        left.push(page.metadata.remaining_item_count);
        versions.push(page.metadata.resource_version.unwrap());
        if names.len() == 2 {
            // An object that is created now is not in the list that has begun.
            cluster.config_map("f").await.unwrap();
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = ListParams::default().limit(2).continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(left, [Some(3), Some(1), None]);
    versions.dedup();
    assert_eq!(versions.len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_watch_goes_on_from_where_the_list_stood(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let maps = cluster.config_maps();
    cluster.config_map("a").await.unwrap();
    let listed = maps.list(&ListParams::default()).await.unwrap();
    let version = listed.metadata.resource_version.unwrap();
    annotate(&cluster, "a", "1").await;
    cluster.config_map("b").await.unwrap();
    let events = maps.watch(&WatchParams::default(), &version).await.unwrap();
    let mut events = events.boxed();
    assert_eq!(next(&mut events).await, "modified a");
    assert_eq!(next(&mut events).await, "added b");
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(next(&mut events).await, "deleted a");
}

#[rstest]
#[tokio::test]
async fn a_watch_from_nowhere_begins_with_what_is_there(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    cluster.config_map("a").await.unwrap();
    for version in ["0", ""] {
        let watched = cluster
            .config_maps()
            .watch(&WatchParams::default(), version)
            .await;
        let mut events = watched.unwrap().boxed();
        assert_eq!(next(&mut events).await, "added a", "{version:?}");
    }
}

#[rstest]
#[tokio::test]
async fn a_watch_from_a_version_that_is_forgotten_says_so_in_its_first_event(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let before = cluster.config_map("a").await.unwrap();
    let bindings = cluster.own_bindings().await.v1beta1();
    cluster.forget().await;
    let (version, params) = (before.resource_version().unwrap(), WatchParams::default());
    let mut events = bindings.watch(&params, &version).await.unwrap().boxed();
    match timeout(DEADLINE, events.next()).await.unwrap() {
        Some(Ok(WatchEvent::Error(status))) => {
            assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[tokio::test]
async fn a_deletion_has_the_version_at_which_it_happened(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let maps = cluster.config_maps();
    let made = cluster.config_map("a").await.unwrap();
    let version = made.resource_version().unwrap();
    let events = maps.watch(&WatchParams::default(), &version).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let event = timeout(DEADLINE, events.boxed().next()).await.unwrap();
    match event.unwrap().unwrap() {
        WatchEvent::Deleted(map) => {
            let number = |version: &str| version.parse::<u64>().unwrap();
            assert!(number(&map.resource_version().unwrap()) > number(&version));
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[tokio::test]
async fn a_watch_reports_an_object_that_its_selector_no_longer_matches_as_deleted(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let made = cluster.config_map("a").await.unwrap();
    let version = made.resource_version().unwrap();
    let selected = WatchParams::default().labels("app=web");
    let events = cluster
        .config_maps()
        .watch(&selected, &version)
        .await
        .unwrap();
    let mut events = events.boxed();
    label(&cluster, "a", Some("web")).await;
    assert_eq!(next(&mut events).await, "added a");
    annotate(&cluster, "a", "1").await;
    assert_eq!(next(&mut events).await, "modified a");
    label(&cluster, "a", None).await;
    assert_eq!(next(&mut events).await, "deleted a");
}

#[rstest]
#[case::equal(ListParams::default().labels("app=web"), 2)]
#[case::set(ListParams::default().labels("app in (web, api)"), 2)]
#[case::unequal(ListParams::default().labels("app!=web"), 0)]
#[case::absent(ListParams::default().labels("!app"), 0)]
#[case::name(ListParams::default().fields("metadata.name=b"), 1)]
#[case::node(ListParams::default().fields("spec.nodeName=node"), 1)]
#[case::phase(ListParams::default().fields("status.phase=Running"), 0)]
#[case::not_the_phase(ListParams::default().fields("status.phase!=Running"), 2)]
#[tokio::test]
async fn pods_are_selected_by_labels_and_fields(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] params: ListParams,
    #[case] count: usize,
) {
    let cluster = server.cluster().await;
    cluster.pod("a", json!({})).await.unwrap();
    let loose = json!({ "spec": { "nodeName": null } });
    cluster.pod("b", loose).await.unwrap();
    let found = cluster.pods().list(&params).await.unwrap();
    assert_eq!(found.items.len(), count);
}

#[rstest]
#[tokio::test]
async fn a_field_that_cannot_be_selected_by_is_a_bad_request(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let params = ListParams::default().fields("spec.colour=red");
    let listed = cluster.pods().list(&params).await;
    assert_eq!(code(listed), answer(400, "BadRequest"));
}

/// The product watches pods that have not finished.
#[rstest]
#[tokio::test]
async fn a_pod_that_finishes_leaves_a_watch_of_unfinished_pods_as_deleted(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[values("Succeeded", "Failed")] phase: &str,
) {
    let cluster = server.cluster().await;
    let pods = cluster.pods();
    let selector = "status.phase!=Succeeded,status.phase!=Failed";
    let list = ListParams::default().fields(selector);
    cluster.pod("a", json!({})).await.unwrap();
    let listed = pods.list(&list).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    let version = listed.metadata.resource_version.unwrap();
    let params = WatchParams::default().fields(selector);
    let events = pods.watch(&params, &version).await.unwrap();
    let mut events = Box::pin(events);
    let finished = Patch::Strategic(json!({ "status": { "phase": phase } }));
    let params = PatchParams::default();
    pods.patch_status("a", &params, &finished).await.unwrap();
    let deleted = timeout(DEADLINE, async {
        loop {
            match events.next().await.unwrap().unwrap() {
                WatchEvent::Deleted(pod) => return pod,
                WatchEvent::Bookmark(_) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    let deleted = deleted.await.unwrap();
    assert_eq!(deleted.name_any(), "a");
    assert!(pods.list(&list).await.unwrap().items.is_empty());
}
