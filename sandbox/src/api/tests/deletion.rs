use super::*;

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
    let made = namespaces.get("shop").await.unwrap();
    let labels = made.metadata.labels.unwrap();
    assert_eq!(labels["kubernetes.io/metadata.name"], "shop");
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
