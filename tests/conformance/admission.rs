//! Webhooks: when the server calls them, over which protocol, and what it does with their answers.

use std::time::{Duration, Instant};

use http::header;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};

use crate::hook::{Answer, Hook, allowed, in_namespace, patched};
use crate::servers::{Cluster, Server, config_map, create, refused};

fn label(name: &str, value: &str) -> Answer {
    patched(json!([{ "op": "add", "path": "/metadata/labels", "value": { name: value } }]))
}

async fn labelled(cluster: &Cluster, name: &str, app: &str) -> kube::Result<ConfigMap> {
    let mut map = config_map(name);
    map["metadata"]["labels"] = json!({ "app": app });
    create(&cluster.config_maps(), map).await
}

#[rstest]
#[tokio::test]
async fn a_hook_is_asked_over_tls_and_its_patch_is_kept(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let hook = Hook::new(|_| label("by", "hook")).await;
    cluster
        .mutating(vec![hook.webhook(&cluster, "m", json!({}))])
        .await;
    let made = cluster.config_map("a").await.unwrap();
    assert_eq!(made.labels()["by"], "hook");

    let [call] = hook.calls().try_into().unwrap();
    assert_eq!(call.path, "/m?timeout=10s");
    assert_eq!(call.content_type, "application/json");
    assert_eq!(call.protocol.as_deref(), Some(b"http/1.1".as_slice()));
    let request = &call.request;
    for (field, expected) in [
        ("operation", json!("CREATE")),
        ("name", json!("a")),
        ("namespace", json!(cluster.namespace)),
        (
            "kind",
            json!({ "group": "", "version": "v1", "kind": "ConfigMap" }),
        ),
        (
            "resource",
            json!({ "group": "", "version": "v1", "resource": "configmaps" }),
        ),
        (
            "requestKind",
            json!({ "group": "", "version": "v1", "kind": "ConfigMap" }),
        ),
        (
            "requestResource",
            json!({ "group": "", "version": "v1", "resource": "configmaps" }),
        ),
        ("dryRun", json!(false)),
        ("oldObject", Value::Null),
    ] {
        assert_eq!(request[field], expected, "{field}");
    }
    assert_eq!(request["uid"].as_str().unwrap().len(), 36);
    assert!(request["userInfo"]["username"].is_string());
    assert_eq!(request["options"]["kind"], "CreateOptions");
    let object = &request["object"];
    assert_eq!(object["apiVersion"], "v1");
    assert_eq!(object["metadata"]["namespace"], json!(cluster.namespace));
    // The server assigns the UID after the mutating webhooks.
    assert_eq!(object["metadata"]["uid"], Value::Null);
    assert_eq!(object["metadata"]["resourceVersion"], Value::Null);
}

#[rstest]
#[tokio::test]
async fn a_hook_sees_both_objects_of_an_update_and_the_old_one_of_a_deletion(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let hook = Hook::allowing().await;
    let operations = json!({ "rules": [{
        "operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
    }] });
    cluster
        .validating(vec![hook.webhook(&cluster, "v", operations)])
        .await;
    let maps = cluster.config_maps();
    cluster.config_map("a").await.unwrap();
    let patch = Patch::Merge(json!({ "data": { "key": "2" } }));
    maps.patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let seen = |call: &crate::hook::Call| {
        let request = &call.request;
        let key = |object: &str| request[object]["data"]["key"].as_str().map(str::to_owned);
        let operation = request["operation"].as_str().unwrap().to_owned();
        (operation, key("oldObject"), key("object"))
    };
    let text = |text: &str| Some(text.to_owned());
    let seen: Vec<_> = hook.calls().iter().map(seen).collect();
    let expected = [
        ("CREATE".to_owned(), None, text("1")),
        ("UPDATE".to_owned(), text("1"), text("2")),
        ("DELETE".to_owned(), text("2"), None),
    ];
    assert_eq!(seen, expected);
}

#[rstest]
#[tokio::test]
async fn the_name_that_is_to_be_generated_is_not_known_to_a_hook(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let hook = Hook::allowing().await;
    cluster
        .mutating(vec![hook.webhook(&cluster, "m", json!({}))])
        .await;
    let mut unnamed = config_map("");
    unnamed["metadata"] = json!({ "generateName": "a-" });
    create(&cluster.config_maps(), unnamed).await.unwrap();
    let [call] = hook.calls().try_into().unwrap();
    assert_eq!(call.request["name"].as_str().unwrap_or_default(), "");
    assert_eq!(call.request["object"]["metadata"]["generateName"], "a-");
}

