//! Simulated tests: no socket, time paused.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::config::{BehaviorVersion, Credentials, Region};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::api::{self, Api as Server};
use crate::elb::{self, Elb, TargetGroupSpec};

/// The deadline of every wait here. Chosen, far above what any of them takes.
const ENOUGH: Duration = Duration::from_secs(60);

struct World {
    client: Client,
    elb: Elb,
    group: String,
    registrar: JoinSet<()>,
}

impl World {
    /// Starts the registrar after this many pods are ready.
    async fn start(pods: u16) -> Self {
        let client = Server::new(api::Options::default()).client();
        let elb = Elb::new(elb::Options::default());
        let group = elb.create_target_group(TargetGroupSpec::http("web"));
        let config = elbv2::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new(
                "sandbox", "sandbox", None, None, "sandbox",
            ))
            .http_client(elb.http_client())
            .build();
        let mut world = Self {
            client: client.clone(),
            elb,
            group,
            registrar: JoinSet::new(),
        };
        world.create_binding().await;
        for number in 0..pods {
            world.create_ready_pod(number).await;
        }
        let sdk = elbv2::Client::from_conf(config);
        world.registrar.spawn(run(client, sdk, Options::default()));
        world
    }

    async fn create_binding(&self) {
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let schema = json!({"type": "object", "properties": {"spec": open}});
        self.create::<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>(Api::all(self.client.clone()), json!({
            "metadata": {"name": "targetgroupbindings.elbv2.k8s.aws"},
            "spec": {
                "group": "elbv2.k8s.aws",
                "names": {"kind": "TargetGroupBinding", "plural": "targetgroupbindings"},
                "scope": "Namespaced",
                "versions": [{"name": "v1beta1", "served": true, "storage": true,
                              "schema": {"openAPIV3Schema": schema}}],
            },
        }))
        .await;
        self.create::<Service>(
            self.api(),
            json!({
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
            }),
        )
        .await;
        self.create::<TargetGroupBinding>(
            self.api(),
            json!({
                "apiVersion": "elbv2.k8s.aws/v1beta1",
                "kind": "TargetGroupBinding",
                "metadata": {"name": "web"},
                "spec": {
                    "targetGroupARN": self.group,
                    "targetType": "ip",
                    "serviceRef": {"name": "web", "port": 80},
                },
            }),
        )
        .await;
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::default_namespaced(self.client.clone())
    }

    async fn create<K>(&self, api: Api<K>, object: Value)
    where
        K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let object = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    /// Creates a pod whose containers are ready, at 10.0.x.y.
    async fn create_ready_pod(&self, number: u16) {
        let name = format!("web-{number}");
        self.create::<Pod>(
            self.api(),
            json!({
                "metadata": {"name": name, "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web"}]},
            }),
        )
        .await;
        let [x, y] = number.to_be_bytes();
        let ready = json!({"status": {
            "podIP": format!("10.0.{x}.{y}"),
            "conditions": [{"type": "ContainersReady", "status": "True"}],
        }});
        let (params, ready) = (PatchParams::default(), Patch::Strategic(ready));
        let pods: Api<Pod> = self.api();
        pods.patch_status(&name, &params, &ready).await.unwrap();
    }

    /// Waits until the group has these numbers of targets by state.
    async fn states(&self, wanted: &[(&str, usize)]) {
        let wanted: BTreeMap<String, usize> = wanted
            .iter()
            .map(|(state, count)| ((*state).to_owned(), *count))
            .collect();
        let reached = self.elb.until(|_| self.count_states() == wanted);
        let reached = timeout(ENOUGH, reached).await;
        assert!(reached.is_ok(), "{:?}, not {wanted:?}", self.count_states());
    }

    fn count_states(&self) -> BTreeMap<String, usize> {
        let mut last = BTreeMap::new();
        for entry in self.elb.log() {
            last.insert((entry.ip, entry.port), entry.to);
        }
        let mut counts = BTreeMap::new();
        for state in last.into_values().flatten() {
            *counts.entry(state.to_string()).or_insert(0) += 1;
        }
        counts
    }

    fn calls(&self, action: &str) -> usize {
        let calls = self.elb.calls();
        calls.iter().filter(|call| call.action == action).count()
    }
}

#[tokio::test(start_paused = true)]
async fn ready_pods_are_registered_in_batches_and_deleted_ones_deregistered() {
    let world = World::start(450).await;
    world.states(&[("unused", 450)]).await;
    assert_eq!(world.calls("RegisterTargets"), 3);

    let pods: Api<Pod> = world.api();
    pods.delete("web-7", &DeleteParams::default())
        .await
        .unwrap();
    world.states(&[("unused", 449)]).await;
    assert_eq!(world.calls("DeregisterTargets"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_targets_of_a_binding_that_is_gone_are_deregistered() {
    let world = World::start(2).await;
    world.states(&[("unused", 2)]).await;
    let bindings: Api<TargetGroupBinding> = world.api();
    bindings
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    world.states(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_made_again() {
    let world = World::start(2).await;
    let error = http::StatusCode::INTERNAL_SERVER_ERROR;
    let calls = elb::faults::On::action("RegisterTargets");
    world
        .elb
        .faults()
        .fail(calls, "InternalFailure", error, Some(10));
    world.states(&[("unused", 2)]).await;
    assert!(world.calls("RegisterTargets") > 10);
}
