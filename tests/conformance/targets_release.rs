//! `targetgate release`, the real binary, on the real API server, with the rights of the shipped account.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, NAMESPACE, PORT};
use crate::servers::resource;
use crate::targets_roles::registering;

const OURS: &str = "targetgate.dev/targets";
const FOREIGN: &str = "example.com/other";
const IP: &str = "10.0.0.1";

/// What `release` printed, and its exit status.
struct Released {
    status: i32,
    out: String,
    errors: String,
}

impl Installed {
    /// Runs `release` as `kubectl exec` in the pod does.
    async fn release(&self, words: &[&str]) -> Released {
        self.release_with(words, &self.program.kubeconfig).await
    }

    async fn release_with(&self, words: &[&str], kubeconfig: &Path) -> Released {
        let mut command = tokio::process::Command::from(self.program.tool());
        command.arg("release").args(words);
        command.arg("--kubeconfig").arg(kubeconfig);
        let output = command.output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let released = Released {
            status: output.status.code().unwrap(),
            out: text(output.stdout),
            errors: text(output.stderr),
        };
        println!(
            "{words:?}: {}\n{}{}",
            released.status, released.out, released.errors
        );
        released
    }

    async fn binding(&self, name: &str) -> DynamicObject {
        self.bindings(BindingApi::Elbv2).get(name).await.unwrap()
    }

    async fn finalizers(&self, name: &str) -> BTreeSet<String> {
        self.binding(name)
            .await
            .finalizers()
            .iter()
            .cloned()
            .collect()
    }

    /// Puts finalizers on a binding, as other controllers and a registrar of ours that is gone did.
    async fn hold(&self, name: &str, finalizers: &[&str]) {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
        let bindings = self.bindings(BindingApi::Elbv2);
        let params = PatchParams::default();
        bindings.patch(name, &params, &patch).await.unwrap();
    }

    pub(crate) async fn until_held(&self, name: &str) {
        until("our finalizer is on it", async || {
            self.finalizers(name).await.contains(OURS).then_some(())
        })
        .await;
    }

    /// Waits until the condition `Ready` has this reason.
    pub(crate) async fn until_told(&self, name: &str, reason: &str) {
        until(reason, async || {
            let binding = self.binding(name).await;
            let conditions = binding.data["status"]["conditions"].as_array()?.clone();
            let ready = conditions.iter().find(|c| c["type"] == "Ready")?;
            (ready["reason"] == reason).then_some(())
        })
        .await;
    }

    async fn record(&self, name: &str) -> Option<Value> {
        let records = self.record_objects();
        let uid = self.binding(name).await.uid().unwrap();
        Some(records.get_opt(&uid).await.unwrap()?.data)
    }

    fn record_objects(&self) -> Api<DynamicObject> {
        let kind = resource("targetgate.dev", "v1", "TargetRecord");
        Api::namespaced_with(self.cluster.client.clone(), NAMESPACE, &kind)
    }

    fn binding_name(&self, name: &str) -> String {
        format!("{}/{name}", self.cluster.namespace)
    }

