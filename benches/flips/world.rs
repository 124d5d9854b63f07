//! The environment of a row: one real control plane for all rows, and for each row a namespace, an ELB and a
//! targetgate process of its own.
//!
//! Each part that costs CPU besides the product has a thread of its own, which [`crate::usage`] counts by its
//! name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kube::Client;
use serde_json::{Value, json};
use targetgate_sandbox::controlplane::{self, ControlPlane};
use targetgate_sandbox::elb::check::{Check, CheckOutcome, Probe};
use targetgate_sandbox::elb::{Delays, LoadBalancerKind, Options, TargetGroupSpec};
use targetgate_sandbox::harness::waiting::try_until;
use targetgate_sandbox::harness::{Aws, Claim, Cluster, Parts, Process, Start, define_bindings};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::observer::Observer;
use crate::requests::{create, each};

/// The requests that are in flight while a row is prepared. Chosen.
pub(crate) const AT_ONCE: usize = 32;
/// The node of the pods. No kubelet runs there: the bench writes their status.
const NODE: &str = "flips";
const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");

/// The time from a registration until the load balancer knows the target, as in an ALB.
const REGISTRATION: Duration = Duration::from_secs(4);
/// The interval of checks. A target's first check begins within this time after that, at a moment that the seed
/// decides.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The duration of a check. With the two above, a target is healthy 20 to 25 s after its registration.
const CHECK: Duration = Duration::from_secs(16);

/// The control plane, and the objects that all rows share.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    claim: Claim,
    // The last field, so that it is dropped last: it stops the control plane.
    control_plane: ControlPlane,
}

impl World {
    /// Starts the control plane, with kube-controller-manager.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let options = controlplane::Options {
            controller_manager: true,
            webhook_users: vec![],
        };
        let control_plane = ControlPlane::start(options).await?;
        let cluster = Cluster {
            client: control_plane.client().await?,
            kubeconfig: control_plane.kubeconfig().to_owned(),
            sandbox: false,
        };
        let claim = Claim::new(cluster.client.clone());
        define_bindings(Path::new(BINARY), &claim).await?;
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        claim.create(node).await?;
        Ok(Self {
            cluster,
            claim,
            control_plane,
        })
    }

    /// Removes the objects that all rows share.
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        self.claim.remove().await
    }
}

/// The namespace of one row.
pub(crate) struct Place {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) claim: Claim,
    pub(crate) observer: Observer,
    watch: Background,
}

impl Place {
    /// Creates a namespace that has opted in, and watches its pods.
    pub(crate) async fn new(world: &World, name: &str) -> anyhow::Result<Self> {
        let namespace = format!("flips-{name}");
        let claim = Claim::new(world.cluster.client.clone());
        let object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": namespace,
                "labels": {"elbv2.k8s.aws/pod-readiness-gate-inject": "enabled"},
            },
        });
        claim.create(object).await?;
        let observer = Observer::new();
        let watch = Background::new("observer")?;
        // A client belongs to the runtime on which it is first used.
        let client = world.control_plane.client().await?;
        let watching = observer.clone().watch(client, namespace.clone());
        watch.runtime().spawn(async move {
            if let Err(error) = watching.await {
                println!("the observer has failed: {error:#}");
            }
        });
        Ok(Self {
            client: world.cluster.client.clone(),
            namespace,
            claim,
            observer,
            watch,
        })
    }

    /// The path of a kind's objects in the namespace, by group and version and by plural.
    pub(crate) fn path(&self, group_version: &str, plural: &str) -> String {
        let root = match group_version {
            "v1" => "api",
            _ => "apis",
        };
        format!(
            "/{root}/{group_version}/namespaces/{}/{plural}",
            self.namespace
        )
    }

    /// The path of the bindings in the namespace.
    pub(crate) fn bindings(&self) -> String {
        self.path("elbv2.k8s.aws/v1beta1", "targetgroupbindings")
    }

    /// Creates a Service for each name, which selects the pods with this name as label.
    pub(crate) async fn services(&self, names: &[String]) -> anyhow::Result<()> {
        let path = self.path("v1", "services");
        each(AT_ONCE, names, async |name| {
            let service = json!({
                "metadata": {"name": name},
                "spec": {
                    "selector": {"app": name},
                    "ports": [{"port": 80, "targetPort": 8080}],
                },
            });
            create(&self.client, &path, &service).await
        })
        .await?;
        Ok(())
    }

    /// Deletes the namespace with all objects in it, and the other objects of the row.
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        drop(self.watch);
        self.claim.remove().await
    }
}

