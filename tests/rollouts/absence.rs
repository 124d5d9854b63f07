//! The object that a gate waits for goes away: its binding is deleted, or its Service selects other pods.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::object::field;
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::harness::workload::{Workload, condition, gates};
use targetgate_sandbox::harness::{Registrar, Setup};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::alb;
use crate::load::Load;

const KIND: LoadBalancerKind = LoadBalancerKind::Application;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_whose_binding_or_service_goes_is_not_stuck_and_a_move_between_groups_loses_nothing()
{
    // All wait for an absence to last 30 s, so they run together.
    tokio::join!(
        a_move_to_another_group(Registrar::Sandbox),
        a_move_to_another_group(Registrar::Targetgate),
        a_service_that_is_switched_to_other_pods()
    );
}

/// A blue-green move between groups: the old binding is deleted while a gate waits for it.
async fn a_move_to_another_group(registrar: Registrar) {
    let setup = Setup::new(binary(), Reuse::Late).registrar(registrar);
    let mut site = Site::shared(setup).await;
    let blue = site.group("blue", KIND, alb());
    let green = site.group("green", KIND, alb());
    let (balancer, address) = site.balance(KIND, &[(&blue, 1), (&green, 0)]).await;
    site.service("web", json!({ "app": "web" })).await;
    site.bind("blue", "web", &blue).await;
    site.opt_in().await;
    site.gives_gates(json!({ "app": "web" }), &["blue"]).await;
    let mut web = Workload::new("Deployment", "web");
    web.pre_stop = Some(Duration::from_secs(3));
    site.apply(&web).await;
    site.rolled(&web).await;
    site.settled(&blue, 3).await;
    let load = Load::start(address, 60.0);
    the_group_of_a_binding_cannot_be_edited(&site, "blue", &green.arn).await;

    site.bind("green", "web", &green).await;
    site.settled(&green, 3).await;
    site.shift(&balancer, &[(&green, 1)]);
    site.gives_gates(json!({ "app": "web" }), &["blue", "green"])
        .await;
    site.restart(&web).await;
    // ELB does not check the targets of a group to which no load balancer sends requests.
    let waits = site
        .until("a gate to wait for the old group", async || {
            let pods = site.pods("app=web").await;
            let unused = |pod: &_| condition(pod, "blue")["reason"] == "Target.NotInUse";
            pods.into_iter().find(unused)
        })
        .await;
    assert_eq!(gates(&waits), ["blue", "green"]);
    site.delete("TargetGroupBinding", "blue").await;
    site.rolled(&web).await;
    site.settled(&green, 3).await;
    let numbers = load.stop().await;
    numbers.print(&format!("a move to another group, {registrar:?}"), &site);
    assert_eq!(numbers.lost(), 0, "{registrar:?}: {numbers:?}");

    // The other new pods were created after the binding was deleted.
    let pods = site.pods("app=web").await;
    let waited = pods.iter().find(|pod| pod.uid() == waits.uid()).unwrap();
    let message = &condition(waited, "blue")["message"];
    assert_eq!(message, "Target Group Binding is deleted");
    let mut gated: Vec<_> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(gates)
        .collect();
    gated.sort();
    assert_eq!(gated, [vec!["blue", "green"], vec!["green"], vec!["green"]]);
}

async fn the_group_of_a_binding_cannot_be_edited(site: &Site, binding: &str, arn: &str) {
    let edit = Patch::Merge(json!({ "spec": { "targetGroupARN": arn } }));
    let bindings = site.api("TargetGroupBinding");
    let params = PatchParams::default();
    let edited = bindings.patch(binding, &params, &edit).await;
    let refused = edited.unwrap_err().to_string();
    let words = "admission webhook \"vtargetgroupbinding.elbv2.k8s.aws\" denied the request: \
                 TargetGroupBinding update may not change these fields: spec.targetGroupARN";
    assert!(refused.contains(words), "{refused}");
    let binding = bindings.get(binding).await.unwrap();
    assert_ne!(field(&binding, "/spec/targetGroupARN"), arn);
}

/// A Service is switched back, as Argo Rollouts does when a rollout is aborted.
async fn a_service_that_is_switched_to_other_pods() {
    let mut site = Site::new(binary(), Reuse::Late).await;
    site.opt_in().await;
    let never = Delays {
        registration: Duration::from_secs(3600),
        ..alb()
    };
    let group = site.group("web", KIND, never);
    site.service("web", json!({ "app": "v1" })).await;
    site.bind("web", "web", &group).await;
    site.balance(KIND, &[(&group, 1)]).await;
    site.gives_gates(json!({ "app": "v1" }), &["web"]).await;
    let revision = Workload::new("Deployment", "v1");
    site.apply(&revision).await;
    site.until("the gates to wait", async || {
        let pods = site.pods("app=v1").await;
        let waits = |pod| condition(pod, "web")["reason"] == "Elb.RegistrationInProgress";
        (pods.len() == 3 && pods.iter().all(waits)).then_some(())
    })
    .await;
    site.select("web", json!({ "app": "v2" })).await;
    site.rolled(&revision).await;
    let pods = site.pods("app=v1").await;
    let reasons: Vec<_> = pods
        .iter()
        .map(|pod| condition(pod, "web")["reason"].clone())
        .collect();
    assert_eq!(reasons, ["NotSelected"; 3]);
}
