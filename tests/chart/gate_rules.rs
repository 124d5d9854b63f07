//! The policy by which the API server itself injects gates, as the chart renders it.

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::names::{INJECT_ENABLED, INJECT_LABEL};
use targetgate_sandbox::controlplane::ControlPlane;
use targetgate_sandbox::harness::waiting::until;
use targetgate_sandbox::harness::{Balancer, Process, Program};
use targetgate_sandbox::versions::Version;

use crate::documented::Checkout;
use crate::helm::{Helm, find};
use crate::lifecycle::{program, program_with, redirect_hooks, trusted};
use crate::options::restricted_namespace;
use crate::server::{api, apply, own_control_plane};
use crate::steady::{self, SOME, bound_namespace};

const COMPONENT: [&str; 3] = [
    include_str!("../../deploy/components/policy/crd.yaml"),
    include_str!("../../deploy/components/policy/policy.yaml"),
    include_str!("../../deploy/components/policy/rbac.yaml"),
];
/// The first version that serves the policy.
fn first() -> Version {
    Version::gates_by_policy()
}

fn rendered(values: &Value) -> Vec<Value> {
    let version = format!("{}.0", first());
    Helm::new().template_for(&version, values).unwrap()
}

fn is_named(object: &Value, kind: &Value, name: &Value) -> bool {
    object["kind"] == *kind && object["metadata"]["name"] == *name
}

#[test]
fn the_chart_and_kustomize_ship_the_same_policy() {
    let objects = rendered(&json!({ "admission": { "mode": "both" } }));
    let files = COMPONENT.map(|file| serde_saphyr::from_multiple::<Value>(file).unwrap());
    let shipped: Vec<Value> = files.into_iter().flatten().collect();
    assert_eq!(shipped.len(), 5);
    for object in shipped {
        let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
        let of_chart = objects.iter().find(|other| is_named(other, kind, name));
        let of_chart = of_chart.unwrap_or_else(|| panic!("the chart has no {kind} {name}"));
        for part in ["spec", "rules", "roleRef", "subjects"] {
            assert_eq!(of_chart[part], object[part], "{kind} {name}");
        }
    }
}

#[rstest]
#[case::by_default(first(), "webhook")]
#[case::on_an_older_cluster(first().previous_minor(), "both")]
fn without_the_policy_there_is_no_right_and_no_object_of_it(
    #[case] version: Version,
    #[case] mode: &str,
) {
    let values = json!({ "admission": { "mode": mode } });
    let version = format!("{version}.0");
    let objects = Helm::new().template_for(&version, &values).unwrap();
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        assert!(
            !kind.contains("AdmissionPolic") || kind.starts_with("Validating"),
            "{kind}"
        );
        assert_ne!(kind, "CustomResourceDefinition");
        let rules = object["rules"].to_string();
        assert!(!rules.contains("gaterules"), "{rules}");
    }
}

#[rstest]
#[case("namespace", 1)]
#[case("object", 1)]
#[case("either", 2)]
fn the_policy_selects_the_pods_that_the_hook_is_called_for(
    #[case] opt_in: &str,
    #[case] count: usize,
) {
    let objects = rendered(&json!({
        "admission": { "mode": "both" },
        "optIn": opt_in,
        "hooks": { "excludedNamespaces": ["left-out"] },
    }));
    let hooks = find(&objects, "MutatingWebhookConfiguration");
    let hooks = hooks["webhooks"].as_array().unwrap().iter();
    let of_pods = hooks.filter(|hook| hook["clientConfig"]["service"]["path"] == "/mutate-v1-pod");
    let selected = |of: &Value| {
        (
            of["namespaceSelector"].clone(),
            of["objectSelector"].clone(),
        )
    };
    let hooked: Vec<_> = of_pods.map(selected).collect();
    let policies = objects
        .iter()
        .filter(|object| object["kind"] == "MutatingAdmissionPolicy");
    let policies: Vec<&Value> = policies.collect();
    let covered: Vec<_> = policies
        .iter()
        .map(|policy| selected(&policy["spec"]["matchConstraints"]))
        .collect();
    assert_eq!((&covered, covered.len()), (&hooked, count));
    assert!(format!("{covered:?}").contains(INJECT_LABEL));
    for policy in policies {
        let name = &policy["metadata"]["name"];
        let binding = json!("MutatingAdmissionPolicyBinding");
        let bound = objects
            .iter()
            .find(|object| is_named(object, &binding, name));
        assert_eq!(bound.unwrap()["spec"]["policyName"], *name);
    }
}

