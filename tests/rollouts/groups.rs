//! Pods of two target groups: two load balancers at once, and the move from one group to another.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::Openings;

use crate::deployment::alb;
use crate::load::Load;
use crate::objects::{Workload, condition, gates};
use crate::site::{Options, Site, field};

const KIND: LoadBalancerKind = LoadBalancerKind::Application;
/// More than the registrar's delay and the lag, by much.
const PRE_STOP: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_two_groups_is_ready_only_after_both() {
    let mut site = Site::new(Options::default()).await;
    let late = Delays {
        registration: Duration::from_secs(2),
        ..alb()
    };
    let groups = [
        site.group("internal", KIND, alb()),
        site.group("internet", KIND, late),
    ];
    let names = ["internal", "internet"];
    site.service("web", json!({ "app": "web" })).await;
    let mut addresses = Vec::new();
    for (name, group) in names.iter().zip(&groups) {
        addresses.push(site.balance(KIND, &[(group, 1)]).await.1);
        site.bind(name, "web", group).await;
    }
    site.opt_in().await;
    site.gives_gates(json!({ "app": "web" }), &names).await;
    let mut web = Workload::new("Deployment", "web");
    web.pre_stop = Some(PRE_STOP);
    site.apply(&web).await;
    site.rolled(&web).await;
    for group in &groups {
        site.settled(group, 3).await;
    }

    let loads = addresses
        .into_iter()
        .map(|address| Load::start(address, 60.0));
    let loads: Vec<_> = loads.collect();
    site.restart(&web).await;
    site.rolled(&web).await;
    for (load, (name, group)) in loads.into_iter().zip(names.iter().zip(&groups)) {
        site.settled(group, 3).await;
        let numbers = load.stop().await;
        numbers.print(&format!("two groups, {name}"), &site);
        assert_eq!(numbers.lost(), 0, "{numbers:?}");
    }
    let (pods, log) = (site.observer.pods(), site.aws.elb.log());
    assert_eq!(pods.len(), 6);
    for group in &groups {
        let log = log.iter().filter(|entry| entry.arn == group.arn);
        let log: Vec<_> = log.cloned().collect();
        let openings = Openings::of(&pods, &log);
        assert_eq!((openings.delays.len(), openings.early), (6, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_another_group_loses_nothing_and_leaves_no_gate_shut() {
    let mut site = Site::new(Options::default()).await;
    let blue = site.group("blue", KIND, alb());
    let green = site.group("green", KIND, alb());
    let (balancer, address) = site.balance(KIND, &[(&blue, 1), (&green, 0)]).await;
    site.service("web", json!({ "app": "web" })).await;
    site.bind("blue", "web", &blue).await;
    site.opt_in().await;
    site.gives_gates(json!({ "app": "web" }), &["blue"]).await;
    let mut web = Workload::new("Deployment", "web");
    web.pre_stop = Some(PRE_STOP);
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
    // No load balancer checks the targets of a group that none sends to.
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
    numbers.print("a move to another group", &site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");

    // The others of the new ones were created after the binding had gone.
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
