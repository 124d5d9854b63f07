//! Its watches, and the queue: one worker for each binding, started by whatever changes.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2 as elbv2;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::reconcile::Reconciler;
use super::world::World;
use crate::binding::TargetGroupBinding;
use crate::watched::{scoped, watched};

/// The backoff of a binding that fails, and its largest step. The incumbent's defaults.
const FIRST_AGAIN: Duration = Duration::from_millis(5);
const LAST_AGAIN: Duration = Duration::from_secs(1_000);
/// How long a binding that was reconciled rests if nothing changes. The incumbent's pause while a gate
/// waits.
const REQUEUE: Duration = Duration::from_secs(15);

/// Reconciles every binding until it is dropped.
pub(super) async fn run(client: Client, elb: elbv2::Client, namespace: Option<String>) {
    let namespace = namespace.as_deref();
    let (bindings, binding_changes) = watched::<TargetGroupBinding>(scoped(&client, namespace));
    let (services, service_changes) = watched::<Service>(scoped(&client, namespace));
    let (pods, pod_changes) = watched::<Pod>(scoped(&client, namespace));
    let world = Arc::new(World {
        bindings,
        services,
        pods,
    });
    let mut queue = Queue {
        reconciler: Reconciler {
            world: Arc::clone(&world),
            client,
            elb,
        },
        workers: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let changes = stream::select(service_changes, pod_changes);
    let mut changes = pin!(stream::select(binding_changes, changes));
    loop {
        tokio::select! {
            Some(()) = changes.next() => if world.is_listed() {
                queue.start_all(&world);
            },
            Some(_) = queue.tasks.join_next() => {}
        }
    }
}

type Key = ObjectRef<TargetGroupBinding>;

struct Queue {
    reconciler: Reconciler,
    /// A worker ends when its sender is dropped.
    workers: HashMap<Key, watch::Sender<()>>,
    tasks: JoinSet<()>,
}

impl Queue {
    /// Has every binding reconciled. The original looks up which bindings a change concerns.
    fn start_all(&mut self, world: &World) {
        let bindings = world.bindings.state();
        let keys: Vec<Key> = bindings
            .iter()
            .map(|found| Key::from_obj(&**found))
            .collect();
        self.workers.retain(|key, _| keys.contains(key));
        for key in keys {
            match self.workers.get(&key) {
                Some(worker) => worker.send_replace(()),
                None => self.employ(key),
            }
        }
    }

    fn employ(&mut self, key: Key) {
        let (sender, changes) = watch::channel(());
        self.tasks
            .spawn(work(self.reconciler.clone(), key.clone(), changes));
        self.workers.insert(key, sender);
    }
}

async fn work(reconciler: Reconciler, key: Key, mut changes: watch::Receiver<()>) {
    let mut again = FIRST_AGAIN;
    loop {
        changes.mark_unchanged();
        let pause = match reconciler.reconcile(&key).await {
            Ok(()) => {
                again = FIRST_AGAIN;
                REQUEUE
            }
            Err(error) => {
                tracing::warn!(binding = %key, error = format!("{error:#}"), "the incumbent cannot reconcile a binding; trying again");
                again = (again * 2).min(LAST_AGAIN);
                again
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            () = sleep(pause) => {}
        }
    }
}
