//! How objects are created, replaced and deleted.

use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use rstest::rstest;
use serde_json::{Value, json};

use crate::servers::{Server, answer, code, config_map, create, refused};

#[rstest]
#[tokio::test]
async fn a_new_pod_gets_what_the_server_gives(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let made = cluster.pod("a", json!({})).await.unwrap();
    assert_eq!(made.namespace(), Some(cluster.namespace.clone()));
    assert_eq!(made.uid().unwrap().len(), 36);
    assert!(made.resource_version().unwrap().parse::<u64>().is_ok());
    assert_eq!(made.metadata.generation, Some(1));
    assert!(made.metadata.creation_timestamp.is_some());
    assert_eq!(made.status.unwrap().phase.as_deref(), Some("Pending"));
    let spec = made.spec.unwrap();
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
}

#[rstest]
#[tokio::test]
async fn a_name_is_taken_once(#[values(Server::Sandbox, Server::Kubernetes)] server: Server) {
    let cluster = server.cluster().await;
    cluster.pod("a", json!({})).await.unwrap();
    let again = refused(cluster.pod("a", json!({})).await);
    let words = "pods \"a\" already exists".to_owned();
    assert_eq!(again, (409, "AlreadyExists".to_owned(), words));
}

#[rstest]
#[tokio::test]
async fn a_generated_name_adds_five_characters(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let unnamed = json!({ "metadata": { "name": null, "generateName": "web-" } });
    let mut names = Vec::new();
    for _ in 0..2 {
        let made = cluster.pod("", unnamed.clone()).await.unwrap();
        assert_eq!(made.metadata.generate_name.as_deref(), Some("web-"));
        names.push(made.name_any());
    }
    assert!(
        names
            .iter()
            .all(|name| name.len() == 9 && name.starts_with("web-"))
    );
    assert_ne!(names[0], names[1]);
}

#[rstest]
#[tokio::test]
async fn a_dry_run_answers_like_a_write_and_stores_nothing(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let maps = cluster.config_maps();
    let object = serde_json::from_value(config_map("a")).unwrap();
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    assert!(maps.create(&dry, &object).await.unwrap().uid().is_some());
    assert_eq!(code(maps.get("a").await), answer(404, "NotFound"));

    let kept = cluster.config_map("a").await.unwrap();
    assert_eq!(
        code(maps.create(&dry, &object).await),
        answer(409, "AlreadyExists")
    );
    let changed = Patch::Merge(json!({ "data": { "key": "2" } }));
    let shown = maps
        .patch("a", &PatchParams::default().dry_run(), &changed)
        .await;
    assert_eq!(shown.unwrap().data.unwrap()["key"], "2");
    maps.delete("a", &DeleteParams::default().dry_run())
        .await
        .unwrap();
    assert_eq!(maps.get("a").await.unwrap(), kept);
}

#[rstest]
#[tokio::test]
async fn a_replacement_of_an_old_version_is_a_conflict(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let maps = cluster.config_maps();
    let old = cluster.config_map("a").await.unwrap();
    let mut new = old.clone();
    new.data = None;
    maps.replace("a", &PostParams::default(), &new)
        .await
        .unwrap();
    let (code, reason, message) = refused(maps.replace("a", &PostParams::default(), &old).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    let words = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; \
                 please apply your changes to the latest version and try again";
    assert_eq!(message, words);
}

#[rstest]
#[tokio::test]
async fn a_write_that_changes_nothing_makes_no_version(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let maps = cluster.config_maps();
    let old = cluster.config_map("a").await.unwrap();
    let same = maps
        .replace("a", &PostParams::default(), &old)
        .await
        .unwrap();
    assert_eq!(same.resource_version(), old.resource_version());
    let same = Patch::Merge(json!({ "data": { "key": "1" } }));
    let same = maps
        .patch("a", &PatchParams::default(), &same)
        .await
        .unwrap();
    assert_eq!(same.resource_version(), old.resource_version());
}

/// A candidate takes a Lease by a replacement, so one that read an older version does not get it.
#[rstest]
#[tokio::test]
async fn only_one_of_two_candidates_takes_a_lease(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let leases = cluster.api::<Lease>();
    let free = json!({
        "metadata": { "name": "loop" },
        "spec": { "leaseDurationSeconds": 15, "renewTime": "2026-11-21T12:00:00.123456Z" },
    });
    let free = create(&leases, free).await.unwrap();
    let held_by = |holder: &str| {
        let mut lease = free.clone();
        lease.spec.as_mut().unwrap().holder_identity = Some(holder.to_owned());
        lease
    };
    let params = PostParams::default();
    let taken = leases
        .replace("loop", &params, &held_by("a"))
        .await
        .unwrap();
    let late = leases.replace("loop", &params, &held_by("b")).await;
    assert_eq!(code(late), answer(409, "Conflict"));
    let spec = leases.get("loop").await.unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("a"));
    assert_eq!(spec.renew_time, taken.spec.unwrap().renew_time);
}

