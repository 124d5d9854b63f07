use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Client,
    api::{Api as Kube, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::api::{Api, Counts, Options, Switchboard, tests::resource};

type Handler = Arc<dyn Fn(String, Value) -> BoxFuture<'static, Value> + Send + Sync>;

/// A server, its clients, and webhooks that listen in this process.
struct World {
    api: Api,
    client: Client,
    switchboard: Switchboard,
}

/// A running webhook.
struct Hook {
    ca_bundle: String,
    connections: Arc<AtomicUsize>,
}

impl World {
    fn new() -> World {
        let switchboard = Switchboard::default();
        let api = Api::new(Options {
            now: crate::clock::simulated("2026-11-21T12:00:00Z".parse().unwrap()),
            dial: Arc::new(switchboard.clone()),
            ..Options::default()
        });
        World {
            client: api.client(),
            api,
            switchboard,
        }
    }

    /// Listens as the Service `hook` in `default`. The handler receives the path and the request,
    /// and returns the response without its uid.
    fn hook<F>(&self, answer: impl Fn(String, Value) -> F + Send + Sync + 'static) -> Hook
    where
        F: Future<Output = Value> + Send + 'static,
    {
        let (acceptor, ca_bundle) = certificate("hook.default.svc");
        let mut streams = self.switchboard.listen("hook.default.svc", 443);
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let handler: Handler = Arc::new(move |path, request| Box::pin(answer(path, request)));
        tokio::spawn(async move {
            while let Some(stream) = streams.recv().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let handler = Arc::clone(&handler);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| serve(Arc::clone(&handler), request));
                    let connection = http1::Builder::new();
                    let _ = connection
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Hook {
            ca_bundle,
            connections,
        }
    }

    async fn register(&self, kind: &str, name: &str, webhooks: Vec<Value>) {
        let resource = resource("admissionregistration.k8s.io", "v1", kind);
        let configurations: Kube<DynamicObject> = Kube::all_with(self.client.clone(), &resource);
        let object = json!({"metadata": {"name": name}, "webhooks": webhooks});
        let object = serde_json::from_value(object).unwrap();
        let params = PostParams::default();
        configurations.create(&params, &object).await.unwrap();
    }

    async fn mutating(&self, webhooks: Vec<Value>) {
        self.register("MutatingWebhookConfiguration", "m", webhooks)
            .await;
    }

    async fn validating(&self, webhooks: Vec<Value>) {
        self.register("ValidatingWebhookConfiguration", "v", webhooks)
            .await;
    }

    fn configs(&self) -> Kube<ConfigMap> {
        Kube::default_namespaced(self.client.clone())
    }

    async fn create(&self, name: &str) -> kube::Result<ConfigMap> {
        let object = json!({"metadata": {"name": name, "labels": {"app": name}}});
        let object = serde_json::from_value(object).unwrap();
        self.configs().create(&PostParams::default(), &object).await
    }
}

async fn serve(
    handler: Handler,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let uid = review["request"]["uid"].clone();
    let mut response = handler(path, review["request"].clone()).await;
    if response["uid"].is_null() {
        response["uid"] = uid;
    }
    let answer = json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "response": response,
    });
    Ok(Response::new(Full::new(Bytes::from(answer.to_string()))))
}

fn certificate(host: &str) -> (TlsAcceptor, String) {
    let named = |name: &str, hosts: Vec<String>| {
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = named("test CA", vec![]);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = named(host, vec![host.to_owned()]);
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (
        TlsAcceptor::from(Arc::new(config)),
        STANDARD.encode(root.pem()),
    )
}

/// A webhook for ConfigMaps; the fields of `more` override its defaults.
fn webhook(hook: &Hook, name: &str, more: Value) -> Value {
    let mut webhook = json!({
        "name": name,
        "clientConfig": {
            "service": {"name": "hook", "namespace": "default", "path": "/hook"},
            "caBundle": hook.ca_bundle,
        },
        "rules": [{
            "operations": ["CREATE", "UPDATE"],
            "apiGroups": [""],
            "apiVersions": ["v1"],
            "resources": ["configmaps"],
        }],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    });
    json_patch::merge(&mut webhook, &more);
    webhook
}

fn patch(operations: Value) -> Value {
    json!({
        "allowed": true,
        "patchType": "JSONPatch",
        "patch": STANDARD.encode(operations.to_string()),
    })
}

fn label(name: &str, value: &str) -> Value {
    json!([{"op": "add", "path": format!("/metadata/labels/{name}"), "value": value}])
}

fn message<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("not an API error: {other:?}"),
    }
}

