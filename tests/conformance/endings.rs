//! What is seen of the ends of pods, on the real API server. The test is the kubelet, and what registers targets.

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::json;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, PORT};
use crate::notices::owned;
use crate::shop::of_app;

const SEEN: &str = "targetgate_deregistration_seconds_count{load_balancer=\"alb\"}";
const EARLY: &str = "targetgate_pods_ended_early_total{load_balancer=\"alb\"}";

impl Installed {
    /// Creates a pod `app=web` on a node, as its ReplicaSet and the scheduler do, whose gate is open. The API server
    /// deletes a pod without a node at once.
    async fn open_pod_on_a_node(&self, arn: &str, set: &ReplicaSet, name: &str, ip: &str) {
        let spec = json!({ "nodeName": "node-1" });
        let pod = owned(of_app(name, "web"), set, spec);
        self.cluster.pod_with_gates(pod, &["web"]).await;
        self.cluster.containers_become_ready(name, ip).await;
        self.register(arn, ip);
        self.cluster.gate_becomes(name, "web", "True").await;
    }

    /// Scales down by this pod: its deletion is requested with the grace period of its own.
    async fn scale_down(&self, pod: &str) {
        let pods = self.cluster.pods();
        pods.delete(pod, &DeleteParams::default()).await.unwrap();
        let left = pods.get(pod).await.unwrap().metadata;
        assert_eq!(left.deletion_grace_period_seconds, Some(30));
    }

    /// Removes a pod at once.
    async fn remove(&self, pod: &str) {
        let at_once = DeleteParams::default().grace_period(0);
        self.cluster.pods().delete(pod, &at_once).await.unwrap();
    }

    async fn count(&self, sample: &str) -> f64 {
        self.process().metric(sample).await.unwrap()
    }

    async fn counts(&self, sample: &str, number: f64) {
        until(&format!("{sample} is {number}"), async || {
            (self.count(sample).await == number).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_drain_of_a_pod_is_measured_and_an_end_that_comes_too_early_is_counted() {
    let installed = Installed::with(&["--measure-drain"]).await;
    let arn = installed.bind("web").await;
    let (scaled, forced) = ("10.0.0.51", "10.0.0.52");
    let set = installed.replica_set("web").await;
    for (name, ip) in [("scaled", scaled), ("forced", forced)] {
        installed.open_pod_on_a_node(&arn, &set, name, ip).await;
    }

    installed.scale_down("scaled").await;
    let elb = &installed.elb;
    elb.deregister(&arn, scaled.parse().unwrap(), PORT).unwrap();
    installed.counts(SEEN, 1.0).await;
    assert_eq!(installed.count(EARLY).await, 0.0);

    // Its kubelet, which had 30 s, is done: the application had ended by itself.
    installed.remove("scaled").await;
    installed.counts(EARLY, 1.0).await;
    installed.remove("forced").await;
    installed.counts(EARLY, 2.0).await;
    assert_eq!(installed.count(SEEN).await, 1.0);

    let (namespace, uid) = (&installed.cluster.namespace, set.uid().unwrap());
    let event = installed.told(namespace, &uid, "EndedEarly").await;
    let note = event.note.unwrap();
    // Pods whose ends one look finds are told of together.
    let starts = [
        "Pod scaled: The pod ended ",
        "2 pods, such as scaled: The pod ended ",
    ];
    assert!(starts.iter().any(|start| note.starts_with(start)), "{note}");
    assert!(note.contains("and its ALB needs 20 s"), "{note}");
}
