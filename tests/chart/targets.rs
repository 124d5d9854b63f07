//! Registration of targets as the chart installs it: only where it is asked for, and records outlive it.

use std::path::Path;
use std::thread;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_sandbox::harness::Program;
use targetgate_sandbox::harness::waiting::until;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::compromise::thief;
use crate::helm::{Helm, NAMESPACE};
use crate::lifecycle::{account, left};
use crate::reader::{INSTALL, Reader};
use crate::server::{api, apply};
use crate::steady;

const UPGRADE: &str = "helm upgrade targetgate deploy/chart --namespace targetgate-system";
const UNINSTALL: &str = "helm uninstall targetgate --namespace targetgate-system";
/// A finalizer of another controller.
const OTHER: &str = "example.com/other";
const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";

#[test]
fn nothing_of_it_is_rendered_unless_it_is_asked_for() {
    for object in Helm::new().template(&json!({})) {
        let text = object.to_string();
        for word in ["targetrecords", "endpointslices", "REGISTER", "incumbent"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
}

/// `helm upgrade --reuse-values` keeps the values of the older chart.
#[test]
fn values_of_a_chart_that_did_not_know_it_ask_for_none() {
    let objects = Helm::new().template(&json!({ "targets": null }));
    assert!(
        objects
            .iter()
            .all(|object| object["kind"] != "CustomResourceDefinition")
    );
}

fn records(reader: &Reader) -> Api<DynamicObject> {
    let record = json!({ "apiVersion": "targetgate.dev/v1", "kind": "TargetRecord",
        "metadata": { "namespace": NAMESPACE } });
    api(&reader.client, &record)
}

/// Stands in for the kubelet of the hook's Job: runs the pod's very command, with the token of its account, and reports
/// how it ended. The Job is the Job controller's, and Helm waits for it.
async fn run_job(reader: &Reader) -> String {
    let pods: Api<Pod> = Api::namespaced(reader.client.clone(), NAMESPACE);
    let of_job = ListParams::default().labels("batch.kubernetes.io/job-name=targetgate-release");
    let pod = until("the pod of the Job", async || {
        pods.list(&of_job).await.unwrap().items.pop()
    })
    .await;
    let labels = pod.labels();
    assert!(!labels.contains_key("app.kubernetes.io/name"), "{labels:?}");
    let name = pod.name_any();
    let spec = pod.spec.unwrap();
    let container = &spec.containers[0];
    let name_of_account = spec.service_account_name.as_deref().unwrap();
    let kubeconfig = account(&reader.server, &reader.client, name_of_account).await;
    let variables = container
        .env
        .iter()
        .flatten()
        .map(|variable| &*variable.name);
    assert_eq!(variables.collect::<Vec<_>>(), ["POD_NAMESPACE"]);
    let ran = tokio::process::Command::new(env!("CARGO_BIN_EXE_targetgate"))
        .args(container.args.iter().flatten())
        .env_clear()
        .env("POD_NAMESPACE", NAMESPACE)
        .env("TARGETGATE_KUBECONFIG", kubeconfig)
        .output();
    let ran = ran.await.unwrap();
    let phase = if ran.status.success() {
        "Succeeded"
    } else {
        "Failed"
    };
    let ended = json!({ "name": "targetgate", "image": "targetgate", "imageID": "", "ready": false,
        "restartCount": 0, "state": { "terminated": { "exitCode": ran.status.code().unwrap() } } });
    let ended = Patch::Merge(json!({ "status": { "phase": phase, "containerStatuses": [ended] } }));
    let params = PatchParams::default();
    pods.patch_status(&name, &params, &ended).await.unwrap();
    let log = [ran.stdout, ran.stderr].concat();
    String::from_utf8(log).unwrap()
}

/// Types `helm uninstall`, and runs the pod of its hook. Returns the pod's log.
fn uninstall(reader: &Reader) -> String {
    thread::scope(|scope| {
        let typed = scope.spawn(|| reader.types(UNINSTALL));
        let log = block_in_place(|| Handle::current().block_on(run_job(reader)));
        typed.join().unwrap();
        log
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_and_their_namespaces_can_be_deleted_after_an_uninstall_beside_a_living_registrar()
{
    let reader = Reader::new().await;
    reader.types(&format!("{INSTALL} --set targets.register=all"));
    // The hooks of bindings have no Service behind them here.
    reader.types(
        "kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration targetgate",
    );
    let namespaces = ["shop", "blog", "mail"];
    for namespace in namespaces {
        reader.types(&format!("kubectl create namespace {namespace}"));
        apply(&reader.client, &bound(namespace), false)
            .await
            .unwrap();
    }
    let kubeconfig = account(&reader.server, &reader.client, "targetgate").await;
    let binary = Path::new(env!("CARGO_BIN_EXE_targetgate"));
    // No process listens on this address.
    let elb = "http://127.0.0.1:9".to_owned();
    let program = Program::new(binary, NAMESPACE, kubeconfig, elb, &["--register=all"]).unwrap();
    let mut registrar = program.start("targetgate-0").await.unwrap();
    let finalizers = async |namespace: &str| {
        let bindings = api(&reader.client, &bound(namespace));
        let binding = bindings.get("web").await.unwrap();
        binding.metadata.finalizers.unwrap_or_default()
    };
    for namespace in namespaces {
        until("the registrar holds it", async || {
            let both = finalizers(namespace).await;
            (both == [OTHER, "targetgate.dev/targets"]).then_some(())
        })
        .await;
    }
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": NAMESPACE } });
    let deployment = api(&reader.client, &deployment).get("targetgate").await;
    let uid = deployment.unwrap().uid().unwrap();

    let log = uninstall(&reader);
    assert!(log.contains("bindings released: 3"), "{log}");
    assert!(
        registrar.try_ended().unwrap().is_none(),
        "it lived throughout the hook"
    );
    let kept = records(&reader).list(&ListParams::default()).await.unwrap();
    let marks = kept
        .items
        .iter()
        .map(|record| &record.data["spec"]["releasedBy"]);
    assert_eq!(marks.collect::<Vec<_>>(), [&json!(uid); 3]);
    until("nothing of the hook is left", async || {
        let mut left = left(&reader.client).await.ok()?;
        left.retain(|object| object.contains("targetgate-release"));
        left.is_empty().then_some(())
    })
    .await;

    // What another controller keeps is that controller's.
    for namespace in namespaces {
        assert_eq!(finalizers(namespace).await, [OTHER]);
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        let bindings = api(&reader.client, &bound(namespace));
        let params = PatchParams::default();
        bindings.patch("web", &params, &free).await.unwrap();
    }
    let since = Instant::now();
    reader.types("kubectl delete namespace shop blog mail --timeout=60s");
    println!("namespaces gone after {:?}", since.elapsed());
}

/// A binding that another controller holds as well.
fn bound(namespace: &str) -> Value {
    json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": "web", "namespace": namespace, "finalizers": [OTHER] },
        "spec": { "serviceRef": { "name": "web", "port": 80 },
            "targetGroupARN": ARN.replace("/web/", &format!("/{namespace}/")),
            "targetType": "ip" },
    })
}

#[test]
fn the_hook_of_an_uninstall_cannot_fail_it_and_its_rights_do_not_outlive_it() {
    let is_of_hook =
        |object: &Value| object["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete";
    let render = |register: &str| {
        let values = json!({ "targets": { "register": register }, "labels": { "team": "web" } });
        let mut objects = Helm::new().template(&values);
        objects.retain(is_of_hook);
        objects
    };
    assert_eq!(render("none"), [] as [Value; 0]);
    for object in render("annotated").iter().chain(&render("all")) {
        let annotations = &object["metadata"]["annotations"];
        let deleted = annotations["helm.sh/hook-delete-policy"].as_str().unwrap();
        assert!(deleted.contains("hook-succeeded"), "{object}");
        let is_job = object["kind"] == "Job";
        assert_eq!(deleted.contains("hook-failed"), !is_job, "{object}");
        assert_eq!(
            annotations["helm.sh/hook-weight"],
            if is_job { "1" } else { "0" }
        );
        if is_job {
            let spec = &object["spec"];
            assert_eq!(
                (&spec["backoffLimit"], &spec["activeDeadlineSeconds"]),
                (&json!(0), &json!(120))
            );
            let args = &spec["template"]["spec"]["containers"][0]["args"];
            assert_eq!(
                *args,
                json!(["release", "--all", "--best-effort", "--timeout=60s"])
            );
        }
    }
    assert_eq!(render("all").len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_outlive_none_and_an_uninstall_and_are_found_again() {
    let reader = Reader::new().await;
    reader.types(&format!("{INSTALL} --set targets.register=annotated"));
    let record: Value = json!({ "apiVersion": "targetgate.dev/v1", "kind": "TargetRecord",
        "metadata": { "name": "uid-web" },
        "spec": { "binding": { "namespace": "shop", "name": "web" }, "targetGroupARN": ARN },
        "status": { "count": 1, "targets": ["10.0.0.1:8080"] } });
    let made = until("records are served", async || {
        let record = serde_json::from_value(record.clone()).unwrap();
        let params = PostParams::default();
        records(&reader).create(&params, &record).await.ok()
    })
    .await;
    let shown = reader.types("kubectl -n targetgate-system get targetrecords");
    let columns: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(
        columns[..5],
        ["NAME", "BINDING-NAMESPACE", "BINDING", "TARGETS", "AGE"]
    );
    assert_eq!(columns[5..9], ["uid-web", "shop", "web", "1"]);
    for command in [
        format!("{UPGRADE} --set targets.register=none"),
        format!("{UPGRADE} --set targets.register=all"),
        UNINSTALL.to_owned(),
        format!("{INSTALL} --set targets.register=annotated"),
    ] {
        match command == UNINSTALL {
            true => drop(uninstall(&reader)),
            false => drop(reader.types(&command)),
        }
        let found = records(&reader).get("uid-web").await;
        assert_eq!(found.unwrap().uid(), made.uid(), "{command}");
    }
}

#[tokio::test]
async fn a_thief_of_its_token_changes_no_binding_but_its_finalizers() {
    let reader = Reader::new().await;
    reader.types(&format!("{INSTALL} --set targets.register=annotated"));
    // The hooks of bindings have no process behind them here.
    reader.types(
        "kubectl delete validatingwebhookconfiguration,mutatingwebhookconfiguration targetgate",
    );
    reader.types("kubectl create namespace shop");
    let binding = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": "web", "namespace": steady::NAMESPACE,
            "finalizers": ["elbv2.k8s.aws/resources", "example.com/other"] },
        "spec": { "serviceRef": { "name": "web", "port": 80 }, "targetGroupARN": ARN,
            "targetType": "ip" },
    });
    apply(&reader.client, &binding, false).await.unwrap();
    let stolen = thief(&reader).await;
    let bindings: Api<DynamicObject> = api(&stolen, &binding);
    let patch = async |patch: Value, dry_run: bool| {
        let params = PatchParams {
            dry_run,
            ..PatchParams::default()
        };
        let patched = bindings.patch("web", &params, &Patch::Merge(patch)).await;
        patched.err().map(|error| error.to_string())
    };
    let held = |finalizers: &[&str]| json!({ "metadata": { "finalizers": finalizers } });
    let moved = json!({ "spec": { "targetGroupARN": ARN.replace("web", "mine") } });
    until("the policies are in force", async || {
        patch(moved.clone(), true).await
    })
    .await;
    for bad in [
        moved,
        json!({ "metadata": { "annotations": { "targetgate.dev/register": "true" } } }),
        json!({ "metadata": { "labels": { "a": "b" } } }),
        held(&["elbv2.k8s.aws/resources"]),
        held(&[
            "elbv2.k8s.aws/resources",
            "example.com/other",
            "example.com/mine",
        ]),
    ] {
        let refused = patch(bad.clone(), true).await;
        let refused = refused.unwrap_or_else(|| panic!("{bad} is allowed"));
        assert!(
            refused.contains("ValidatingAdmissionPolicy 'targetgate-targets'"),
            "{refused}"
        );
    }
    for good in [
        held(&[
            "elbv2.k8s.aws/resources",
            "example.com/other",
            "targetgate.dev/targets",
        ]),
        held(&["example.com/other", "targetgate.dev/targets"]),
        held(&["example.com/other"]),
    ] {
        assert_eq!(patch(good.clone(), false).await, None, "{good}");
    }
    let refused = patch(
        held(&["example.com/other", "elbv2.k8s.aws/resources"]),
        true,
    )
    .await;
    assert!(refused.is_some(), "it puts the incumbent's finalizer on");
}
