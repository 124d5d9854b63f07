//! Simulated tests: time paused, with a stub of a kubelet.

use k8s_openapi::api::apps::v1::DeploymentStatus;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::api::{self, Api as Server};

/// The deadline of every wait here. Chosen, far above what any of them takes.
const ENOUGH: Duration = Duration::from_secs(60);

fn deployment(version: &str) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 4,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"version": version}},
                "spec": {"containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]},
            },
        },
    })
}

fn parsed(version: &str) -> Deployment {
    serde_json::from_value(deployment(version)).unwrap()
}

#[test]
fn the_hash_changes_with_the_template_alone() {
    let mut scaled = parsed("1");
    scaled.spec.as_mut().unwrap().replicas = Some(9);
    assert_eq!(template_hash(&parsed("1")), template_hash(&scaled));
    assert_ne!(template_hash(&parsed("1")), template_hash(&parsed("2")));
}

/// A controller, and a stub kubelet whose pods become ready and end, each step a second later.
struct World {
    pods: Api<Pod>,
    deployments: Api<Deployment>,
    _actors: JoinSet<()>,
}

impl World {
    fn start(ports: Ports) -> Self {
        let client = Server::new(api::Options::default()).client();
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        let options = Options {
            ports,
            ..Options::default()
        };
        let mut actors = JoinSet::new();
        actors.spawn(run(client.clone(), options));
        actors.spawn(play_kubelet(pods.clone()));
        Self {
            pods,
            deployments: Api::default_namespaced(client),
            _actors: actors,
        }
    }

    async fn create(&self) {
        let params = PostParams::default();
        self.deployments
            .create(&params, &parsed("1"))
            .await
            .unwrap();
    }

    async fn patch(&self, patch: Value) {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.deployments
            .patch("web", &params, &patch)
            .await
            .unwrap();
    }

    /// Waits until the newest generation is rolled out. Returns the fewest pods that were ready
    /// meanwhile.
    async fn rolled(&self) -> usize {
        let mut fewest = usize::MAX;
        let rolled = async {
            loop {
                let deployment = self.deployments.get("web").await.unwrap();
                let status = deployment.status.unwrap_or_default();
                fewest = fewest.min(self.ready().await);
                if status.observed_generation == deployment.metadata.generation && complete(&status)
                {
                    return fewest;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(ENOUGH, rolled).await.unwrap()
    }

    async fn ready(&self) -> usize {
        let pods = self.pods.list(&ListParams::default()).await.unwrap();
        pods.iter().filter(|pod| is_ready(pod)).count()
    }
}

fn complete(status: &DeploymentStatus) -> bool {
    status.available_replicas == Some(4)
        && status.updated_replicas == Some(4)
        && status.replicas == Some(4)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "Ready")
        })
}

async fn play_kubelet(pods: Api<Pod>) {
    loop {
        sleep(Duration::from_secs(1)).await;
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            let name = pod.name_any();
            if pod.metadata.deletion_timestamp.is_some() {
                let now = DeleteParams::default().grace_period(0);
                pods.delete(&name, &now).await.unwrap();
            } else if !is_ready(&pod) {
                let ready =
                    json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
                let (params, ready) = (PatchParams::default(), Patch::Strategic(ready));
                pods.patch_status(&name, &params, &ready).await.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_template_replaces_every_pod_and_none_is_missed() {
    let world = World::start(Ports::AsInTemplate);
    world.create().await;
    world.rolled().await;
    world
        .patch(json!({"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}))
        .await;
    assert_eq!(world.rolled().await, 4);
    let pods = world.pods.list(&ListParams::default()).await.unwrap();
    let live = pods.iter().filter(|pod| is_ready(pod));
    let versions: Vec<&str> = live
        .map(|pod| pod.annotations()["version"].as_str())
        .collect();
    assert_eq!(versions, ["2"; 4]);
}

#[tokio::test(start_paused = true)]
async fn the_pods_of_a_deployment_that_is_gone_are_deleted() {
    let world = World::start(Ports::AsInTemplate);
    world.create().await;
    world.rolled().await;
    let params = DeleteParams::default();
    world.deployments.delete("web", &params).await.unwrap();
    let gone = async {
        while world
            .pods
            .list(&ListParams::default())
            .await
            .unwrap()
            .iter()
            .count()
            > 0
        {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(ENOUGH, gone).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn where_pods_share_an_address_each_has_its_own_port() {
    let world = World::start(Ports::OnePerPod);
    world.create().await;
    world.rolled().await;
    let mut ports = std::collections::BTreeSet::new();
    for pod in world.pods.list(&ListParams::default()).await.unwrap() {
        let container = &pod.spec.unwrap().containers[0];
        ports.insert(container.ports.as_ref().unwrap()[0].container_port);
    }
    assert_eq!(ports.len(), 4);
    assert!(!ports.contains(&8080));
}
