//! A namespace with one fault in it, and the binary that explains it.

use std::path::Path;
use std::process::{Output, Stdio};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_core::names::{BindingApi, INJECT_ENABLED, INJECT_LABEL};
use targetgate_sandbox::harness::waiting::until;
use tokio::process::Command;

use crate::explain::schema;
use crate::install::{Installed, PORT, Site};
use crate::servers::{create, pod, resource, strategic};
use crate::shop::gates;

/// The pod of each scene.
pub(super) const POD: &str = "web-0";
pub(crate) const IP: &str = "10.0.0.1";

pub(crate) struct Scene<'a> {
    pub(crate) installed: &'a Installed,
    pub(crate) namespace: String,
}

/// What the binary printed.
pub(super) struct Said {
    pub(super) status: i32,
    pub(super) json: Value,
    pub(super) errors: String,
}

impl Said {
    /// The reason of the answer.
    pub(super) fn reason(&self) -> &str {
        self.json["why"]["reason"].as_str().unwrap_or_default()
    }

    /// The answer's why, and all others in it, by their reason.
    pub(super) fn whys(&self) -> Vec<&Value> {
        let lists = ["/end/lints", "/notices"].map(|place| self.json.pointer(place));
        let lists = lists.into_iter().flatten().filter_map(Value::as_array);
        [&self.json["why"]]
            .into_iter()
            .chain(lists.flatten())
            .collect()
    }
}

impl<'a> Scene<'a> {
    /// A namespace of this name that has opted in.
    pub(crate) async fn new(installed: &'a Installed, name: &str) -> Self {
        let labels = json!({ INJECT_LABEL: INJECT_ENABLED });
        Self::labelled(installed, name, labels).await
    }

    pub(super) async fn labelled(installed: &'a Installed, name: &str, labels: Value) -> Self {
        let namespace = format!("{}-{name}", installed.cluster.namespace);
        let made = json!({ "metadata": { "name": namespace, "labels": labels } });
        let namespaces = Api::<Namespace>::all(installed.cluster.client.clone());
        create(&namespaces, made).await.unwrap();
        Self {
            installed,
            namespace,
        }
    }

