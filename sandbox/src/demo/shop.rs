//! The application that is rolled: its objects, and waiting for their state.

use anyhow::Context;
use aws_sdk_elasticloadbalancingv2 as elbv2;
use elbv2::types::TargetHealthStateEnum;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::settings::REPLICAS;
use super::variant::Variant;
use crate::binding::{ServiceRef, TargetGroupBinding, TargetGroupBindingSpec};
use crate::harness::waiting::try_until;

/// The namespace of all its objects.
pub(super) const NAMESPACE: &str = "shop";
/// The name of the Service, the binding and the Deployment.
pub(super) const NAME: &str = "web";
/// The label by which a namespace opts in to gates.
pub(super) const LABEL: &str = "elbv2.k8s.aws/pod-readiness-gate-inject";
/// The label by which a namespace opts in to drain.
pub(super) const DRAIN_LABEL: &str = "targetgate.dev/drain";

pub(super) struct Shop {
    pub(super) client: Client,
    pub(super) elb: elbv2::Client,
    pub(super) target_group: String,
    /// The fields of a pod's spec that place it on the demo's nodes.
    pub(super) placement: Value,
}

impl Shop {
    /// Creates the objects that stay: the Service and the binding.
    pub(super) async fn open(&self, spec: TargetGroupBindingSpec) -> anyhow::Result<()> {
        let params = PostParams::default();
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": NAME},
            "spec": {
                "selector": {"app": NAME},
                "ports": [{"port": 80, "targetPort": "http"}],
            },
        }))?;
        self.api::<Service>()
            .create(&params, &service)
            .await
            .context("cannot make the Service")?;
        self.api::<TargetGroupBinding>()
            .create(&params, &TargetGroupBinding::new(NAME, spec))
            .await
            .context("cannot make the TargetGroupBinding; the API server must reach the hooks")?;
        Ok(())
    }

    /// The smallest valid binding. targetgate's binding hook fills in the rest.
    pub(super) fn least_binding(&self) -> TargetGroupBindingSpec {
        TargetGroupBindingSpec {
            target_group_arn: Some(self.target_group.clone()),
            target_type: None,
            service_ref: ServiceRef {
                name: NAME.to_owned(),
                port: None,
            },
        }
    }

    /// Deletes all pods and waits until the targets are gone, then creates the pods of the variant
    /// and waits until all of them are `Ready` and their targets healthy.
    pub(super) async fn reset(&self, variant: &Variant) -> anyhow::Result<()> {
        let deployments = self.api::<Deployment>();
        match deployments.delete(NAME, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            answer => drop(answer.context("cannot delete the Deployment")?),
        }
        try_until("the former pods and targets to go", async || {
            let pods = self.api::<Pod>().list(&ListParams::default()).await?;
            Ok(pods.items.is_empty() && self.targets().await? == Targets::default())
        })
        .await?;
        self.label(variant).await?;
        deployments
            .create(&PostParams::default(), &self.deployment(variant)?)
            .await
            .context("cannot make the Deployment")?;
        self.rolled().await?;
        self.settled().await
    }

    /// Rolls the Deployment as `kubectl rollout restart` does.
    pub(super) async fn restart(&self) -> anyhow::Result<()> {
        let at = Timestamp::now().to_string();
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": at});
        let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
        self.api::<Deployment>()
            .patch(NAME, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .context("cannot restart the Deployment")?;
        Ok(())
    }

    /// Waits for what `kubectl rollout status` waits for.
    pub(super) async fn rolled(&self) -> anyhow::Result<()> {
        let api = self.api::<Deployment>();
        try_until("the rollout to complete", async || {
            Ok(is_rolled(&api.get(NAME).await?))
        })
        .await
    }

    /// Waits until the targets are healthy and the group has no others.
    pub(super) async fn settled(&self) -> anyhow::Result<()> {
        let all = Targets {
            healthy: REPLICAS as usize,
            others: 0,
        };
        try_until(
            "every target to be healthy and the old ones to leave",
            async || Ok(self.targets().await? == all),
        )
        .await
    }

    fn deployment(&self, variant: &Variant) -> anyhow::Result<Deployment> {
        let pre_stop = variant.pre_stop.map(|time| {
            let seconds = time.as_secs_f64().to_string();
            json!({"preStop": {"exec": {"command": ["sleep", seconds]}}})
        });
        let mut pod = self.placement.clone();
        pod["terminationGracePeriodSeconds"] = json!(30);
        pod["containers"] = json!([{
            "name": NAME,
            "image": "sandbox/http",
            "ports": [{"name": "http", "containerPort": 8080}],
            "lifecycle": pre_stop.unwrap_or(Value::Null),
        }]);
        Ok(serde_json::from_value(json!({
            "metadata": {"name": NAME},
            "spec": {
                "replicas": REPLICAS,
                "selector": {"matchLabels": {"app": NAME}},
                "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {"metadata": {"labels": {"app": NAME}}, "spec": pod},
            },
        }))?)
    }

    /// The number of pods, those that are being deleted aside, of which a container has no preStop
    /// hook.
    pub(super) async fn without_pre_stop(&self) -> anyhow::Result<usize> {
        let pods = self.api::<Pod>().list(&ListParams::default()).await?;
        let live = pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(live.filter(|pod| !has_pre_stop(pod)).count())
    }

    async fn label(&self, variant: &Variant) -> anyhow::Result<()> {
        let gates = variant.gates.then_some("enabled");
        let drain = variant.drain.then_some("sleep");
        let labels = json!({LABEL: gates, DRAIN_LABEL: drain});
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        Api::<Namespace>::all(self.client.clone())
            .patch(NAMESPACE, &PatchParams::default(), &patch)
            .await
            .context("cannot label the namespace")?;
        Ok(())
    }

    async fn targets(&self) -> anyhow::Result<Targets> {
        let call = self.elb.describe_target_health();
        let answer = call.target_group_arn(&self.target_group).send().await?;
        let states = answer.target_health_descriptions().iter();
        let mut targets = Targets::default();
        for state in states.map(|target| target.target_health()?.state()) {
            match state {
                Some(TargetHealthStateEnum::Healthy) => targets.healthy += 1,
                _ => targets.others += 1,
            }
        }
        Ok(targets)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

/// The number of targets in the group.
#[derive(Debug, Default, PartialEq, Eq)]
struct Targets {
    healthy: usize,
    others: usize,
}

fn has_pre_stop(pod: &Pod) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.all(|container| {
        let lifecycle = container.lifecycle.as_ref();
        lifecycle.is_some_and(|lifecycle| lifecycle.pre_stop.is_some())
    })
}

fn is_rolled(deployment: &Deployment) -> bool {
    let status = deployment.status.clone().unwrap_or_default();
    let wanted = Some(i32::try_from(REPLICAS).unwrap_or(i32::MAX));
    status.observed_generation >= deployment.metadata.generation
        && status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
}