fn rules(operations: Value) -> Value {
    json!({"rules": [{
        "operations": operations,
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["configmaps"],
    }]})
}

#[tokio::test(start_paused = true)]
async fn a_mutating_hook_sees_the_request_and_its_patch_is_kept() {
    let world = World::new();
    let hook = world.hook(|path, request| async move {
        assert_eq!(path, "/hook?timeout=2s");
        assert_eq!(request["operation"], "CREATE");
        assert_eq!(request["namespace"], "default");
        assert_eq!(request["name"], "a");
        assert_eq!(request["kind"]["kind"], "ConfigMap");
        assert_eq!(request["object"]["apiVersion"], "v1");
        assert_eq!(request["object"]["metadata"]["namespace"], "default");
        assert_eq!(request["oldObject"], Value::Null);
        patch(label("by", "hook"))
    });
    world
        .mutating(vec![webhook(&hook, "m.example.com", json!({}))])
        .await;
    let made = world.create("a").await.unwrap();
    assert_eq!(made.metadata.labels.unwrap()["by"], "hook");
}

#[tokio::test(start_paused = true)]
async fn a_denial_names_the_webhook_and_carries_its_code() {
    let world = World::new();
    let hook = world.hook(|_, request| async move {
        let status = match request["name"].as_str() {
            Some("a") => json!({"message": "not you"}),
            _ => json!({"message": "nor you", "code": 422, "reason": "Invalid"}),
        };
        json!({"allowed": false, "status": status})
    });
    world
        .validating(vec![webhook(&hook, "v.example.com", json!({}))])
        .await;
    let denied = |code, why| {
        let words = "admission webhook \"v.example.com\" denied the request: ";
        (code, format!("{words}{why}"))
    };
    assert_eq!(message(world.create("a").await), denied(400, "not you"));
    assert_eq!(message(world.create("b").await), denied(422, "nor you"));
    assert_eq!(world.api.webhook_counts("v.example.com").denied, 2);
    assert_eq!(message(world.configs().get("a").await).0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_cannot_be_asked_is_a_matter_of_its_failure_policy() {
    let (_, other_ca) = certificate("hook.default.svc");
    let hang = json!({"allowed": "hang"});
    let cases = [
        (
            "nobody listens",
            json!({"clientConfig": {"service": {"name": "no"}}}),
            json!({}),
            "connection refused",
        ),
        (
            "another CA",
            json!({"clientConfig": {"caBundle": other_ca}}),
            json!({}),
            "certificate",
        ),
        (
            "no CA",
            json!({"clientConfig": {"caBundle": null}}),
            json!({}),
            "caBundle",
        ),
        ("hangs", json!({}), hang, "context deadline exceeded"),
        (
            "another uid",
            json!({}),
            json!({"uid": "x", "allowed": true}),
            "expected response.uid",
        ),
        (
            "no patch type",
            json!({}),
            json!({"allowed": true, "patch": "W10="}),
            "patchType",
        ),
    ];
    for (case, config, answer, words) in cases {
        let world = World::new();
        let hook = world.hook(move |_, _| {
            let answer = answer.clone();
            async move {
                if answer["allowed"] == "hang" {
                    std::future::pending::<()>().await;
                }
                answer
            }
        });
        let mut ignored = webhook(&hook, "i.example.com", json!({"failurePolicy": "Ignore"}));
        json_patch::merge(&mut ignored, &config);
        world.mutating(vec![ignored]).await;
        world
            .create("a")
            .await
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        let once = Counts {
            calls: 1,
            failed_open: 1,
            ..Counts::default()
        };
        assert_eq!(world.api.webhook_counts("i.example.com"), once, "{case}");

        let mut failing = webhook(&hook, "f.example.com", json!({}));
        json_patch::merge(&mut failing, &config);
        world.validating(vec![failing]).await;
        let (code, text) = message(world.create("b").await);
        let start = "Internal error occurred: failed calling webhook \"f.example.com\": failed to \
                     call webhook: Post \"https://";
        assert_eq!(code, 500, "{case}");
        if !["another uid", "no patch type"].contains(&case) {
            assert!(text.starts_with(start), "{case}: {text}");
        }
        assert!(text.contains(words), "{case}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_hangs_costs_its_timeout_and_no_more() {
    let world = World::new();
    let hook = world.hook(|_, _| std::future::pending::<Value>());
    let ignore = json!({"failurePolicy": "Ignore"});
    world
        .mutating(vec![webhook(&hook, "m.example.com", ignore)])
        .await;
    let start = tokio::time::Instant::now();
    world.create("a").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_asked_only_for_what_it_selects() {
    let cases = [
        (json!({}), true),
        (rules(json!(["*"])), true),
        (rules(json!(["UPDATE"])), false),
        (
            json!({"objectSelector": {"matchLabels": {"app": "a"}}}),
            true,
        ),
        (
            json!({"objectSelector": {"matchLabels": {"app": "b"}}}),
            false,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}),
            true,
        ),
        (
            json!({"namespaceSelector": {"matchLabels": {"opt": "in"}}}),
            false,
        ),
        (
            json!({"matchConditions": [{"name": "c", "expression": "object.metadata.name == 'a'"}]}),
            true,
        ),
        (
            json!({"matchConditions": [{"name": "c", "expression": "request.operation == 'DELETE'"}]}),
            false,
        ),
    ];
    for (more, expected) in cases {
        let world = World::new();
        let hook = world.hook(|_, _| async { patch(label("by", "hook")) });
        world
            .mutating(vec![webhook(&hook, "m.example.com", more.clone())])
            .await;
        let made = world.create("a").await.unwrap();
        let asked = made.metadata.labels.unwrap().contains_key("by");
        assert_eq!(asked, expected, "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_gives_no_answer_is_a_matter_of_the_failure_policy() {
    let world = World::new();
    let hook = world.hook(|_, _| async { json!({"allowed": true}) });
    let broken = json!({"matchConditions": [{"name": "c", "expression": "object.no.such"}]});
    let mut ignored = webhook(&hook, "i.example.com", broken.clone());
    ignored["failurePolicy"] = json!("Ignore");
    world.mutating(vec![ignored]).await;
    world.create("a").await.unwrap();
    assert_eq!(world.api.webhook_counts("i.example.com").calls, 0);
    world
        .validating(vec![webhook(&hook, "f.example.com", broken)])
        .await;
    assert_eq!(message(world.create("b").await).0, 403);
}

#[tokio::test(start_paused = true)]
async fn warnings_come_back_as_headers_and_annotations_are_audited() {
    let world = World::new();
    let hook = world.hook(|_, _| async {
        json!({
            "allowed": true,
            "warnings": ["look \"here\""],
            "auditAnnotations": {"decision": "NoBinding"},
        })
    });
    world
        .mutating(vec![webhook(&hook, "m.example.com", json!({}))])
        .await;
    let request = http::Request::post("/api/v1/namespaces/default/configmaps")
        .body(kube::client::Body::from(
            br#"{"metadata": {"name": "a"}}"#.to_vec(),
        ))
        .unwrap();
    let response = world.api.service().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["warning"], r#"299 - "look \"here\"""#);
    let audit = world.api.audit();
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0].key, "m.example.com/decision");
    assert_eq!(audit[0].value, "NoBinding");
    assert_eq!(
        (audit[0].operation, audit[0].name.as_str()),
        ("CREATE", "a")
    );
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_reinvoked_when_a_later_one_changed_the_object() {
    for (policy, expected) in [("IfNeeded", 3), ("Never", 2)] {
        let world = World::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let hook = world.hook(move |path, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                patch(label(
                    if path.starts_with("/one") {
                        "one"
                    } else {
                        "two"
                    },
                    "x",
                ))
            }
        });
        let path = |path: &str| {
            json!({
                "clientConfig": {"service": {"path": path}},
                "reinvocationPolicy": policy,
            })
        };
        let webhooks = vec![
            webhook(&hook, "one.example.com", path("/one")),
            webhook(&hook, "two.example.com", path("/two")),
        ];
        world.mutating(webhooks).await;
        world.create("a").await.unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), expected, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_serves_one_call_after_another() {
    let world = World::new();
    let hook = world.hook(|_, _| async { json!({"allowed": true}) });
    world
        .mutating(vec![webhook(&hook, "m.example.com", json!({}))])
        .await;
    for name in ["a", "b", "c"] {
        world.create(name).await.unwrap();
    }
    assert_eq!(hook.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_is_refused_for_a_hook_with_side_effects() {
    let world = World::new();
    let hook = world.hook(|_, request| async move {
        assert_eq!(request["dryRun"], true);
        json!({"allowed": true})
    });
    world
        .mutating(vec![webhook(&hook, "m.example.com", json!({}))])
        .await;
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let object = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    world.configs().create(&params, &object).await.unwrap();
    let effects = json!({"sideEffects": "Some"});
    world
        .validating(vec![webhook(&hook, "v.example.com", effects)])
        .await;
    let refused = world.configs().create(&params, &object).await;
    assert_eq!(message(refused).0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_can_be_denied_and_shows_the_old_object() {
    let world = World::new();
    let hook = world.hook(|_, request| async move {
        assert_eq!(request["operation"], "DELETE");
        assert_eq!(request["oldObject"]["metadata"]["name"], "a");
        assert_eq!(request["object"], Value::Null);
        json!({"allowed": false})
    });
    let deletions = rules(json!(["DELETE"]));
    world
        .validating(vec![webhook(&hook, "v.example.com", deletions)])
        .await;
    world.create("a").await.unwrap();
    let denied = world.configs().delete("a", &DeleteParams::default()).await;
    assert_eq!(message(denied).0, 400);
    world.configs().get("a").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_during_the_admission_of_another_is_noticed() {
    let world = World::new();
    let client = world.client.clone();
    // The webhook itself labels the object, by a write that the webhook is not asked about.
    let hook = world.hook(move |_, request| {
        let configs: Kube<ConfigMap> = Kube::default_namespaced(client.clone());
        async move {
            let value = request["object"]["data"]["by"].clone();
            let label = json!({"metadata": {"labels": {"seen": value}}, "data": null});
            let params = PatchParams::default();
            configs
                .patch("a", &params, &Patch::Merge(label))
                .await
                .unwrap();
            json!({"allowed": true})
        }
    });
    let with_data = json!({
        "rules": [{"operations": ["UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
                   "resources": ["configmaps"]}],
        "matchConditions": [{"name": "c", "expression": "has(object.data)"}],
    });
    world.create("a").await.unwrap();
    world
        .mutating(vec![webhook(&hook, "m.example.com", with_data)])
        .await;
    let mut late = world.configs().get("a").await.unwrap();
    late.data = Some([("by".to_owned(), "put".to_owned())].into());
    let refused = world
        .configs()
        .replace("a", &PostParams::default(), &late)
        .await;
    assert_eq!(message(refused).0, 409);
    // A patch names no version, so the server applies it again to the new state.
    let again = Patch::Merge(json!({"data": {"by": "patch"}}));
    let done = world
        .configs()
        .patch("a", &PatchParams::default(), &again)
        .await;
    let done = done.unwrap();
    assert_eq!(done.data.unwrap()["by"], "patch");
    assert_eq!(done.metadata.labels.unwrap()["seen"], "patch");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_cannot_be_read_is_refused() {
    let world = World::new();
    let kind = resource(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
    );
    let configurations: Kube<DynamicObject> = Kube::all_with(world.client.clone(), &kind);
    let nameless = json!({"metadata": {"name": "m"}, "webhooks": [{"clientConfig": {}}]});
    let nameless = serde_json::from_value(nameless).unwrap();
    let refused = configurations
        .create(&PostParams::default(), &nameless)
        .await;
    let (code, text) = message(refused);
    assert_eq!(code, 422);
    assert!(
        text.contains("webhooks[0]") && text.contains("name"),
        "{text}"
    );
}

fn thing_definition() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {
        "type": "object",
        "required": ["port"],
        "properties": {"port": {"x-kubernetes-int-or-string": true}},
    }}}});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema});
    json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [version("v1", true), version("v1alpha1", false)],
        },
    })
}

