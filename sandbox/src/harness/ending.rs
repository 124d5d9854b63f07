//! How pods are ended other than by a rollout, and how they were told to end.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, EvictParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::object::field;
use super::site::Site;
use super::workload::Workload;

/// How a pod ends, by its spec and annotations.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    /// The seconds of the preStop sleep of its first container; `None` without a hook.
    pub sleep: Option<i64>,
    /// `terminationGracePeriodSeconds`.
    pub grace: Option<i64>,
    /// The annotation `targetgate.dev/drained`.
    pub drained: Option<String>,
}

impl Ending {
    pub fn of(pod: &DynamicObject) -> Self {
        let sleep = field(pod, "/spec/containers/0/lifecycle/preStop/sleep/seconds");
        let annotations = pod.metadata.annotations.as_ref();
        let drained = annotations.and_then(|all| all.get("targetgate.dev/drained"));
        Self {
            sleep: sleep.as_i64(),
            grace: field(pod, "/spec/terminationGracePeriodSeconds").as_i64(),
            drained: drained.cloned(),
        }
    }
}

impl Site {
    /// Waits until a new pod with these labels would get a sleep of this many seconds.
    pub async fn gives_sleep(&self, labels: Value, seconds: i64) {
        let sleeps = |pod: &_| Ending::of(pod).sleep == Some(seconds);
        self.gives("sleep", labels, sleeps).await;
    }

    /// Changes the number of replicas through the subresource `scale`, as `kubectl scale` and
    /// autoscalers do.
    pub async fn scale(&self, workload: &mut Workload, replicas: usize) {
        workload.replicas = replicas;
        let change = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let params = PatchParams::default();
        let api = self.api(workload.kind);
        let scaled = api.patch_scale(workload.name, &params, &change).await;
        scaled.unwrap();
    }

    /// Creates a PodDisruptionBudget that lets one pod with these labels be away.
    pub async fn budget(&self, name: &str, labels: Value) {
        let budget = json!({
            "metadata": { "name": name },
            "spec": { "maxUnavailable": 1, "selector": { "matchLabels": labels } },
        });
        let budget = serde_json::from_value(budget).unwrap();
        let api = self.api("PodDisruptionBudget");
        api.create(&PostParams::default(), &budget).await.unwrap();
    }

    /// Evicts these pods one after the other, each again while its budget refuses, as `kubectl drain`
    /// does. Returns how often a budget refused.
    pub async fn evict(&self, pods: &[DynamicObject]) -> usize {
        let client = self.cluster.impatient_client().await.unwrap();
        let api: Api<Pod> = Api::namespaced(client, &self.namespace);
        let mut refused = 0;
        for pod in pods {
            self.until("the eviction to be allowed", async || {
                let evicted = api.evict(&pod.name_any(), &EvictParams::default()).await;
                match evicted {
                    Ok(_) => Some(()),
                    Err(kube::Error::Api(status)) if status.code == 429 => {
                        refused += 1;
                        None
                    }
                    Err(error) => panic!("cannot evict {}: {error}", pod.name_any()),
                }
            })
            .await;
        }
        refused
    }
}
