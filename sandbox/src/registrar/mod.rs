//! A registrar, as the incumbent is one: it registers pods as targets of target groups.
//!
//! It follows each `TargetGroupBinding` of target type `ip`. It registers the pods that the
//! binding's Service selects once their containers are ready, and deregisters those that are being
//! deleted or are gone. It reads pods rather than EndpointSlices, because a real API server refuses
//! loopback addresses in EndpointSlices.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2 as elbv2;
use elbv2::error::{BoxError, DisplayErrorContext};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use kube::runtime::reflector::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::binding::TargetGroupBinding;
use crate::group_calls::GroupCalls;
use crate::targets::{Target, targets_of};
use crate::watched::{is_listed, scoped, watched};

/// The pause after a call that failed. Chosen.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Options {
    /// From a change to the calls that follow from it. Changes in the meantime share them.
    pub delay: Duration,
    /// The namespace whose bindings it follows; `None` means all namespaces.
    pub namespace: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(200),
            namespace: None,
        }
    }
}

/// Keeps the target group of every binding in line with its pods, until it is dropped. It logs
/// errors of the API server or of ELB and tries again; errors of one group do not delay the others.
pub async fn run(client: Client, elb: elbv2::Client, options: Options) {
    let namespace = options.namespace.as_deref();
    let (bindings, binding_changes) = watched::<TargetGroupBinding>(scoped(&client, namespace));
    let (services, service_changes) = watched::<Service>(scoped(&client, namespace));
    let (pods, pod_changes) = watched::<Pod>(scoped(&client, namespace));
    let world = World {
        bindings,
        services,
        pods,
    };
    let mut groups = Groups {
        elb,
        delay: options.delay,
        desired: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let changes = stream::select(service_changes, pod_changes);
    let mut changes = pin!(stream::select(binding_changes, changes));
    loop {
        tokio::select! {
            Some(()) = changes.next() => if let Some(desired) = world.desired() {
                groups.set(desired);
            },
            Some(_) = groups.tasks.join_next() => {}
        }
    }
}

struct World {
    bindings: Store<TargetGroupBinding>,
    services: Store<Service>,
    pods: Store<Pod>,
}

impl World {
    /// The targets that each group should have, by ARN. `None` until all initial lists have been
    /// received, because before then a target may belong to a pod that is not known yet.
    fn desired(&self) -> Option<BTreeMap<String, BTreeSet<Target>>> {
        let listed =
            is_listed(&self.bindings) && is_listed(&self.services) && is_listed(&self.pods);
        if !listed {
            return None;
        }
        let (services, pods) = (self.services.state(), self.pods.state());
        let mut desired: BTreeMap<String, BTreeSet<Target>> = BTreeMap::new();
        for binding in self.bindings.state() {
            let Some(arn) = binding.spec.target_group_arn.clone() else {
                continue;
            };
            let targets = desired.entry(arn).or_default();
            if binding.metadata.deletion_timestamp.is_none() {
                targets.extend(targets_of(&binding, &services, &pods));
            }
        }
        Some(desired)
    }
}

/// The target groups that are followed, each by a task of its own.
struct Groups {
    elb: elbv2::Client,
    delay: Duration,
    desired: HashMap<String, watch::Sender<BTreeSet<Target>>>,
    tasks: JoinSet<()>,
}

impl Groups {
    /// Sets the targets that each group should have. A group that no binding names any more loses
    /// its targets, and is then no longer followed.
    fn set(&mut self, desired: BTreeMap<String, BTreeSet<Target>>) {
        self.desired.retain(|arn, sender| {
            let bound = desired.contains_key(arn);
            if !bound {
                sender.send_replace(BTreeSet::new());
            }
            bound
        });
        for (arn, targets) in desired {
            match self.desired.get(&arn) {
                Some(sender) => {
                    sender.send_if_modified(|current| {
                        let differs = *current != targets;
                        *current = targets;
                        differs
                    });
                }
                None => self.begin(arn, targets),
            }
        }
    }

    fn begin(&mut self, arn: String, targets: BTreeSet<Target>) {
        let (sender, desired) = watch::channel(targets);
        let group = Group {
            calls: GroupCalls::new(self.elb.clone(), arn.clone()),
            registered: None,
        };
        self.tasks.spawn(group.keep(self.delay, desired));
        self.desired.insert(arn, sender);
    }
}

struct Group {
    calls: GroupCalls,
    /// The registered targets as far as they are known; `None` before the first call that describes
    /// them, and after a call that failed.
    registered: Option<BTreeSet<Target>>,
}

impl Group {
    /// Follows `desired` until its sender is dropped.
    async fn keep(mut self, delay: Duration, mut desired: watch::Receiver<BTreeSet<Target>>) {
        loop {
            sleep(delay).await;
            let targets = desired.borrow_and_update().clone();
            if let Err(error) = self.converge(&targets).await {
                tracing::warn!(arn = self.calls.arn(), error = %DisplayErrorContext(&*error), "cannot bring the target group in line with its pods; trying again");
                self.registered = None;
                if desired.has_changed().is_err() {
                    return;
                }
                sleep(AGAIN).await;
            } else if desired.changed().await.is_err() {
                return;
            }
        }
    }

    async fn converge(&mut self, desired: &BTreeSet<Target>) -> Result<(), BoxError> {
        let registered = match self.registered.take() {
            Some(registered) => registered,
            None => self.calls.describe().await?,
        };
        let new: Vec<Target> = desired.difference(&registered).copied().collect();
        self.calls.register(&new).await?;
        let old: Vec<Target> = registered.difference(desired).copied().collect();
        self.calls.deregister(&old).await?;
        self.registered = Some(desired.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
