//! The watches that only the registrar needs.

use targetgate_core::targets::slices::Slice;

use super::*;

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const SLICES_WATCH: &str = "/apis/discovery.k8s.io/v1/endpointslices?watch";
const SLICES_OF_SHOP: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
const RECORDS: &str = "/apis/targetgate.dev/v1/namespaces/targetgate-system/targetrecords";
const RECORDS_WATCH: &str =
    "/apis/targetgate.dev/v1/namespaces/targetgate-system/targetrecords?watch";

fn registering() -> World {
    let mut world = world();
    world.records = true;
    world
}

fn slice(name: &str, version: &str, service: &str) -> Value {
    json!({
        "metadata": { "namespace": "shop", "name": name, "resourceVersion": version,
            "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4", "ports": [{ "port": 80 }],
        "endpoints": [{ "addresses": ["10.0.0.1"] }],
    })
}

fn record(uid: &str, version: &str, targets: &[&str]) -> Value {
    json!({
        "metadata": { "namespace": "targetgate-system", "name": uid, "resourceVersion": version },
        "spec": { "binding": { "namespace": "shop", "name": "web" },
            "targetGroupARN": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef" },
        "status": { "count": targets.len(), "targets": targets },
    })
}

#[tokio::test(start_paused = true)]
async fn neither_slices_nor_records_are_asked_for_where_nothing_is_registered() {
    let world = world().watched();
    until("listed", || world.cache.pending().is_empty()).await;
    sleep(Duration::from_secs(600)).await;
    assert!(world.api.seen(SLICES).is_empty() && world.api.seen(RECORDS).is_empty());
    for watched in WatchedResource::TARGETS {
        assert_eq!(world.look(watched), InitialList::Pending);
    }
}

#[tokio::test(start_paused = true)]
async fn slices_are_those_that_kubernetes_does_not_write_itself() {
    let world = registering();
    let mut named = slice("b", "2", "web");
    named["addressType"] = json!("FQDN");
    world
        .api
        .answer(
            SLICES,
            Answer::Json(200, list(&[slice("a", "1", "web"), named], "9")),
        )
        .answer(
            SLICES_WATCH,
            Answer::Events(vec![
                event("ADDED", slice("c", "11", "web")),
                event("MODIFIED", slice("c", "12", "api")),
                event("DELETED", slice("a", "13", "web")),
            ]),
        );
    let world = world.watched();
    let service = |slice: &Slice| slice.service.to_string();
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..100 {
        let taken = world.cache.take_slices().into_iter();
        seen.extend(taken.map(|(key, slice)| (key.name.to_string(), slice.as_ref().map(service))));
        sleep(Duration::from_millis(50)).await;
    }
    let expected = [("a", None), ("c", Some("api".to_owned()))];
    let expected = expected.map(|(name, service)| (name.to_owned(), service));
    assert_eq!(seen, expected.into());
    for request in [&world.api.seen(SLICES)[0], &world.api.seen(SLICES_WATCH)[0]] {
        let of_others = "labelSelector=endpointslice.kubernetes.io%2Fmanaged-by%21%3Dendpointslice-controller.k8s.io";
        assert!(request.uri.contains(of_others), "{}", request.uri);
    }
}

#[tokio::test(start_paused = true)]
async fn slices_are_watched_in_the_watched_namespaces_and_records_in_our_own() {
    let world = registering().watched_in(&["shop"]);
    until("records are listed", || {
        world.look(WatchedResource::TargetRecords) == InitialList::Listed
    })
    .await;
    until("slices are listed", || {
        !world.api.seen(SLICES_OF_SHOP).is_empty()
    })
    .await;
    assert_eq!(world.api.seen(RECORDS).len(), 1);
    assert!(world.api.seen(SLICES).is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_are_taken_as_they_were_last_seen_and_wake_the_registrar() {
    let world = registering();
    let unreadable = json!({ "metadata": { "namespace": "targetgate-system", "name": "uid-c" } });
    let listed = [
        record("uid-a", "1", &["10.0.0.1:80"]),
        record("uid-b", "2", &[]),
    ];
    world
        .api
        .answer(RECORDS, Answer::Json(200, list(&listed, "9")))
        .answer(
            RECORDS_WATCH,
            Answer::EventsThenEnd(vec![
                event(
                    "MODIFIED",
                    record("uid-a", "11", &["10.0.0.1:80", "10.0.0.2:80"]),
                ),
                event("ADDED", unreadable),
                event("ERROR", gone()),
            ]),
        )
        .answer(
            RECORDS,
            Answer::Json(200, list(&[record("uid-a", "11", &[])], "20")),
        );
    let world = world.watched();
    world.cache.noted().await;
    until("listed again", || world.api.seen(RECORDS).len() == 2).await;
    sleep(Duration::from_secs(1)).await;
    let records = world.cache.take_records();
    let seen: Vec<_> = records
        .iter()
        .map(|(uid, stored)| (&**uid, stored.as_ref().map(|(_, version)| &**version)))
        .collect();
    assert_eq!(seen, [("uid-a", Some("11")), ("uid-b", None)]);
    assert!(world.cache.take_records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_that_are_not_served_keep_no_gate_from_opening() {
    let world = registering();
    for _ in 0..5 {
        world
            .api
            .answer(RECORDS, Answer::Text(404, "404 page not found\n"));
    }
    let world = world.watched();
    until("warm", || world.cache.pending().is_empty()).await;
    until("not served", || {
        world.look(WatchedResource::TargetRecords) == InitialList::NotServed
    })
    .await;
    assert!(
        world
            .cache
            .watch_fails_since(WatchedResource::TargetRecords)
            .is_some()
    );
    assert_eq!(world.restarts("targetrecords"), 0);
    // The CRD is installed later.
    until("served", || {
        world.look(WatchedResource::TargetRecords) == InitialList::Listed
    })
    .await;
}
