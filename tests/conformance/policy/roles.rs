//! Whether the component's role grants what the keeper of gate rules uses, and nothing else.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{ACCOUNT, Installed};
use crate::policy::COMPONENT;
use crate::policy::installed::installed;
use crate::roles::{Grant, granted, used};
use crate::servers::resource;

impl Installed {
    /// Replaces the rules of the component's role.
    async fn grant(&self, rules: &Value) {
        let kind = resource("rbac.authorization.k8s.io", "v1", "ClusterRole");
        let roles: Api<DynamicObject> = Api::all_with(self.cluster.client.clone(), &kind);
        let patch = Patch::Merge(json!({ "rules": rules }));
        let params = PatchParams::default();
        let granted = roles.patch("targetgate-gate-rules", &params, &patch);
        granted.await.unwrap();
    }

    /// Whether our account may create rules.
    async fn may_create(&self) -> bool {
        let review = json!({ "metadata": {}, "spec": {
            "user": ACCOUNT,
            "resourceAttributes": {
                "verb": "create",
                "group": "targetgate.dev",
                "resource": "gaterules",
                "namespace": self.cluster.namespace,
            },
        } });
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let reviews: Api<SubjectAccessReview> = Api::all(self.cluster.client.clone());
        let reviewed = reviews.create(&PostParams::default(), &review).await;
        reviewed.unwrap().status.unwrap().allowed
    }

    async fn metric_is(&self, sample: &str, holds: impl Fn(f64) -> bool) {
        until(sample, async || {
            holds(self.process().metric(sample).await.ok()?).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_components_role_grants_what_is_used_and_nothing_else() {
    let installed = installed().await;
    let cluster = &installed.cluster;
    let files = COMPONENT.map(|file| serde_saphyr::from_multiple::<Value>(file).unwrap());
    let component: Vec<Value> = files.into_iter().flatten().collect();
    let role = component.iter().find(|o| o["kind"] == "ClusterRole");
    let rules = &role.unwrap()["rules"];

    let bindings = installed.bindings(BindingApi::Elbv2);
    let at_once = DeleteParams::default();
    bindings.delete("web", &at_once).await.unwrap();
    installed.rules_are(&[]).await;
    // A forced apply of what is not there is a `patch` in the audit log, and needs `create` as well.
    let [create, others] = [&rules[0], &rules[1]];
    assert_eq!(create["verbs"], json!(["create"]));
    installed.grant(&json!([others])).await;
    let failed = "targetgate_gate_rules_writes_total{result=\"Failed\"}";
    until("the role is reduced", async || {
        (!installed.may_create().await).then_some(())
    })
    .await;
    installed.bind_again("web").await;
    installed.metric_is(failed, |failures| failures > 0.0).await;
    installed
        .metric_is("targetgate_gate_rules_age_seconds", |age| age > 0.0)
        .await;
    installed.grant(rules).await;
    installed.rules_are(&["web"]).await;
    installed
        .metric_is("targetgate_gate_rules_age_seconds", |age| age == 0.0)
        .await;

    let of_rules = |grants: BTreeSet<Grant>| -> BTreeSet<String> {
        let ours = grants
            .into_iter()
            .filter(|(_, _, what)| what == "gaterules");
        ours.map(|(verb, _, _)| verb).collect()
    };
    let mut used = of_rules(used(cluster));
    used.insert("create".to_owned());
    assert_eq!(used, of_rules(granted(&component)));
    assert!(of_rules(granted(&installed.shipped)).is_empty());
}