    /// The namespace of this name, which exists.
    pub(crate) fn of(installed: &'a Installed, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        Self {
            installed,
            namespace,
        }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.installed.cluster.client.clone(), &self.namespace)
    }

    pub(crate) fn bindings(&self) -> Api<DynamicObject> {
        let api = BindingApi::Elbv2;
        let resource = resource(api.group(), api.version(), "TargetGroupBinding");
        let client = self.installed.cluster.client.clone();
        Api::namespaced_with(client, &self.namespace, &resource)
    }

    /// Sets labels of the Namespace.
    pub(crate) async fn label(&self, labels: Value) {
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        let namespaces = Api::<Namespace>::all(self.installed.cluster.client.clone());
        let params = PatchParams::default();
        let patched = namespaces.patch(&self.namespace, &params, &patch).await;
        patched.unwrap();
    }

    /// Creates Service `web` of the pods `app=web`, with this merged into its spec.
    pub(crate) async fn service(&self, more: Value) {
        self.service_named("web", more).await;
    }

    pub(super) async fn service_named(&self, name: &str, more: Value) {
        let mut service = json!({ "metadata": { "name": name }, "spec": {
            "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": PORT }] } });
        json_patch::merge(&mut service, &json!({ "spec": more }));
        create(&self.api::<Service>(), service).await.unwrap();
    }

    /// Creates a group behind a load balancer, and a binding `web` of it to Service `web`, with this merged into it.
    /// Returns the group's ARN.
    pub(crate) async fn bind(&self, more: Value) -> String {
        let arn = self.installed.group(&self.group());
        self.bind_to(&arn, more).await;
        arn
    }

    /// The name of the scene's group: those of an account are unique.
    pub(crate) fn group(&self) -> String {
        let length = self.namespace.len();
        self.namespace[length.saturating_sub(32)..]
            .trim_matches('-')
            .to_owned()
    }

    pub(crate) async fn bind_to(&self, arn: &str, more: Value) {
        let api = BindingApi::Elbv2;
        let mut binding = json!({
            "apiVersion": format!("{}/{}", api.group(), api.version()),
            "kind": "TargetGroupBinding",
            "metadata": { "name": "web" },
            "spec": { "targetGroupARN": arn, "targetType": "ip",
                "serviceRef": { "name": "web", "port": 80 } },
        });
        json_patch::merge(&mut binding, &more);
        let binding = serde_json::from_value(binding).unwrap();
        until("the binding is created", async || {
            let params = PostParams::default();
            self.bindings().create(&params, &binding).await.ok()
        })
        .await;
    }

    /// Creates the pod `app=web`, with this merged into it.
    pub(crate) async fn pod(&self, more: Value) -> Pod {
        let mut wanted = pod(POD, json!({ "metadata": { "labels": { "app": "web" } } }));
        json_patch::merge(&mut wanted, &more);
        create(&self.api::<Pod>(), wanted).await.unwrap()
    }

    /// Creates the pod once it is given its gate, and lets its containers become ready.
    pub(crate) async fn gated_pod(&self, more: Value) {
        self.pod_with_gates(1, more).await;
        self.containers_become_ready().await;
    }

    /// Creates the pod once the hook gives it so many gates: its cache may be older than what the test did last.
    pub(super) async fn pod_with_gates(&self, number: usize, more: Value) {
        until(&format!("the pod gets {number} gates"), async || {
            let made = self.pod(more.clone()).await;
            if gates(&made).len() == number {
                return Some(());
            }
            let at_once = DeleteParams::default().grace_period(0);
            self.api::<Pod>().delete(POD, &at_once).await.unwrap();
            None
        })
        .await;
    }

    pub(super) async fn containers_become_ready(&self) {
        let status = json!({ "status": {
            "phase": "Running", "podIP": IP, "podIPs": [{ "ip": IP }],
            "conditions": [{ "type": "ContainersReady", "status": "True",
                "lastTransitionTime": jiff::Timestamp::now().round(jiff::Unit::Second).unwrap() }],
        } });
        strategic(&self.api(), POD, status).await.unwrap();
    }

    /// Explains the pod.
    pub(super) async fn explained(&self) -> Said {
        let name = format!("{}/{POD}", self.namespace);
        explain(self.installed, &["pod", &name]).await
    }

    /// Explains the pod for people.
    pub(super) async fn text(&self) -> String {
        let name = format!("{}/{POD}", self.namespace);
        let output = run(self.installed, &["pod", &name], None).await;
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Runs `explain -o json` with the rights of the shipped account, and holds its output to the schema.
pub(super) async fn explain(site: &Site, words: &[&str]) -> Said {
    let words: Vec<&str> = words.iter().copied().chain(["-o", "json"]).collect();
    said(run(site, &words, None).await)
}

pub(super) fn said(output: Output) -> Said {
    let json = match output.stdout.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&output.stdout).unwrap(),
    };
    if !json.is_null() {
        schema::hold(&json);
    }
    Said {
        status: output.status.code().unwrap(),
        json,
        errors: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `explain`, by this kubeconfig instead of that of the shipped account.
pub(super) async fn run(site: &Site, words: &[&str], kubeconfig: Option<&Path>) -> Output {
    let mut command = command(site, words, kubeconfig);
    command.output().await.unwrap()
}

/// The command that [`run`] runs.
pub(super) fn command(site: &Site, words: &[&str], kubeconfig: Option<&Path>) -> Command {
    let kubeconfig = kubeconfig.unwrap_or(&site.program.kubeconfig);
    let mut command = Command::from(site.program.tool());
    command.arg("explain").args(words);
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .stdin(Stdio::null());
    command.kill_on_drop(true);
    command
}