#[rstest]
#[case::every_operation(json!({ "rules": rules(&["*"]) }), true)]
#[case::another_operation(json!({ "rules": rules(&["UPDATE"]) }), false)]
#[case::its_label(json!({ "objectSelector": { "matchLabels": { "app": "a" } } }), true)]
#[case::another_label(json!({ "objectSelector": { "matchLabels": { "app": "b" } } }), false)]
#[case::condition(condition("object.metadata.name == 'a'"), true)]
#[case::no_condition(condition("request.operation == 'DELETE'"), false)]
#[case::absent_old_object(condition("oldObject == null"), true)]
#[case::namespace_in_condition(condition("request.namespace.startsWith('test-')"), true)]
#[case::label_in_condition(condition("'app' in object.metadata.labels"), true)]
#[case::no_such_field(condition("has(object.metadata.annotations)"), false)]
#[tokio::test]
async fn a_hook_is_asked_only_for_what_it_selects(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] more: Value,
    #[case] expected: bool,
) {
    let cluster = server.cluster().await;
    let hook = Hook::allowing().await;
    cluster
        .mutating(vec![hook.webhook(&cluster, "m", more)])
        .await;
    labelled(&cluster, "a", "a").await.unwrap();
    assert_eq!(hook.calls().len(), usize::from(expected));
}

fn rules(operations: &[&str]) -> Value {
    json!([{
        "operations": operations,
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["configmaps"],
    }])
}

fn condition(expression: &str) -> Value {
    json!({ "matchConditions": [{ "name": "c", "expression": expression }] })
}

#[rstest]
#[tokio::test]
async fn a_namespace_opts_in_by_its_label(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let hook = Hook::allowing().await;
    let mut selector = in_namespace(&cluster);
    selector["matchLabels"]["opt"] = json!("in");
    let opted_in = json!({ "namespaceSelector": selector });
    // The selector of the probe's webhook asks for no label, so the server knows both webhooks once it calls
    // the probe's.
    cluster
        .mutating(vec![hook.webhook(&cluster, "m", opted_in)])
        .await;
    cluster.config_map("a").await.unwrap();
    assert_eq!(hook.calls().len(), 0);
    cluster.label_namespace("opt", "in").await;
    targetgate_sandbox::harness::waiting::until("the label takes effect", async || {
        let name = "b";
        cluster.config_map(name).await.unwrap();
        let params = DeleteParams::default();
        cluster.config_maps().delete(name, &params).await.unwrap();
        (!hook.calls().is_empty()).then_some(())
    })
    .await;
}

/// Each way in which a hook can fail, and what the error says about it under `failurePolicy: Fail`.
#[rstest]
#[case::nobody_listens(json!({ "clientConfig": { "url": "https://127.0.0.1:1/m" } }), || allowed(), "connection refused")]
#[case::another_ca(json!({ "clientConfig": { "caBundle": "other" } }), || allowed(), "certificate")]
#[case::a_failure(json!({}), || Answer::Status(500), "an error on the server (\"no review\") has prevented the request from succeeding")]
#[case::too_late(json!({ "timeoutSeconds": 1 }), || Answer::Never, "context deadline exceeded")]
#[case::another_uid(json!({}), || Answer::Response(json!({ "uid": "x", "allowed": true })), "expected response.uid=")]
#[case::a_patch_of_no_type(json!({}), || Answer::Response(json!({ "allowed": true, "patch": "W10=" })), "patchType")]
#[tokio::test]
async fn a_hook_that_cannot_be_asked_is_a_matter_of_its_failure_policy(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] mut config: Value,
    #[case] answer: fn() -> Answer,
    #[case] words: &str,
) {
    let cluster = server.cluster().await;
    let hook = Hook::new(move |_| answer()).await;
    if config["clientConfig"]["caBundle"] == "other" {
        let other = Hook::allowing().await.client_config("/m");
        config["clientConfig"]["caBundle"] = other["caBundle"].clone();
    }
    let policy = |policy: &str, app: &str| {
        let mut config = config.clone();
        config["failurePolicy"] = json!(policy);
        config["objectSelector"] = json!({ "matchLabels": { "app": app } });
        hook.webhook(&cluster, &format!("m-{app}"), config)
    };
    let webhooks = vec![policy("Ignore", "ignore"), policy("Fail", "fail")];
    cluster.mutating(webhooks).await;
    labelled(&cluster, "a", "ignore").await.unwrap();
    let (code, reason, message) = refused(labelled(&cluster, "b", "fail").await);
    assert_eq!((code, reason.as_str()), (500, "InternalError"), "{message}");
    let start = "Internal error occurred: failed calling webhook \"m-fail.example.com\": ";
    assert!(message.starts_with(start), "{message}");
    assert!(message.contains(words), "{message}");
}

