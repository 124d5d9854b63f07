//! targetgate with `--admission both`, as it is shipped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate::commands::certs;
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::Installed;
use crate::policy::{OPT_IN, cluster};
use crate::servers::{Server, create, resource};
use crate::shop::{gate, gates, of_app};

/// How many pods are created while nothing of ours runs. Chosen: issue 16.
const PODS: usize = 500;

/// An installation that has bound Service `web`, once the API server reads its rules.
pub(super) async fn installed() -> Installed {
    let cluster = cluster().await;
    cluster.apply_crd().await;
    let installed = Installed::on(cluster, &["--admission=both"]).await;
    installed.bind("web").await;
    installed.rules_are(&["web"]).await;
    installed
}

impl Installed {
    /// Deletes the binding of the policy, as an operator does who switches it off.
    async fn delete_policy_binding(&self) {
        let kind = resource(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingAdmissionPolicyBinding",
        );
        let bindings: Api<DynamicObject> = Api::all_with(self.cluster.client.clone(), &kind);
        let params = DeleteParams::default();
        bindings.delete("targetgate-gates", &params).await.unwrap();
    }

    /// Waits until the object has rules for exactly these bindings, each with a Service of its name.
    pub(super) async fn rules_are(&self, bindings: &[&str]) {
        let expected: Vec<String> = bindings.iter().map(|binding| gate(binding)).collect();
        until("the rules are those of the bindings", async || {
            let object = self.cluster.gate_rules().get_opt("targetgate").await;
            let object = object.unwrap();
            let held = object.map_or(vec![], |object| gates_of_rules(&object.data["spec"]));
            (held == expected).then_some(())
        })
        .await;
    }

    /// Gives the webhook of pods a CA bundle that does not verify our certificate.
    async fn break_bundle(&self) {
        let other = certs::make("other", &[], Timestamp::now()).unwrap().ca;
        let kind = resource(
            "admissionregistration.k8s.io",
            "v1",
            "MutatingWebhookConfiguration",
        );
        let configurations: Api<DynamicObject> = Api::all_with(self.cluster.client.clone(), &kind);
        let mut configuration = configurations.get("targetgate").await.unwrap();
        for webhook in configuration.data["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["caBundle"] = json!(STANDARD.encode(&other));
        }
        let params = PostParams::default();
        let replaced = configurations.replace("targetgate", &params, &configuration);
        replaced.await.unwrap();
    }

    /// The bindings' gates of a new pod of `app=web`.
    async fn given(&self) -> Vec<String> {
        let given = self.cluster.gates_of(of_app("asked", "web")).await;
        given.unwrap()
    }

    /// Waits until the policy injects, which reads the rules a moment after they were written.
    async fn policy_injects(&self) {
        let expected = [gate("web")];
        until("the policy injects", async || {
            (self.given().await == expected).then_some(())
        })
        .await;
    }
}

