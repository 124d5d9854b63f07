//! The commands of README.md for an outage of targetgate, and for uninstalling it, on a cluster in that state.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;

use crate::documented::{commands, section, the};
use crate::helm::NAMESPACE;
use crate::lifecycle::left;
use crate::reader::{CRD, INSTALL, Reader};
use crate::server::apply;
use crate::steady;

const GATE: &str = "target-health.elbv2.k8s.aws/web";

fn down() -> Vec<String> {
    commands(&section("README.md", "## When targetgate is down"))
}

fn install() -> Vec<String> {
    commands(&section("README.md", "## Install"))
}

fn uninstall() -> Vec<String> {
    commands(&section("README.md", "## Uninstall"))
}

fn binding(name: &str) -> Value {
    json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": name, "namespace": steady::NAMESPACE },
        "spec": {
            "serviceRef": { "name": "web", "port": 80 },
            "targetGroupARN": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef",
            "targetType": "ip",
        },
    })
}

impl Reader {
    /// Creates the namespace of README.md, and waits until bindings are served.
    async fn has_a_shop(&self) {
        self.types("kubectl create namespace shop");
        until("bindings are served", async || {
            let listed = self.bindings().list(&Default::default()).await;
            listed.ok().map(drop)
        })
        .await;
    }

    /// Creates a binding, and changes it.
    async fn writes(&self, name: &str) -> kube::Result<DynamicObject> {
        let binding = binding(name);
        let created = serde_json::from_value(binding).unwrap();
        let bindings = self.bindings();
        bindings.create(&PostParams::default(), &created).await?;
        let other = json!({ "spec": { "serviceRef": { "port": 81 } } });
        let params = PatchParams::default();
        bindings.patch(name, &params, &Patch::Merge(other)).await
    }

    /// Waits until the registered hooks deny a binding, because the API server takes up configurations after a
    /// while.
    async fn is_denied(&self) {
        let words = "failed calling webhook";
        assert!(section("README.md", "## When targetgate is down").contains(words));
        until("a write is denied", async || {
            let created = serde_json::from_value(binding("denied")).unwrap();
            let params = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let refused = self.bindings().create(&params, &created).await.err()?;
            assert!(refused.to_string().contains(words), "{refused}");
            Some(())
        })
        .await;
    }

    /// Waits until a binding of this name can be created and changed.
    async fn is_heard(&self, name: &str) {
        until("a write passes", async || self.writes(name).await.ok()).await;
    }
}

#[tokio::test]
async fn bindings_are_written_again_until_the_hooks_are_put_back() {
    let reader = Reader::new().await;
    let (down, install) = (down(), install());
    reader.types(the(&install, "kubectl create"));
    reader.has_a_shop().await;
    let applies = the(&install, "kubectl apply -k");
    reader.types(applies);
    reader.is_denied().await;

    reader.types(the(&down, "kubectl patch mutatingwebhookconfiguration"));
    // Each of the two hooks denies the binding by itself.
    reader.is_denied().await;
    reader.types(the(&down, "kubectl patch validatingwebhookconfiguration"));
    reader.is_heard("unchecked").await;
    reader.types(applies);
    reader.is_denied().await;
    reader.types(the(&down, "kubectl delete mutatingwebhookconfiguration,"));
    reader.is_heard("unasked").await;
    reader.types(applies);
    reader.is_denied().await;

    reader.types(the(&uninstall(), "kubectl delete -k"));
    until_nothing_but_the_bindings_is_left(&reader).await;
    let namespaces = reader.types("kubectl get namespaces --output name");
    assert!(!namespaces.contains(NAMESPACE), "{namespaces}");
}

#[tokio::test]
async fn the_chart_puts_the_hooks_back_and_leaves_the_bindings_when_it_goes() {
    let reader = Reader::new().await;
    let (down, install) = (down(), install());
    reader.types(the(&install, "helm install"));
    reader.has_a_shop().await;
    reader.is_denied().await;
    reader.types(the(&down, "kubectl patch mutatingwebhookconfiguration"));
    reader.types(the(&down, "kubectl patch validatingwebhookconfiguration"));
    reader.is_heard("unchecked").await;
    let upgrades = "helm upgrade targetgate deploy/chart --namespace targetgate-system";
    reader.types(upgrades);
    reader.is_denied().await;
    reader.types(the(&down, "kubectl delete mutatingwebhookconfiguration,"));
    reader.is_heard("unasked").await;
    reader.types(upgrades);
    reader.is_denied().await;

    reader.types(the(&uninstall(), "helm uninstall"));
    until_nothing_but_the_bindings_is_left(&reader).await;
    let namespaces = reader.types("kubectl get namespaces --output name");
    assert!(namespaces.contains(NAMESPACE), "{namespaces}");
}

