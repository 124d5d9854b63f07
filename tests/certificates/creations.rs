//! Creates pods continually, each over a connection of its own, and compares what kube-apiserver counts of
//! their reviews.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::api::{Api, DeleteParams, PostParams};
use targetgate_sandbox::harness::waiting::until;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::replica::Replica;
use crate::world::{World, name, pod};

/// A task that creates pods until it is stopped.
pub(crate) struct Creations {
    world: Arc<World>,
    made: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    /// What kube-apiserver had counted before: reviews, and failed reviews.
    before: (f64, f64),
    handshakes_before: usize,
}

/// The counts at the end.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Pods that were created.
    pub(crate) pods: usize,
    /// Reviews that kube-apiserver sent, and to which it got an answer.
    pub(crate) reviews: usize,
    /// Connections that kube-apiserver made for the reviews.
    pub(crate) handshakes: usize,
    /// Reviews that failed, as kube-apiserver counts them.
    pub(crate) failures: usize,
}

impl Creations {
    /// Begins once kube-apiserver calls the hook.
    pub(crate) async fn begin(world: &Arc<World>) -> Self {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        until("the API server asks the hook", async || {
            world.api().create(&dry, &pod()).await.unwrap();
            (reviews(world).await > 0.0).then_some(())
        })
        .await;
        world.proxy.cut().await;
        let before = (reviews(world).await, failures(world).await);
        let made = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = oneshot::channel();
        Self {
            handshakes_before: world.proxy.taken(),
            running: tokio::spawn(create(world.clone(), made.clone(), stopped)),
            world: world.clone(),
            made,
            stop,
            before,
        }
    }

    /// Waits until `pods` more pods have been created.
    pub(crate) async fn more(&self, pods: usize) {
        let wanted = self.made.load(Ordering::Relaxed) + pods;
        until("pods are created", async || {
            assert!(!self.running.is_finished(), "a creation failed");
            (self.made.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Stops the task, and counts.
    pub(crate) async fn end(self) -> Tally {
        // A task that has failed is reported by the next line.
        let _ = self.stop.send(());
        self.running.await.unwrap();
        let (reviews_before, failures_before) = self.before;
        Tally {
            pods: self.made.load(Ordering::Relaxed),
            reviews: (reviews(&self.world).await - reviews_before) as usize,
            handshakes: self.world.proxy.taken() - self.handshakes_before,
            failures: (failures(&self.world).await - failures_before) as usize,
        }
    }
}

impl Tally {
    /// Fails unless each creation was reviewed by one of the replicas, over a connection of its own, and no
    /// review failed.
    pub(crate) fn is_clean(&self, replicas: &[&Replica]) {
        if self.failures > 0 {
            let logs: Vec<_> = replicas.iter().map(|replica| replica.log()).collect();
            panic!("{self:?}\n{}", logs.join("\n"));
        }
        assert_eq!(self.reviews, self.pods, "{self:?}");
        assert!(self.handshakes >= self.pods, "{self:?}");
    }
}

async fn create(world: Arc<World>, made: Arc<AtomicUsize>, mut stopped: oneshot::Receiver<()>) {
    let pods: Api<_> = world.api();
    while stopped.try_recv().is_err() {
        let created = pods.create(&PostParams::default(), &pod()).await.unwrap();
        made.fetch_add(1, Ordering::Relaxed);
        let at_once = DeleteParams::default().grace_period(0);
        pods.delete(&name(&created), &at_once).await.unwrap();
        world.proxy.cut().await;
    }
}

/// Reviews that were answered.
pub(crate) async fn reviews(world: &World) -> f64 {
    let hook = format!("name=\"{}\"", world.pod_hook());
    let labels = [hook.as_str(), "code=\"200\"", "rejected=\"false\""];
    world
        .metric("apiserver_admission_webhook_request_total", &labels)
        .await
}

/// Reviews that failed, whether the pod was then admitted or not.
pub(crate) async fn failures(world: &World) -> f64 {
    let hook = format!("name=\"{}\"", world.pod_hook());
    let open = "apiserver_admission_webhook_fail_open_count";
    let rejected = "apiserver_admission_webhook_rejection_count";
    world.metric(open, &[&hook]).await + world.metric(rejected, &[&hook]).await
}
