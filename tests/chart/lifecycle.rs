//! Install, upgrade, roll back and uninstall the chart while a process of ours runs: the hooks stay in between,
//! and nothing is left afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::{
    Api, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Discovery, ResourceExt as _};
use serde_json::{Value, json};
use targetgate_core::names::{INJECT_ENABLED, INJECT_LABEL};
use targetgate_sandbox::controlplane::ControlPlane;
use targetgate_sandbox::harness::waiting::until;
use targetgate_sandbox::harness::{Balancer, Creation, OWN_CERTIFICATE, Program};

use crate::documented::{Checkout, commands, section};
use crate::helm::{Helm, NAMESPACE, chart};
use crate::options::restricted_namespace;
use crate::server::{TURN, api, apply, control_plane};
use crate::steady::{self, SOME, bound_namespace};

const HOOKS: [&str; 2] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];
/// The host in the URL of the hooks. It is not a loopback address to kube-apiserver, which would speak HTTP/2
/// to one.
const HOST: &str = "0.0.0.0";

/// The program that runs in place of the chart's pods.
pub(crate) async fn program(server: &ControlPlane, client: &Client) -> Program {
    program_with(server, client, &[]).await
}

/// Does the same, and adds these arguments to the program's.
pub(crate) async fn program_with(server: &ControlPlane, client: &Client, more: &[&str]) -> Program {
    let kubeconfig = account(server, client, "targetgate").await;
    // No process listens on this address.
    let elb = "http://127.0.0.1:9".to_owned();
    let name = format!("--tls-names={HOST}");
    let binary = Path::new(env!("CARGO_BIN_EXE_targetgate"));
    let arguments = [&[OWN_CERTIFICATE, &name], more].concat();
    Program::new(binary, NAMESPACE, kubeconfig, elb, &arguments).unwrap()
}

/// A kubeconfig of a ServiceAccount of the release.
pub(crate) async fn account(server: &ControlPlane, client: &Client, name: &str) -> PathBuf {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    let wanted: TokenRequest =
        serde_json::from_value(json!({ "spec": { "audiences": [] } })).unwrap();
    let params = PostParams::default();
    let issued = accounts.create_token_request(name, &params, &wanted).await;
    let token = issued.unwrap().status.unwrap().token;
    server.kubeconfig_for(name, &token).unwrap()
}

/// Stands in for the kubelet and kubectl of the pod of `helm test`: creates the object in the pod's arguments,
/// as the pod's account.
async fn run_test_pod(server: &ControlPlane, client: &Client) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let name = "targetgate-test";
    let pod = until("the test's pod", async || pods.get_opt(name).await.unwrap()).await;
    let arguments = pod.spec.unwrap().containers.remove(0).args.unwrap();
    let value = |flag: &str| arguments.iter().find_map(|a| a.strip_prefix(flag)).unwrap();
    let mut wanted: Value = serde_json::from_str(value("--overrides=")).unwrap();
    wanted["metadata"]["name"] = json!(name);
    assert_eq!(wanted["metadata"]["labels"][INJECT_LABEL], INJECT_ENABLED);

    let kubeconfig = Kubeconfig::read_from(account(server, client, name).await).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let as_account = Client::try_from(config.unwrap()).unwrap();
    let params = PostParams {
        dry_run: value("--dry-run=") == "server",
        ..PostParams::default()
    };
    let elsewhere: Api<Pod> = Api::namespaced(as_account, value("--namespace="));
    let wanted = serde_json::from_value(wanted).unwrap();
    elsewhere.create(&params, &wanted).await.unwrap();
    let done = Patch::Merge(json!({ "status": { "phase": "Succeeded" } }));
    pods.patch_status(name, &PatchParams::default(), &done)
        .await
        .unwrap();
}

fn configuration(kind: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": { "name": "targetgate" },
    })
}

/// The bundles of a configuration, by the names of the webhooks.
fn bundles(configuration: &DynamicObject) -> BTreeMap<String, String> {
    let webhooks = configuration.data["webhooks"].as_array().unwrap();
    let bundle = |webhook: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (
            text(&webhook["name"]),
            text(&webhook["clientConfig"]["caBundle"]),
        )
    };
    webhooks.iter().map(bundle).collect()
}

/// The names of the webhooks of both configurations, once each of them has a bundle.
pub(crate) async fn trusted(client: &Client) -> Vec<String> {
    let mut names = Vec::new();
    for kind in HOOKS {
        let configuration = configuration(kind);
        let hooks = api(client, &configuration);
        let bundles = until("every hook has its bundle", async || {
            let bundles = bundles(&hooks.get("targetgate").await.unwrap());
            bundles
                .values()
                .all(|bundle| !bundle.is_empty())
                .then_some(bundles)
        })
        .await;
        names.extend(bundles.into_keys());
    }
    names
}

/// The present resource version of a kind.
async fn version(client: &Client, kind: &str) -> String {
    let listed = api(client, &configuration(kind))
        .list(&ListParams::default())
        .await;
    listed.unwrap().metadata.resource_version.unwrap()
}