    /// The mark that stands for the Deployment.
    async fn mark(&self) -> String {
        let deployments = Api::<Deployment>::namespaced(self.cluster.client.clone(), NAMESPACE);
        deployments.get("targetgate").await.unwrap().uid().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_is_let_go_beside_a_living_registrar_until_that_is_undone() {
    let (installed, _) = registering("all").await;
    let cluster = &installed.cluster;
    let arn = installed.bind("web").await;
    cluster.waiting_pod("a", "web", IP).await;
    cluster.gate_becomes("a", "web", "True").await;
    installed.until_told("web", "Registered").await;
    installed.hold("web", &[FOREIGN, OURS]).await;

    let name = installed.binding_name("web");
    let released = installed.release(&[&name]).await;
    assert_eq!(released.status, 0, "{}", released.errors);
    let stays = format!("{name}: released; 1 target stays in {arn}");
    assert!(released.out.contains(&stays), "{}", released.out);
    installed.until_told("web", "Released").await;
    until("the Event", async || {
        let events: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let mut reasons = events.iter().filter_map(|event| event.reason.as_deref());
        reasons.any(|reason| reason == "Released").then_some(())
    })
    .await;
    // What changes does not bring the finalizer back, and its targets stay.
    cluster.waiting_pod("b", "web", "10.0.0.2").await;
    assert_eq!(
        installed.finalizers("web").await,
        [FOREIGN.to_owned()].into()
    );
    let of = |ip: &str| installed.elb.health(&arn, ip.parse().unwrap(), PORT);
    assert!(of(IP).is_some() && of("10.0.0.2").is_none());
    let record = installed.record("web").await.unwrap();
    assert_eq!(record["spec"]["releasedBy"], installed.mark().await);
    assert_eq!(record["status"]["count"], 1);

    let undone = installed.release(&[&name, "--undo"]).await;
    assert_eq!(undone.status, 0, "{}", undone.errors);
    installed.until_held("web").await;
    cluster.gate_becomes("b", "web", "True").await;
    installed.until_told("web", "Registered").await;
    assert!(installed.finalizers("web").await.contains(FOREIGN));

    // All of them, and back.
    installed.bind("other").await;
    installed.until_held("other").await;
    let released = installed.release(&["--all"]).await;
    assert_eq!(released.status, 0, "{}", released.errors);
    for name in ["web", "other"] {
        installed.until_told(name, "Released").await;
        assert!(!installed.finalizers(name).await.contains(OURS), "{name}");
    }
    let undone = installed.release(&["--all", "--undo"]).await;
    assert_eq!(undone.status, 0, "{}", undone.errors);
    installed.until_held("web").await;
    installed.until_held("other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_are_let_go_after_the_registrar_has_gone_with_or_without_records() {
    let (mut installed, _) = registering("all").await;
    installed.bind("web").await;
    installed.bind("lost").await;
    installed.bind("free").await;
    for name in ["web", "lost", "free"] {
        installed.until_held(name).await;
    }
    installed.kill();
    installed
        .hold("web", &[FOREIGN, OURS, "elbv2.k8s.aws/resources"])
        .await;
    installed.hold("free", &[FOREIGN]).await;
    let uid = installed.binding("lost").await.uid().unwrap();
    let records = installed.record_objects();
    let params = DeleteParams::default();
    records.delete(&uid, &params).await.unwrap();

    let released = installed.release(&["--all"]).await;
    assert_eq!(released.status, 0, "{}", released.errors);
    assert!(
        released.out.contains("bindings released: 2"),
        "{}",
        released.out
    );
    let others = [FOREIGN.to_owned(), "elbv2.k8s.aws/resources".to_owned()];
    assert_eq!(installed.finalizers("web").await, others.into());
    assert_eq!(installed.finalizers("lost").await, [].into());
    for name in ["web", "lost"] {
        let record = installed.record(name).await.unwrap();
        assert_eq!(
            record["spec"]["releasedBy"],
            installed.mark().await,
            "{name}"
        );
    }
    let free = installed.record("free").await.unwrap();
    assert_eq!(free["spec"]["releasedBy"], Value::Null);
    // It finds nothing left.
    let released = installed.release(&["--all"]).await;
    assert_eq!(released.status, 0);
    assert!(
        released.out.contains("bindings released: 0"),
        "{}",
        released.out
    );

    // A registrar of the same Deployment that starts later leaves them alone.
    installed.start().await;
    installed.until_held("free").await;
    installed.until_told("lost", "Released").await;
    assert_eq!(installed.finalizers("lost").await, [].into());

    what_cannot_be_done_is_told(&installed).await;

    // Everything of ours is gone, but for a finalizer.
    installed.kill();
    installed.hold("lost", &[OURS]).await;
    let records = installed.record_objects();
    let all = ListParams::default();
    records.delete_collection(&params, &all).await.unwrap();
    let deployments = Api::<Deployment>::namespaced(installed.cluster.client.clone(), NAMESPACE);
    deployments.delete("targetgate", &params).await.unwrap();
    let released = installed.release(&["--all"]).await;
    assert_eq!(released.status, 0, "{}", released.errors);
    assert!(
        released.out.contains("there is no Deployment"),
        "{}",
        released.out
    );
    assert_eq!(installed.finalizers("lost").await, [].into());
    // Where not even the namespace is there, nothing needs a mark.
    installed.hold("lost", &[OURS]).await;
    let administrator = installed.cluster.control_plane().kubeconfig().to_owned();
    let elsewhere = ["--all", "--namespace", "no-such-namespace"];
    let released = installed.release_with(&elsewhere, &administrator).await;
    assert_eq!(released.status, 0, "{}", released.errors);
    assert_eq!(installed.finalizers("lost").await, [].into());
}

/// A binding that does not exist, rights that lack, and an API server that is away.
async fn what_cannot_be_done_is_told(installed: &Installed) {
    let name = installed.binding_name("no-such");
    let released = installed.release(&[&name]).await;
    assert_eq!(released.status, 1);
    let told = format!("{name}: there is no such TargetGroupBinding");
    assert!(released.out.contains(&told), "{}", released.out);

    let server = installed.cluster.control_plane();
    let stranger = server.kubeconfig_for("stranger", "no-such-token").unwrap();
    let released = installed.release_with(&["--all"], &stranger).await;
    assert_eq!(released.status, 3);
    assert!(
        released.errors.contains("cannot get Deployment"),
        "{}",
        released.errors
    );
    let best_effort = ["--all", "--best-effort"];
    let released = installed.release_with(&best_effort, &stranger).await;
    assert_eq!(released.status, 0);
    assert!(
        released.errors.contains("0 instead of 3"),
        "{}",
        released.errors
    );

    let nowhere = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let (before, after) = nowhere.split_once("server: ").unwrap();
    let after = &after[after.find([',', '}', '\n']).unwrap()..];
    let file = tempfile::NamedTempFile::new().unwrap();
    let nowhere = format!("{before}server: \"https://127.0.0.1:1\"{after}");
    std::fs::write(file.path(), nowhere).unwrap();
    let impatient = ["--all", "--timeout", "3s"];
    let released = installed.release_with(&impatient, file.path()).await;
    assert_eq!(released.status, 3);
    assert!(released.out.contains("trying again"), "{}", released.out);
}
