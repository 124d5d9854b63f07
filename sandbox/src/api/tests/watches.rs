use super::*;

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

pub(super) async fn next_kind(
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
    assert_eq!(next_kind(&mut late.unwrap().boxed()).await, "error 410");
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