/// The versions of a configuration since a resource version.
async fn history(client: &Client, kind: &str, since: &str) -> Vec<DynamicObject> {
    let params = WatchParams::default()
        .fields("metadata.name=targetgate")
        .disable_bookmarks()
        .timeout(2);
    let events = api(client, &configuration(kind))
        .watch(&params, since)
        .await;
    let events: Vec<_> = events.unwrap().try_collect().await.unwrap();
    let seen = events.into_iter().map(|event| match event {
        WatchEvent::Modified(object) => object,
        other => panic!("{kind} was not changed in place: {other:?}"),
    });
    seen.collect()
}

/// All objects in the cluster that are ours by label or by name, except Events, which expire after an hour.
pub(crate) async fn left(client: &Client) -> kube::Result<Vec<String>> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let kinds = discovery
        .groups()
        .flat_map(|group| group.recommended_resources());
    let kinds = kinds.filter(|(_, able)| able.supports_operation("list"));
    let listed = futures::stream::iter(kinds).map(|(kind, _)| async move {
        let objects: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let objects = objects.list_metadata(&ListParams::default()).await?.items;
        let ours = objects.into_iter().filter(|object| {
            let labelled = object.labels().get("app.kubernetes.io/name");
            labelled.is_some_and(|name| name == "targetgate")
                || object.name_any().starts_with("targetgate") && kind.kind != "Namespace"
                || object.name_any().starts_with("sh.helm.release")
        });
        let named = |object: kube::core::PartialObjectMeta<_>| {
            format!("{} {}", kind.kind, object.name_any())
        };
        Ok::<_, kube::Error>(ours.map(named).collect::<Vec<_>>())
    });
    let listed: Vec<Vec<String>> = listed.buffer_unordered(8).try_collect().await?;
    let ours = listed.into_iter().flatten();
    Ok(ours
        .filter(|object| !object.starts_with("Event "))
        .collect())
}

pub(crate) async fn until_nothing_is_left(client: &Client) {
    until("nothing is left", async || {
        // Discovery may fail while a CRD is added or deleted.
        left(client).await.ok()?.is_empty().then_some(())
    })
    .await;
}

/// Points the hooks of the chart at a port of this machine instead of a Service of the cluster.
pub(crate) fn redirect_hooks(checkout: &Checkout, port: u16) {
    let service = "  service:
    name: targetgate
    namespace: {{ (first .).Release.Namespace }}
    path: {{ index . 1 }}";
    let url = format!("  url: https://{HOST}:{port}{{{{ index . 1 }}}}");
    checkout.replace("templates/_helpers.tpl", service, &url);
}

/// Runs `helm test`, and the pod for which it waits.
async fn test_release(server: &'static ControlPlane, client: &Client, typed: String) {
    let testing = tokio::task::spawn_blocking(move || {
        let anywhere = Path::new(env!("CARGO_MANIFEST_DIR"));
        Helm::new().typed(server, anywhere, &typed)
    });
    run_test_pod(server, client).await;
    let tested = testing.await.unwrap().unwrap();
    assert!(tested.contains("Succeeded"), "{tested}");
}

/// Fails unless each version of the hooks since then has all webhooks of `installed`, with their bundles.
async fn were_kept(client: &Client, since: &[String], installed: &[String]) {
    for (kind, since) in HOOKS.iter().zip(since) {
        let seen = history(client, kind, since).await;
        assert!(
            seen.len() >= 2,
            "{kind} was upgraded and rolled back: {seen:?}"
        );
        for configuration in seen {
            let bundles = bundles(&configuration);
            let kept = installed
                .iter()
                .filter(|name| bundles.get(*name).is_some_and(|b| !b.is_empty()));
            let of_kind = match *kind {
                "MutatingWebhookConfiguration" => 2,
                _ => 1,
            };
            assert_eq!(kept.count(), of_kind, "{bundles:?}");
        }
    }
}

/// Upgrades to another version of the chart with other values, and rolls back. Each pod that is created
/// meanwhile gets its gate.
async fn upgrade_and_roll_back(
    client: &Client,
    helm: &Helm,
    checkout: &Checkout,
    run: impl Fn(&[&str]) -> String,
    mut creation: Creation,
) {
    let before = trusted(client).await;
    creation.goes_on(SOME).await;
    checkout.replace("Chart.yaml", "\nversion: 0.1.0", "\nversion: 0.2.0");
    let values = helm.values(&json!({
        "optIn": "either",
        "hooks": { "pods": { "timeoutSeconds": 29 }, "bindings": { "timeoutSeconds": 9 } },
        "labels": { "team": "web" },
        "podAnnotations": { "restarted": "once" },
    }));
    let chart = checkout.chart();
    let upgrade = ["upgrade", "targetgate", chart.to_str().unwrap()];
    run(&[&upgrade[..], &["--values", &values]].concat());
    assert_eq!(trusted(client).await.len(), before.len() + 1);
    creation.goes_on(SOME).await;
    run(&["rollback", "targetgate", "1"]);
    creation.goes_on(SOME).await;
    println!(
        "upgraded and rolled back while {} pods were created",
        creation.count()
    );
}

