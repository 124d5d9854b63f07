//! Makes faults of an installation, one after the other, and reads what the binary's `doctor` says (contract 10).

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use targetgate_sandbox::elb::TargetGroupSpec;
use targetgate_sandbox::harness::waiting::until;
use tokio::process::Command;

use crate::explain::scene::Scene;
use crate::explain::schema;
use crate::install::{Installed, apply};
use crate::servers::{Server, resource};

mod answers;
mod ends;
mod faults;
mod naming;
mod policies;

/// The deadline of an answer. Chosen, far above what an API server takes.
const DEADLINE: Duration = Duration::from_secs(60);
const REGISTRATION: &str = "admissionregistration.k8s.io";
const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

/// What the binary printed.
struct Said {
    status: i32,
    json: Value,
}

impl Said {
    /// The check, the subject and the reason of each finding of this state.
    fn of(&self, state: &str) -> Vec<(&str, &str, &str)> {
        let findings = self.json["findings"].as_array().unwrap().iter();
        let of_state = findings.filter(|finding| finding["state"] == state);
        of_state
            .map(|finding| {
                let word = |place: &str| finding.pointer(place).unwrap().as_str().unwrap();
                (word("/check"), word("/about"), word("/why/reason"))
            })
            .collect()
    }

    fn broken(&self) -> Vec<(&str, &str, &str)> {
        self.of("Broken")
    }
}

/// Diagnoses with the rights of an administrator, and holds the output to the schema.
async fn doctor(installed: &Installed, words: &[&str]) -> Said {
    let admin = installed.cluster.control_plane().kubeconfig();
    let words = [words, &["-o", "json"]].concat();
    let output = command(installed, &words, admin).output().await.unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap();
    schema::hold_to(include_str!("../../../docs/doctor.schema.json"), &json);
    Said {
        status: output.status.code().unwrap(),
        json,
    }
}

/// Diagnoses until just these hops are broken: an API server takes a moment to read its configurations anew.
async fn finds(installed: &Installed, words: &[&str], expected: &[(&str, &str, &str)]) -> Said {
    let begun = Instant::now();
    loop {
        let said = doctor(installed, words).await;
        if said.broken() == expected {
            return said;
        }
        let json = &said.json;
        assert!(begun.elapsed() < DEADLINE, "not {expected:?}, but {json:#}");
    }
}

fn command(installed: &Installed, words: &[&str], kubeconfig: &Path) -> Command {
    let mut command = Command::from(installed.program.tool());
    command.arg("doctor").args(words);
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        // No process listens on this address: whose credentials they are is not known.
        .env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
        .stdin(Stdio::null());
    command.kill_on_drop(true);
    command
}

/// An installation with a namespace that has opted in, and that has a binding and its Service.
async fn installed() -> Installed {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let installed = Installed::on(cluster, &[]).await;
    let scene = Scene::of(&installed, &installed.cluster.namespace);
    scene.service(json!({})).await;
    scene.bind(json!({})).await;
    installed
}

fn configurations(installed: &Installed, kind: &str) -> Api<DynamicObject> {
    let client = installed.cluster.client.clone();
    Api::all_with(client, &resource(REGISTRATION, "v1", kind))
}

#[tokio::test]
async fn each_fault_of_an_installation_is_named_where_it_is() {
    let installed = installed().await;
    let home = installed.cluster.namespace.clone();
    until("each hop is sound", async || {
        let said = doctor(&installed, &[]).await;
        (said.status == 0).then_some(())
    })
    .await;

    let empty = Scene::new(&installed, "empty").await.namespace;
    let said = doctor(&installed, &[]).await;
    let about = format!("namespace {empty}");
    assert_eq!(said.broken(), [("Namespace", &*about, "NoBinding")]);
    assert_eq!(said.status, 1);
    let label = json!({ "elbv2.k8s.aws/pod-readiness-gate-inject": null });
    Scene::of(&installed, &empty).label(label).await;

    a_group_is_gone(&installed).await;
    a_bundle_is_broken(&installed, &home).await;
    a_configuration_is_missing(&installed).await;
    two_bindings_share_a_group(&installed, &home).await;
    the_service_has_no_endpoints(&installed).await;
}