fn gates_of_rules(spec: &Value) -> Vec<String> {
    let by_label = spec["byLabel"].as_object().unwrap();
    let rules = by_label
        .values()
        .flat_map(|rules| rules.as_array().unwrap());
    let mut rules: Vec<&Value> = rules.collect();
    rules.sort_by_key(|rule| rule["order"].as_i64());
    let gates = rules.iter().map(|rule| rule["gate"].as_str().unwrap());
    gates.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_object_follows_the_bindings_and_goes_with_the_last() {
    let installed = installed().await;
    installed.bind("api").await;
    installed.rules_are(&["api", "web"]).await;
    for (gone, left) in [("web", &["api"][..]), ("api", &[])] {
        let bindings = installed.bindings(BindingApi::Elbv2);
        bindings
            .delete(gone, &DeleteParams::default())
            .await
            .unwrap();
        installed.rules_are(left).await;
    }
    let rules = installed.cluster.gate_rules();
    until("the object is gone", async || {
        let objects = rules.list(&ListParams::default()).await.unwrap();
        objects.items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_edit_by_another_is_put_back_and_nothing_is_written_without_need() {
    let installed = installed().await;
    let cluster = &installed.cluster;
    let evil = json!({ "byLabel": { "app=web": [], "x=y": [
        { "order": 0, "gate": gate("evil"), "selector": { "x": "y" } },
    ] } });
    cluster.put_rules(&evil).await.unwrap();
    installed.rules_are(&["web"]).await;
    let rules = cluster.gate_rules();
    let merged = Patch::Merge(json!({ "spec": { "byLabel": { "z=z": evil["byLabel"]["x=y"] } } }));
    rules
        .patch("targetgate", &PatchParams::default(), &merged)
        .await
        .unwrap();
    installed.rules_are(&["web"]).await;
    rules
        .delete("targetgate", &DeleteParams::default())
        .await
        .unwrap();
    installed.rules_are(&["web"]).await;

    let version = rules.get("targetgate").await.unwrap().resource_version();
    // A change of the Service that changes no rule.
    let ports = Patch::Merge(json!({ "spec": { "ports": [{ "port": 81 }] } }));
    let services = cluster.api::<Service>();
    services
        .patch("web", &PatchParams::default(), &ports)
        .await
        .unwrap();
    installed.bind("zoo").await;
    let other = json!({ "metadata": { "labels": { "edited": "true" } } });
    rules
        .patch("targetgate", &PatchParams::default(), &Patch::Merge(other))
        .await
        .unwrap();
    installed.rules_are(&["web", "zoo"]).await;
    let now = rules.get("targetgate").await.unwrap();
    assert_ne!(now.resource_version(), version);
    assert_eq!(now.labels()["edited"], "true");
}

#[tokio::test]
async fn pods_get_their_gates_while_no_process_of_ours_runs_and_open_once_one_does() {
    let mut installed = installed().await;
    installed.kill();
    installed.policy_injects().await;
    let (expected, address) = ([gate("web")], |at: usize| {
        format!("10.0.{}.{}", at / 250, at % 250)
    });
    for at in 0..PODS {
        let name = format!("web-{at}");
        let made = create(&installed.cluster.pods(), of_app(&name, "web")).await;
        assert_eq!(gates(&made.unwrap()), expected, "{name}");
        let ip = address(at);
        installed.cluster.containers_become_ready(&name, &ip).await;
    }
    let bindings = installed.bindings(BindingApi::Elbv2);
    let binding = bindings.get("web").await.unwrap();
    let arn = binding.data["spec"]["targetGroupARN"].as_str().unwrap();
    (0..PODS).for_each(|at| installed.register(arn, &address(at)));
    installed.start().await;
    for at in 0..PODS {
        let name = format!("web-{at}");
        installed.cluster.gate_becomes(&name, "web", "True").await;
    }
}

#[tokio::test]
async fn pods_get_their_gates_where_the_webhook_has_a_broken_ca_bundle() {
    let installed = installed().await;
    installed.policy_injects().await;
    installed.break_bundle().await;
    // The API server takes a moment to read it, and by then it has asked the webhook often enough to refuse it.
    for at in 0..100 {
        let made = create(
            &installed.cluster.pods(),
            of_app(&format!("web-{at}"), "web"),
        )
        .await;
        assert_eq!(gates(&made.unwrap()), [gate("web")]);
    }
    // Without the policy none would have a gate: so the webhook did nothing.
    installed.delete_policy_binding().await;
    until("no pod gets a gate", async || {
        installed.given().await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn deleting_the_binding_of_the_policy_switches_it_off_and_nothing_of_ours_puts_it_back() {
    let mut installed = installed().await;
    installed.policy_injects().await;
    installed.delete_policy_binding().await;
    // The webhook goes on.
    assert_eq!(installed.given().await, [gate("web")]);
    installed.bind("api").await;
    installed.rules_are(&["api", "web"]).await;
    installed.kill();
    until("no pod gets a gate", async || {
        installed.given().await.is_empty().then_some(())
    })
    .await;
}

#[rstest]
#[tokio::test]
async fn taking_the_label_off_the_namespace_switches_gates_off_whether_we_run_or_are_away(
    #[values(true, false)] runs: bool,
) {
    let mut installed = installed().await;
    if !runs {
        installed.kill();
    }
    installed.policy_injects().await;
    installed.cluster.label_namespace(OPT_IN, "disabled").await;
    until("no pod gets a gate", async || {
        installed.given().await.is_empty().then_some(())
    })
    .await;
    installed.cluster.label_namespace(OPT_IN, "enabled").await;
    installed.policy_injects().await;
}

#[tokio::test]
async fn where_the_crd_is_not_there_the_webhook_injects_and_the_object_is_written_once_it_is() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    cluster.apply_roles().await;
    let installed = Installed::on(cluster, &["--admission=both"]).await;
    installed.bind("web").await;
    assert_eq!(installed.given().await, [gate("web")]);
    let served = async || {
        let metric = installed.process().metric("targetgate_gate_rules_served");
        metric.await.unwrap()
    };
    assert_eq!(served().await, 0.0);
    let log = installed.program.files.path().join("targetgate-0.log");
    until("the log says so", async || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.contains("as with --admission webhook, gates are injected by the webhook alone")
            .then_some(())
    })
    .await;
    installed.cluster.apply_policy().await;
    installed.rules_are(&["web"]).await;
    assert_eq!(served().await, 1.0);
}