/// A pod of a group, as a client creates it.
pub(crate) fn pod(name: &str, group: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"app": group}},
        "spec": {
            "nodeName": NODE,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "web",
                "image": "registry.example/web:1.0.0",
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": [{"name": "GROUP", "value": group}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            }],
        },
    })
}

/// targetgate as its own process, and the ELB that it calls.
pub(crate) struct Gate {
    pub(crate) aws: Aws,
    // These fields end their processes and threads when they are dropped.
    _product: Process,
    _parts: Parts,
    _elb: Background,
    _directory: TempDir,
}

impl Gate {
    /// Starts targetgate and its ELB, and makes the cluster call the hooks. `seed` decides when targets become
    /// healthy.
    pub(crate) async fn start(world: &World, place: &Place, seed: u64) -> anyhow::Result<Self> {
        let elb = Background::new("elb")?;
        let serving = elb.runtime().spawn(async move {
            let mut parts = Parts::default();
            let aws = Aws::start_with(&mut parts, options(seed)).await?;
            anyhow::Ok((parts, aws))
        });
        let (parts, aws) = serving.await??;
        let directory = tempfile::tempdir()?;
        let start = Start::new(Path::new(BINARY), directory.path(), &place.namespace);
        let product = start.process(&world.cluster, &aws).await?;
        start.register_hooks(product.hooks, &place.claim).await?;
        Ok(Self {
            aws,
            _product: product,
            _parts: parts,
            _elb: elb,
            _directory: directory,
        })
    }

    /// Creates a target group for each name, behind one load balancer. Returns their ARNs.
    pub(crate) fn target_groups(&self, names: &[String]) -> anyhow::Result<Vec<String>> {
        let elb = &self.aws.elb;
        let create = |name: &String| elb.create_target_group(TargetGroupSpec::http(name));
        let arns: Vec<String> = names.iter().map(create).collect();
        let balancer = elb.create_load_balancer("flips", LoadBalancerKind::Application, &[]);
        let forward: Vec<(&str, u32)> = arns.iter().map(|arn| (arn.as_str(), 1)).collect();
        elb.add_listener(&balancer, &forward)?;
        Ok(arns)
    }

    /// Waits until a pod of the group would get its gate: the API server calls the hooks, and they know the
    /// binding.
    pub(crate) async fn gives_gates(&self, place: &Place, group: &str) -> anyhow::Result<()> {
        let path = format!("{}?dryRun=All", place.path("v1", "pods"));
        try_until("the hook to give a gate", async || {
            let made = create(&place.client, &path, &pod("probe", group)).await?;
            Ok(!made.spec.readiness_gates.is_empty())
        })
        .await
    }
}

fn options(seed: u64) -> Options {
    let delays = Delays {
        registration: REGISTRATION,
        health_check_interval: CHECK_INTERVAL,
        health_check_timeout: CHECK * 2,
        ..Delays::alb()
    };
    Options {
        probe: Arc::new(SlowPass),
        delays,
        seed,
        ..Options::default()
    }
}

/// A probe by which each target passes each check, without a socket.
struct SlowPass;

impl Probe for SlowPass {
    fn check(&self, _: &Check) -> BoxFuture<'static, CheckOutcome> {
        Box::pin(async {
            sleep(CHECK).await;
            CheckOutcome::Passed
        })
    }
}

/// A thread of a known name, with a runtime of its own.
struct Background(Option<Runtime>);

impl Background {
    fn new(name: &str) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("it is taken only by the drop")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // The dropping thread may run the tasks of others, so it must not wait for those of this runtime.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
