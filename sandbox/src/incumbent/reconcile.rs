//! One reconcile of one binding, in the incumbent's order.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use aws_sdk_elasticloadbalancingv2 as elbv2;
use elbv2::error::{BoxError, DisplayErrorContext};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::FINALIZER;
use super::world::World;
use crate::binding::TargetGroupBinding;
use crate::condition::is_true;
use crate::group_calls::GroupCalls;
use crate::targets::{Backend, Target, takes_addresses};

/// The prefix of its gates, which the binding's name completes.
const GATE: &str = "target-health.elbv2.k8s.aws";
/// The message of a gate whose binding has no targets any more.
const DELETED: &str = "Target Group Binding is deleted";
/// The errors of a cleanup that it passes over.
const PASSED_OVER: [&str; 3] = ["TargetGroupNotFound", "InvalidTarget", "ValidationError"];

#[derive(Clone)]
pub(super) struct Reconciler {
    pub(super) world: Arc<World>,
    pub(super) client: Client,
    pub(super) elb: elbv2::Client,
}

impl Reconciler {
    pub(super) async fn reconcile(
        &self,
        key: &ObjectRef<TargetGroupBinding>,
    ) -> anyhow::Result<()> {
        let Some(binding) = self.world.bindings.get(key) else {
            return Ok(());
        };
        let is_deleted = binding.metadata.deletion_timestamp.is_some();
        match (is_deleted, has_finalizer(&binding)) {
            (true, true) => {
                self.clean_up(&binding).await?;
                return self.set_finalizer(&binding, false).await;
            }
            (true, false) => return Ok(()),
            (false, true) => {}
            (false, false) => self.set_finalizer(&binding, true).await?,
        }
        if !takes_addresses(&binding) {
            return Ok(());
        }
        match Backend::of(&binding, &self.world.services.state()) {
            Some(backend) => self.converge(&binding, &backend).await,
            None => self.clean_up(&binding).await,
        }
    }

    /// Deregisters what it does not want, and only then registers what is missing.
    async fn converge(
        &self,
        binding: &TargetGroupBinding,
        backend: &Backend,
    ) -> anyhow::Result<()> {
        let Some(group) = self.group(binding) else {
            return Ok(());
        };
        let pods = self.world.pods.state();
        let wanted: BTreeSet<Target> = backend.targets(&pods).collect();
        let registered = group.describe().await.map_err(failed)?;
        let unwanted: Vec<Target> = registered.difference(&wanted).copied().collect();
        group.deregister(&unwanted).await.map_err(failed)?;
        let missing: Vec<Target> = wanted.difference(&registered).copied().collect();
        group.register(&missing).await.map_err(failed)
    }

    /// Empties the group, whoever registered its targets, and opens the gates.
    async fn clean_up(&self, binding: &TargetGroupBinding) -> anyhow::Result<()> {
        if let Some(group) = self.group(binding) {
            match empty(&group).await {
                Err(error) if !is_passed_over(&error) => return Err(failed(error)),
                _ => {}
            }
        }
        self.open_gates(binding).await
    }

    async fn open_gates(&self, binding: &TargetGroupBinding) -> anyhow::Result<()> {
        let gate = format!("{GATE}/{}", binding.name_any());
        for pod in self.world.pods.state() {
            if pod.namespace() == binding.namespace()
                && has_gate(&pod, &gate)
                && !is_true(&pod, &gate)
            {
                self.open(&pod, &gate).await?;
            }
        }
        Ok(())
    }

    async fn open(&self, pod: &Pod, gate: &str) -> anyhow::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace_of(pod));
        let condition = json!({"type": gate, "status": "True", "message": DELETED});
        let patch = json!({
            "metadata": {"uid": pod.metadata.uid},
            "status": {"conditions": [condition]},
        });
        let (name, params) = (pod.name_any(), PatchParams::default());
        let patch = Patch::Strategic(patch);
        let opened = api.patch_status(&name, &params, &patch).await;
        unless_gone(opened).with_context(|| format!("cannot open the gate {gate}"))
    }

    /// Adds or removes its finalizer, on the version of the binding that it knows.
    async fn set_finalizer(
        &self,
        binding: &TargetGroupBinding,
        present: bool,
    ) -> anyhow::Result<()> {
        let mut finalizers = binding.finalizers().to_vec();
        finalizers.retain(|name| name != FINALIZER);
        if present {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = json!({"metadata": {
            "resourceVersion": binding.metadata.resource_version,
            "finalizers": finalizers,
        }});
        let namespace = namespace_of(binding);
        let api: Api<TargetGroupBinding> = Api::namespaced(self.client.clone(), &namespace);
        let (name, params) = (binding.name_any(), PatchParams::default());
        let patched = api.patch(&name, &params, &Patch::Merge(patch)).await;
        unless_gone(patched).context("cannot patch the finalizers of the binding")
    }

    fn group(&self, binding: &TargetGroupBinding) -> Option<GroupCalls> {
        let arn = binding.spec.target_group_arn.clone()?;
        Some(GroupCalls::new(self.elb.clone(), arn))
    }
}

async fn empty(group: &GroupCalls) -> Result<(), BoxError> {
    let registered: Vec<Target> = group.describe().await?.into_iter().collect();
    group.deregister(&registered).await
}

fn has_finalizer(binding: &TargetGroupBinding) -> bool {
    binding.finalizers().iter().any(|name| name == FINALIZER)
}

fn has_gate(pod: &Pod, gate: &str) -> bool {
    let gates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten());
    gates.into_iter().any(|found| found.condition_type == gate)
}

fn namespace_of(object: &impl kube::Resource) -> String {
    object.meta().namespace.clone().unwrap_or_default()
}

/// A patch of an object that is gone has nothing left to do.
fn unless_gone<T>(patched: kube::Result<T>) -> kube::Result<()> {
    match patched {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

fn is_passed_over(error: &BoxError) -> bool {
    let text = DisplayErrorContext(&**error).to_string();
    PASSED_OVER.iter().any(|code| text.contains(code))
}

fn failed(error: BoxError) -> anyhow::Error {
    anyhow::anyhow!("{}", DisplayErrorContext(&*error))
}