#[rstest]
#[case::by_a_setting(json!({ "settings": { "condition-prefix": "target-health.targetgate.dev" } }))]
#[case::by_a_variable(json!({ "env": [
    { "name": "TARGETGATE_CONDITION_PREFIX", "value": "target-health.targetgate.dev" },
] }))]
fn the_policy_takes_gates_of_the_prefix_that_the_process_gives(#[case] mut values: Value) {
    values["admission"] = json!({ "mode": "both" });
    let objects = rendered(&values);
    let policy = find(&objects, "MutatingAdmissionPolicy")["spec"].to_string();
    let taken = "r.gate.startsWith('target-health.targetgate.dev/')";
    assert_eq!(policy.matches(taken).count(), 2);
    assert!(!policy.contains("target-health.elbv2.k8s.aws"));
}

/// A release of a checkout, whose hooks lead to a balancer.
struct Release<'a> {
    server: &'a ControlPlane,
    client: Client,
    helm: Helm,
    checkout: Checkout,
    balancer: Balancer,
}

impl Release<'_> {
    /// Runs helm with this mode.
    fn run(&self, command: &str, mode: &str) {
        let (chart, mode) = (self.checkout.chart(), format!("admission.mode={mode}"));
        let chart = chart.to_str().unwrap();
        // The test is about whether a review is answered, not how fast a busy machine does it.
        let timeout = "hooks.pods.timeoutSeconds=30";
        let arguments = [
            command,
            "targetgate",
            chart,
            "--set",
            &mode,
            "--set",
            timeout,
        ];
        self.helm.on(self.server, &arguments).unwrap();
    }

    /// Starts a replica, as a Deployment that rolls, and sends reviews to it.
    async fn replica(&self, program: &Program, name: &str) -> Process {
        let replica = program.start(name).await.unwrap();
        replica.ready().await.unwrap();
        self.balancer.add(replica.hooks);
        replica
    }

    /// Ends a replica as kubelet does, and sends it no new review.
    async fn ends(&self, mut replica: Process) {
        self.balancer.remove(replica.hooks);
        replica.signal("TERM").unwrap();
        replica.ended().await.unwrap();
    }

    /// Whether the namespace has its rules; false as well where they are not served.
    async fn has_rules(&self) -> bool {
        let kind = GroupVersionKind::gvk("targetgate.dev", "v1", "GateRules");
        let resource = ApiResource::from_gvk_with_plural(&kind, "gaterules");
        let client = self.client.clone();
        let rules: Api<DynamicObject> = Api::namespaced_with(client, steady::NAMESPACE, &resource);
        rules.get("targetgate").await.is_ok()
    }

    async fn has_policy(&self) -> bool {
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingAdmissionPolicy",
            "metadata": {},
        });
        let found = api(&self.client, &policy).get_opt("targetgate-gates").await;
        found.unwrap().is_some()
    }
}

// A second thread creates pods while a command of helm blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mode_is_changed_and_changed_back_while_each_pod_gets_its_gate() {
    let server = own_control_plane().await;
    let client = server.client().await.unwrap();
    let crd = include_str!("../../deploy/crd/targetgroupbindings.yaml");
    let crd: Value = serde_saphyr::from_str(crd).unwrap();
    apply(&client, &crd, false).await.unwrap();
    bound_namespace(&client).await;
    restricted_namespace(&client).await;
    let opted_in = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": steady::NAMESPACE, "labels": { INJECT_LABEL: INJECT_ENABLED } },
    });
    apply(&client, &opted_in, false).await.unwrap();
    let release = Release {
        server: &server,
        client: client.clone(),
        helm: Helm::new(),
        checkout: Checkout::new(),
        balancer: Balancer::new().await,
    };
    redirect_hooks(&release.checkout, release.balancer.address.port());
    release.run("install", "webhook");
    let webhook = program(&server, &client).await;
    let first = release.replica(&webhook, "targetgate-0").await;
    trusted(&client).await;
    let mut creation = steady::create(&client).await;
    creation.goes_on(SOME).await;

    release.run("upgrade", "both");
    assert!(release.has_policy().await);
    creation.goes_on(SOME).await;
    let both = program_with(&server, &client, &["--admission=both"]).await;
    let second = release.replica(&both, "targetgate-1").await;
    release.ends(first).await;
    until("the namespace has its rules", async || {
        release.has_rules().await.then_some(())
    })
    .await;
    creation.goes_on(SOME).await;

    release.run("upgrade", "webhook");
    assert!(!release.has_policy().await);
    creation.goes_on(SOME).await;
    let third = release.replica(&webhook, "targetgate-2").await;
    release.ends(second).await;
    creation.goes_on(SOME).await;
    until("the CRD is gone with its objects", async || {
        (!release.has_rules().await).then_some(())
    })
    .await;
    println!("{} pods were created meanwhile", creation.count());
    drop(creation);
    release.ends(third).await;
}