/// Takes the group of a second binding away.
async fn a_group_is_gone(installed: &Installed) {
    let scene = Scene::new(installed, "gone").await;
    let spec = TargetGroupSpec::http(scene.group());
    let arn = installed.elb.create_target_group(spec);
    scene.service(json!({})).await;
    scene.bind_to(&arn, json!({})).await;
    installed.elb.remove_target_group(&arn).unwrap();
    let said = doctor(installed, &[]).await;
    assert_eq!(said.broken(), [("Group", &*arn, "TargetGroupNotFound")]);
    let without = doctor(installed, &["--no-aws"]).await;
    assert_eq!(without.status, 0, "{:#}", without.json);
    let (bindings, params) = (scene.bindings(), DeleteParams::default());
    bindings.delete("web", &params).await.unwrap();
    let label = json!({ "elbv2.k8s.aws/pod-readiness-gate-inject": null });
    scene.label(label).await;
}

/// Writes the CA of another into the bundles, and mends them.
async fn a_bundle_is_broken(installed: &Installed, home: &str) {
    const PODS: &str = "mpod.elbv2.k8s.aws";
    const RULES: &str = "vtargetgroupbinding.elbv2.k8s.aws";
    let kinds = [(MUTATING, PODS), (VALIDATING, RULES)];
    for (kind, webhook) in kinds {
        let webhook = json!({ "name": webhook, "clientConfig": { "caBundle": "" } });
        let patch = Patch::Strategic(json!({ "webhooks": [webhook] }));
        let (api, params) = (configurations(installed, kind), PatchParams::default());
        api.patch("targetgate", &params, &patch).await.unwrap();
    }
    let expected = [
        ("Trust", PODS, "BundleEmpty"),
        ("Trust", RULES, "BundleEmpty"),
        ("PodTrial", PODS, "HookNotReached"),
        ("BindingTrial", RULES, "HookNotReached"),
    ];
    let said = finds(installed, &["-n", home], &expected).await;
    let text = said.json.to_string();
    assert!(text.contains("BundleEmpty of mpod.elbv2.k8s.aws"), "{text}");
    assert!(
        text.contains("x509: certificate signed by unknown"),
        "{text}"
    );
}

/// Deletes the validating configuration.
async fn a_configuration_is_missing(installed: &Installed) {
    let hooks = installed.process().hooks;
    installed.register_hooks(hooks, json!({})).await;
    let api = configurations(installed, VALIDATING);
    let deleted = api.delete("targetgate", &DeleteParams::default()).await;
    deleted.unwrap();
    let rules = "vtargetgroupbinding.elbv2.k8s.aws";
    let expected = [
        ("Hook", rules, "HookNotRegistered"),
        ("BindingTrial", rules, "HookNotReached"),
    ];
    finds(installed, &[], &expected).await;
}

/// Creates a second binding of the group, which no hook checks.
async fn two_bindings_share_a_group(installed: &Installed, home: &str) {
    let scene = Scene::of(installed, home);
    let first = scene.bindings().get("web").await.unwrap();
    let arn = first.data["spec"]["targetGroupARN"].as_str().unwrap();
    let second = json!({ "metadata": { "name": "second" } });
    scene.bind_to(arn, second).await;
    let said = doctor(installed, &[]).await;
    let about = format!("targetgroupbinding.elbv2.k8s.aws {home}/second");
    let shared = ("Binding", &*about, "OlderBinding");
    assert!(said.broken().contains(&shared), "{:#}", said.json);
}

/// Registers the hooks as shipped, at a Service, which has no endpoints in this cluster.
async fn the_service_has_no_endpoints(installed: &Installed) {
    let shipped = installed.shipped.iter();
    for object in shipped.filter(|object| {
        [MUTATING, VALIDATING]
            .map(Some)
            .contains(&object["kind"].as_str())
    }) {
        apply(&installed.cluster.client, object).await;
    }
    let said = doctor(installed, &[]).await;
    let service = (
        "Service",
        "targetgate-system/targetgate",
        "HookServiceEmpty",
    );
    assert!(said.broken().contains(&service), "{:#}", said.json);
}

#[tokio::test]
async fn what_an_account_may_not_read_is_not_known() {
    let installed = Installed::new().await;
    let output = command(&installed, &["--no-aws"], &installed.program.kubeconfig).output();
    let output = output.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let unknown = "? Crd targetgroupbindings.elbv2.k8s.aws: NotKnown";
    assert!(text.contains(unknown), "{text}");
    assert!(text.contains("forbidden"), "{text}");
    assert_ne!(output.status.code(), Some(0));
}

#[tokio::test]
async fn an_api_server_out_of_reach_is_not_known() {
    let installed = Installed::new().await;
    let absent = Path::new("/nonexistent/kubeconfig");
    let output = command(&installed, &[], absent).output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("--kubeconfig: cannot read"), "{errors}");
}
