//! Registration of targets as the chart installs it: only where it is asked for, and records outlive it.

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;

use crate::compromise::thief;
use crate::helm::{Helm, NAMESPACE};
use crate::reader::{INSTALL, Reader};
use crate::server::{api, apply};
use crate::steady;

const UPGRADE: &str = "helm upgrade targetgate deploy/chart --namespace targetgate-system";
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

#[tokio::test]
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
        "helm uninstall targetgate --namespace targetgate-system".to_owned(),
        format!("{INSTALL} --set targets.register=annotated"),
    ] {
        reader.types(&command);
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