#[rstest]
#[tokio::test]
async fn a_pod_on_a_node_is_deleted_with_grace_and_gone_without(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let pods = cluster.pods();
    let made = cluster.pod("a", json!({})).await.unwrap();
    let other = Preconditions {
        uid: Some("other".to_owned()),
        resource_version: None,
    };
    let other = DeleteParams::default().preconditions(other);
    assert_eq!(
        code(pods.delete("a", &other).await),
        answer(409, "Conflict")
    );

    let shorter = DeleteParams::default().grace_period(20);
    let leaving = pods.delete("a", &shorter).await.unwrap().left().unwrap();
    assert_eq!(leaving.metadata.deletion_grace_period_seconds, Some(20));
    assert_eq!(leaving.metadata.generation, Some(2));
    let ends = leaving.metadata.deletion_timestamp.unwrap().0;
    let since_creation = ends.duration_since(made.metadata.creation_timestamp.unwrap().0);
    assert!(since_creation >= SignedDuration::from_secs(20));

    let longer = DeleteParams::default().grace_period(60);
    let still = pods.delete("a", &longer).await.unwrap().left().unwrap();
    assert_eq!(still.metadata.deletion_grace_period_seconds, Some(20));
    let now = DeleteParams::default().grace_period(0);
    pods.delete("a", &now).await.unwrap();
    assert_eq!(code(pods.get("a").await), answer(404, "NotFound"));
}

#[rstest]
#[tokio::test]
async fn a_pod_on_no_node_goes_at_once(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let loose = json!({ "spec": { "nodeName": null } });
    cluster.pod("a", loose).await.unwrap();
    let pods = cluster.pods();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(pods.get("a").await), answer(404, "NotFound"));
}

#[rstest]
#[tokio::test]
async fn a_scheduler_binds_a_pod_once(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let loose = json!({ "spec": { "nodeName": null } });
    cluster.pod("a", loose).await.unwrap();
    let pods = cluster.pods();
    let bind = async || {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": "a" },
            "target": { "kind": "Node", "name": "node" },
        });
        pods.create_subresource::<Value, Value>("binding", "a", &PostParams::default(), &binding)
            .await
    };
    bind().await.unwrap();
    let bound = pods.get("a").await.unwrap();
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("node"));
    let conditions = bound.status.unwrap().conditions.unwrap();
    assert_eq!(conditions[0].type_, "PodScheduled");
    assert_eq!(code(bind().await), answer(409, "Conflict"));
}

#[rstest]
#[tokio::test]
async fn a_finalizer_holds_an_object_until_it_is_taken_off(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let maps = cluster.config_maps();
    let mut held = config_map("a");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    create(&maps, held).await.unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let left = maps.get("a").await.unwrap();
    assert!(left.metadata.deletion_timestamp.is_some());
    assert_eq!(left.metadata.deletion_grace_period_seconds, Some(0));

    let late = Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/late"] } }));
    let late = maps.patch("a", &PatchParams::default(), &late).await;
    assert_eq!(code(late), answer(422, "Invalid"));
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    maps.patch("a", &PatchParams::default(), &free)
        .await
        .unwrap();
    assert_eq!(code(maps.get("a").await), answer(404, "NotFound"));
}

#[rstest]
#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_goes(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    // The finalizer keeps the namespace in Terminating.
    let mut held = config_map("a");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    create(&cluster.config_maps(), held).await.unwrap();
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let params = DeleteParams::default();
    namespaces
        .delete(&cluster.namespace, &params)
        .await
        .unwrap();
    let (code, reason, message) = refused(cluster.config_map("b").await);
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    let namespace = &cluster.namespace;
    assert_eq!(
        message,
        format!(
            "configmaps \"b\" is forbidden: unable to create new content in namespace {namespace} \
             because it is being terminated"
        )
    );
}

/// The name part of a condition type may have 63 characters, to which we truncate ours.
#[rstest]
#[case::the_longest(63, None)]
#[case::one_too_many(64, Some((422, "Invalid")))]
#[tokio::test]
async fn a_gate_has_a_name_of_63_characters_at_most(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] length: usize,
    #[case] refusal: Option<(u16, &str)>,
) {
    let cluster = server.cluster().await;
    let gate = format!("target-health.elbv2.k8s.aws/{}", "a".repeat(length));
    let gates = json!({ "spec": { "readinessGates": [{ "conditionType": gate }] } });
    let made = cluster.pod("a", gates).await;
    match refusal {
        Some((status, reason)) => assert_eq!(code(made), answer(status, reason)),
        None => assert_eq!(
            made.unwrap().spec.unwrap().readiness_gates.unwrap()[0].condition_type,
            gate
        ),
    }
}

#[rstest]
#[tokio::test]
async fn the_same_gate_twice_is_accepted(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let gate = json!({ "conditionType": "target-health.elbv2.k8s.aws/web.v2" });
    let twice = json!({ "spec": { "readinessGates": [gate, gate] } });
    let made = cluster.pod("a", twice).await.unwrap();
    assert_eq!(made.spec.unwrap().readiness_gates.unwrap().len(), 2);
}

#[rstest]
#[tokio::test]
async fn the_gates_of_a_pod_cannot_be_changed(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    cluster.pod("a", json!({})).await.unwrap();
    let gate = json!({ "spec": { "readinessGates": [{ "conditionType": "a.b/c" }] } });
    let params = PatchParams::default();
    let changed = cluster
        .pods()
        .patch("a", &params, &Patch::Merge(gate))
        .await;
    assert_eq!(code(changed), answer(422, "Invalid"));
}