#[rstest]
#[tokio::test]
async fn a_hook_that_hangs_costs_its_timeout_and_no_more(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let hook = Hook::new(|_| Answer::Never).await;
    let ignored = json!({ "failurePolicy": "Ignore", "timeoutSeconds": 1 });
    cluster
        .mutating(vec![hook.webhook(&cluster, "m", ignored)])
        .await;
    let start = Instant::now();
    cluster.config_map("a").await.unwrap();
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[rstest]
#[case::words_alone(json!({ "message": "not you" }), 400, "", "not you")]
#[case::as_controller_runtime(json!({ "message": "not you", "code": 403, "reason": "Forbidden" }), 403, "Forbidden", "not you")]
#[case::its_own_code(json!({ "message": "nor you", "code": 422, "reason": "Invalid" }), 422, "Invalid", "nor you")]
#[case::no_words(json!({}), 400, "", "without explanation")]
#[tokio::test]
async fn a_denial_names_the_hook_and_has_its_words(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] status: Value,
    #[case] code: u16,
    #[case] reason: &str,
    #[case] words: &str,
) {
    let cluster = server.cluster().await;
    let response = json!({ "allowed": false, "status": status });
    let hook = Hook::new(move |_| Answer::Response(response.clone())).await;
    cluster
        .validating(vec![hook.webhook(&cluster, "v", json!({}))])
        .await;
    let denied = refused(cluster.config_map("a").await);
    let start = "admission webhook \"v.example.com\" denied the request";
    let message = match words {
        "without explanation" => format!("{start} {words}"),
        words => format!("{start}: {words}"),
    };
    assert_eq!(denied, (code, reason.to_owned(), message));
}

#[rstest]
#[tokio::test]
async fn what_a_hook_warns_of_comes_in_a_header(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let hook = Hook::new(|_| {
        Answer::Response(json!({ "allowed": true, "warnings": ["mind \"the\" gap", "twice"] }))
    })
    .await;
    cluster
        .mutating(vec![hook.webhook(&cluster, "m", json!({}))])
        .await;
    let path = format!("/api/v1/namespaces/{}/configmaps", cluster.namespace);
    let body = config_map("a").to_string().into_bytes();
    let request = http::Request::post(path).header(header::CONTENT_TYPE, "application/json");
    let request = request.body(kube::client::Body::from(body)).unwrap();
    let answer = cluster.client.send(request).await.unwrap();
    assert_eq!(answer.status(), 201);
    let warnings = answer.headers().get_all(header::WARNING);
    let warnings: Vec<_> = warnings.iter().map(|w| w.to_str().unwrap()).collect();
    assert_eq!(
        warnings,
        ["299 - \"mind \\\"the\\\" gap\"", "299 - \"twice\""]
    );
}

#[rstest]
#[case::if_needed("IfNeeded", 2)]
#[case::never("Never", 1)]
#[tokio::test]
async fn a_hook_is_reinvoked_if_needed_after_a_later_hook_changed_the_object(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] policy: &str,
    #[case] calls: usize,
) {
    let cluster = server.cluster().await;
    let first = Hook::allowing().await;
    let second = Hook::new(|_| label("by", "second")).await;
    let wants = json!({ "reinvocationPolicy": policy });
    let webhooks = vec![
        first.webhook(&cluster, "m1", wants.clone()),
        second.webhook(&cluster, "m2", wants),
    ];
    cluster.mutating(webhooks).await;
    cluster.config_map("a").await.unwrap();
    let asked = first.calls();
    assert_eq!(asked.len(), calls);
    assert_eq!(second.calls().len(), 1);
    if let [_, again] = asked.as_slice() {
        assert_eq!(
            again.request["object"]["metadata"]["labels"]["by"],
            "second"
        );
        assert_ne!(again.request["uid"], asked[0].request["uid"]);
    }
}

#[rstest]
#[tokio::test]
async fn a_dry_run_is_told_to_the_hook(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let hook = Hook::new(|_| label("by", "hook")).await;
    cluster
        .mutating(vec![hook.webhook(&cluster, "m", json!({}))])
        .await;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let object = serde_json::from_value(config_map("a")).unwrap();
    let shown = cluster.config_maps().create(&dry, &object).await.unwrap();
    assert_eq!(shown.labels()["by"], "hook");
    let [call] = hook.calls().try_into().unwrap();
    assert_eq!(call.request["dryRun"], true);
}
