use super::*;

#[tokio::test(start_paused = true)]
async fn status_and_spec_are_written_apart() {
    let client = simulated().client();
    create(&client, "p").await;
    let both = json!({
        "spec": {"activeDeadlineSeconds": 60},
        "status": {"podIP": "10.0.0.1"},
    });
    let by_status = strategic(&client, "p", both).await.unwrap();
    assert_eq!(
        by_status.status.unwrap().pod_ip.as_deref(),
        Some("10.0.0.1")
    );
    assert_eq!(by_status.spec.unwrap().active_deadline_seconds, None);
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