#[tokio::test(start_paused = true)]
async fn a_hook_for_one_version_sees_them_all_and_may_fill_what_the_schema_requires() {
    let world = World::new();
    let crds = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Kube<DynamicObject> = Kube::all_with(world.client.clone(), &crds);
    let definition = serde_json::from_value(thing_definition()).unwrap();
    crds.create(&PostParams::default(), &definition)
        .await
        .unwrap();
    let hook = world.hook(|_, request| async move {
        assert_eq!(request["object"]["apiVersion"], "example.com/v1");
        assert_eq!(request["resource"]["version"], "v1");
        patch(json!([{"op": "add", "path": "/spec/port", "value": 80}]))
    });
    let mut things = webhook(&hook, "m.example.com", json!({}));
    things["rules"] = json!([{
        "operations": ["CREATE"],
        "apiGroups": ["example.com"],
        "apiVersions": ["v1"],
        "resources": ["things"],
    }]);
    world.mutating(vec![things]).await;
    let thing = resource("example.com", "v1alpha1", "Thing");
    let api: Kube<DynamicObject> = Kube::default_namespaced_with(world.client.clone(), &thing);
    let thing = json!({
        "apiVersion": "example.com/v1alpha1",
        "kind": "Thing",
        "metadata": {"name": "t"},
        "spec": {},
    });
    let thing = serde_json::from_value(thing).unwrap();
    let made = api.create(&PostParams::default(), &thing).await.unwrap();
    assert_eq!(made.data["spec"]["port"], 80);
    assert_eq!(made.types.unwrap().api_version, "example.com/v1alpha1");
}