#[tokio::test]
async fn without_hooks_of_bindings_none_is_asked() {
    let reader = Reader::new().await;
    reader.types(INSTALL);
    reader.has_a_shop().await;
    reader.is_denied().await;
    let upgrades = INSTALL.replace("install targetgate", "upgrade targetgate");
    let upgrades = upgrades.replace("--create-namespace", "");
    reader.types(&format!("{upgrades} --set hooks.bindings.enabled=false"));
    reader.is_heard("unasked").await;
    let kinds = "mutatingwebhookconfigurations,validatingwebhookconfigurations";
    let left = reader.types(&format!("kubectl get {kinds} --output name"));
    let mutating = "mutatingwebhookconfiguration.admissionregistration.k8s.io/targetgate\n";
    assert_eq!(left, mutating);
    reader.types(&format!("{upgrades} --set hooks.bindings.enabled=true"));
    reader.is_denied().await;
}

async fn until_nothing_but_the_bindings_is_left(reader: &Reader) {
    until("nothing of ours is left", async || {
        left(&reader.client).await.ok()?.is_empty().then_some(())
    })
    .await;
    assert!(reader.crds().get_opt(CRD).await.unwrap().is_some());
    let bindings = reader.bindings().list(&Default::default()).await.unwrap();
    let mut names: Vec<String> = bindings.items.iter().map(|b| b.name_any()).collect();
    names.sort_unstable();
    assert_eq!(names, ["unasked", "unchecked"]);
}

/// Creates a pod that waits for its gate only, by its kubelet's report.
async fn waiting_pod(reader: &Reader) -> Api<Pod> {
    let pods: Api<Pod> = Api::namespaced(reader.client.clone(), steady::NAMESPACE);
    let pod = json!({
        "metadata": { "name": "web-0" },
        "spec": {
            "readinessGates": [{ "conditionType": GATE }],
            "containers": [{ "name": "web", "image": "web" }],
        },
    });
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let conditions = [
        ("ContainersReady", "True"),
        ("Ready", "False"),
        (GATE, "False"),
    ];
    let conditions = conditions.map(|(kind, status)| json!({ "type": kind, "status": status }));
    let told = Patch::Strategic(json!({ "status": { "conditions": conditions } }));
    pods.patch_status("web-0", &PatchParams::default(), &told)
        .await
        .unwrap();
    pods
}

fn conditions(pod: &Pod) -> Vec<(&str, &str)> {
    let conditions = pod.status.as_ref().unwrap().conditions.iter().flatten();
    let mut conditions: Vec<_> = conditions.map(|c| (&*c.type_, &*c.status)).collect();
    conditions.sort_unstable();
    conditions
}

/// The open gates of the pod, out of all, as the command prints them.
fn listed(reader: &Reader) -> String {
    let printed = reader.types(the(&down(), "kubectl get pods"));
    let (header, pod) = printed.trim_end().split_once('\n').unwrap();
    let at = header.find("READINESS GATES").unwrap();
    pod[at..].trim().to_owned()
}

#[tokio::test]
async fn a_gate_is_opened_by_hand_and_no_other_condition_is_lost() {
    let reader = Reader::new().await;
    reader.types("kubectl create namespace shop");
    let pods = waiting_pod(&reader).await;
    assert_eq!(listed(&reader), "0/1");
    reader.types(the(&down(), "kubectl patch pod"));
    let pod = pods.get("web-0").await.unwrap();
    let expected = [
        ("ContainersReady", "True"),
        ("Ready", "False"),
        (GATE, "True"),
    ];
    assert_eq!(conditions(&pod), expected);
    assert_eq!(listed(&reader), "1/1");
}

#[tokio::test]
async fn a_rollout_is_paused_resumed_and_restarted() {
    let reader = Reader::new().await;
    reader.types("kubectl create namespace shop");
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": steady::NAMESPACE },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "web" }] },
            },
        },
    });
    apply(&reader.client, &deployment, false).await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(reader.client.clone(), steady::NAMESPACE);
    let spec = async || deployments.get("web").await.unwrap().spec.unwrap();
    reader.types(the(&down(), "kubectl rollout pause"));
    assert_eq!(spec().await.paused, Some(true));
    reader.types(the(&down(), "kubectl rollout resume"));
    assert_ne!(spec().await.paused, Some(true));
    reader.types(the(&uninstall(), "kubectl rollout restart"));
    let template = spec().await.template.metadata.unwrap();
    assert!(
        template
            .annotations
            .unwrap()
            .contains_key("kubectl.kubernetes.io/restartedAt")
    );
}