// A second thread creates pods while a command of helm blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_answer_from_install_to_uninstall_and_then_nothing_is_left() {
    let _turn = TURN.lock().await;
    let server = control_plane().await;
    let client = server.client().await.unwrap();
    let (helm, checkout) = (Helm::new(), Checkout::new());
    let balancer = Balancer::new().await;
    redirect_hooks(&checkout, balancer.address.port());
    let typed = |command: &str| {
        let printed = helm.typed(server, checkout.path(), command);
        printed.unwrap_or_else(|error| panic!("{command}: {error}"))
    };
    // The pods of another test are deleted after its release.
    until_nothing_is_left(&client).await;
    let [install, restrict, test, crd] =
        &commands(&section("deploy/chart/README.md", "# The chart"))[..]
    else {
        panic!("the README of the chart has other commands");
    };
    typed(crd);
    bound_namespace(&client).await;
    for command in commands(&section("README.md", "## Use")) {
        typed(&command);
    }

    // The test is about whether a review is answered, not how fast a busy machine does it.
    typed(&format!("{install} --set hooks.pods.timeoutSeconds=30"));
    typed(restrict);
    let program = program(server, &client).await;
    let replica = program.start("targetgate-0").await.unwrap();
    balancer.add(replica.hooks);
    let installed = trusted(&client).await;
    replica.ready().await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let secret = secrets.get("targetgate-tls").await.unwrap();
    assert_eq!(secret.owner_references()[0].kind, "Deployment");
    test_release(server, &client, test.clone()).await;

    let mut since = Vec::new();
    for kind in HOOKS {
        since.push(version(&client, kind).await);
    }
    let creation = steady::create(&client).await;
    let run = |arguments: &[&str]| helm.on(server, arguments).unwrap();
    upgrade_and_roll_back(&client, &helm, &checkout, run, creation).await;
    assert_eq!(trusted(&client).await, installed);
    were_kept(&client, &since, &installed).await;

    run(&["uninstall", "targetgate"]);
    drop(replica);
    until_nothing_is_left(&client).await;
}

pub(crate) async fn until_absent(objects: &Api<DynamicObject>, name: &str) {
    until("the object is gone", async || {
        let found = objects.get_opt(name).await.ok()?;
        found.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_existing_crd_is_left_unchanged_and_a_missing_one_is_created_and_kept() {
    let _turn = TURN.lock().await;
    let server = control_plane().await;
    let client = server.client().await.unwrap();
    restricted_namespace(&client).await;
    let helm = Helm::new();
    let run = |arguments: &[&str]| {
        helm.on(server, arguments)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let mut crd: Value = serde_saphyr::from_str(&targetgate_core::binding::spec::yaml()).unwrap();
    let crds = api(&client, &crd);
    let name = "targetgroupbindings.elbv2.k8s.aws";
    let install = ["install", "targetgate", chart().to_str().unwrap()].map(str::to_owned);
    let install: Vec<&str> = install.iter().map(String::as_str).collect();

    // The other test may have left a CRD.
    if crds.get_opt(name).await.unwrap().is_some() {
        crds.delete(name, &Default::default()).await.unwrap();
        until_absent(&crds, name).await;
    }
    let skipping = run(&[&install[..], &["--skip-crds"]].concat());
    let (_, applies) = skipping.split_once("apply the CRD:").unwrap();
    run(&["uninstall", "targetgate"]);
    let applies = applies
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap();
    let folder = chart();
    helm.typed(server, &folder, &applies.replace("CHART", "."))
        .unwrap();
    until("the CRD is served", async || {
        crds.get(name).await.ok()?.data["status"]["acceptedNames"]["kind"]
            .as_str()
            .map(|_| ())
    })
    .await;
    crds.delete(name, &Default::default()).await.unwrap();
    until_absent(&crds, name).await;

    let noted = run(&install);
    assert!(
        noted.contains("stays when this release is uninstalled"),
        "{noted}"
    );
    let made = crds.get(name).await.unwrap();
    run(&["uninstall", "targetgate"]);
    assert_eq!(crds.get(name).await.unwrap().uid(), made.uid());

    crd["metadata"]["labels"] = json!({ "of": "the-incumbent" });
    apply(&client, &crd, false).await.unwrap();
    let before = crds.get(name).await.unwrap();
    run(&install);
    run(&["upgrade", "targetgate", chart().to_str().unwrap()]);
    run(&["uninstall", "targetgate"]);
    let after = crds.get(name).await.unwrap();
    assert_eq!(after.data["spec"], before.data["spec"]);
    assert_eq!(
        (after.labels(), after.uid()),
        (before.labels(), before.uid())
    );
}
