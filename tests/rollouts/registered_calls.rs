//! How many calls targetgate needs to register pods, and how soon it sends them: pods become ready and are deleted by
//! the test itself, which is their kubelet.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_sandbox::elb::LoadBalancerKind;
use targetgate_sandbox::elb::log::CallOutcome;
use targetgate_sandbox::harness::site::{Group, Site};
use targetgate_sandbox::kubelet::Reuse;
use tokio::time::sleep;

use crate::binary;
use crate::deployment::alb;

/// As many groups and pods as in the figures of issue 14.
const GROUPS: usize = 20;
const PODS: usize = 5;
/// The groups begin one after the other, so that this machine is not what is measured. Chosen.
const BETWEEN: Duration = Duration::from_millis(50);

/// The time in which the budget of 20 calls fills again, at 4 a second. Contract 8.
const REFILL: Duration = Duration::from_secs(5);

/// When each group's pods were about to change.
type Begun = Vec<Vec<Timestamp>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_of_a_group_share_a_call_when_they_become_ready_and_when_they_are_deleted() {
    let site = Site::registering(binary(), Reuse::Late).await;
    let groups: Vec<Group> = (0..GROUPS)
        .map(|number| site.group(&name(number), LoadBalancerKind::Application, alb()))
        .collect();
    for (number, group) in groups.iter().enumerate() {
        let name = name(number);
        site.service(&name, json!({ "app": name })).await;
        site.bind(&name, &name, group).await;
        join_all((0..PODS).map(|pod| create(&site, number, pod))).await;
    }
    site.until("all bindings to be held", async || {
        let bindings = site.api("TargetGroupBinding").list(&<_>::default()).await;
        let bindings = bindings.unwrap().items;
        bindings.iter().all(is_ready).then_some(())
    })
    .await;

    let begun = change(&site, async |pod| become_ready(&site, pod).await).await;
    report(&site, "RegisterTargets", &groups, &begun).await;
    sleep(REFILL).await;
    let begun = change(&site, async |pod| delete(&site, pod).await).await;
    report(&site, "DeregisterTargets", &groups, &begun).await;
}

fn name(group: usize) -> String {
    format!("web-{group}")
}

fn is_ready(binding: &DynamicObject) -> bool {
    let conditions = binding.data["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

async fn create(site: &Site, group: usize, pod: usize) {
    let app = name(group);
    let pod: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": format!("{app}-{pod}"), "labels": { "app": app } },
        "spec": { "nodeName": "elsewhere", "containers": [{
            "name": "web", "image": "web", "ports": [{ "name": "http", "containerPort": 8080 }],
        }] },
    }))
    .unwrap();
    let pods = site.api("Pod");
    site.until("the pod to be created", async || {
        pods.create(&PostParams::default(), &pod).await.ok()
    })
    .await;
}

/// Changes the pods of each group at the same time, one group after the other.
async fn change(site: &Site, change: impl AsyncFn((usize, usize)) -> Timestamp) -> Begun {
    let change = &change;
    let groups = (0..GROUPS).map(async |group| {
        sleep(BETWEEN * u32::try_from(group).unwrap()).await;
        join_all((0..PODS).map(|pod| change((group, pod)))).await
    });
    let begun = join_all(groups).await;
    assert_eq!(begun.len(), GROUPS, "{}", site.namespace);
    begun
}

async fn become_ready(site: &Site, (group, pod): (usize, usize)) -> Timestamp {
    let ip = format!("10.200.{group}.{pod}");
    let status: Value = json!({ "status": {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{ "ip": ip }],
        "conditions": [{ "type": "ContainersReady", "status": "True" }],
    } });
    let begun = Timestamp::now();
    let pods = site.api("Pod");
    let (name, change) = (format!("{}-{pod}", name(group)), Patch::Strategic(status));
    let params = PatchParams::default();
    pods.patch_status(&name, &params, &change).await.unwrap();
    begun
}

/// Deletes a pod. It stays for its grace period, because no kubelet ends it.
async fn delete(site: &Site, (group, pod): (usize, usize)) -> Timestamp {
    let begun = Timestamp::now();
    let pods = site.api("Pod");
    let name = format!("{}-{pod}", name(group));
    pods.delete(&name, &DeleteParams::default()).await.unwrap();
    begun
}

/// Waits until each group has had its calls, and prints and checks how many those were.
async fn report(site: &Site, action: &str, groups: &[Group], begun: &Begun) {
    let calls = || {
        let mut of: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
        let calls = site.aws.elb.calls().into_iter();
        let calls = calls.filter(|call| call.action == action && call.outcome == CallOutcome::Ok);
        for call in calls {
            of.entry(call.arns[0].clone()).or_default().push(call.at);
        }
        of
    };
    site.until("each group to have its call", async || {
        (calls().len() == GROUPS).then_some(())
    })
    .await;
    // Longer than targets are collected for a call.
    sleep(Duration::from_secs(2)).await;
    let calls = calls();
    let number: usize = calls.values().map(Vec::len).sum();
    let mut waits: Vec<f64> = vec![];
    for (group, begun) in groups.iter().zip(begun) {
        let last = calls[&group.arn].iter().max().unwrap();
        waits.extend(
            begun
                .iter()
                .map(|begun| last.duration_since(*begun).as_secs_f64()),
        );
    }
    waits.sort_by(f64::total_cmp);
    let (median, most) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!(
        "{action}: {number} calls for {GROUPS} groups of {PODS}; median {median:.3} s, most {most:.3} s"
    );
    assert!(number <= 2 * GROUPS, "{number} calls");
}
