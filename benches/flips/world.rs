//! What a row runs in: one real control plane for all, and for each row a namespace, an ELB and a
//! targetgate process of its own.
//!
//! Each part that costs CPU beside the product has a thread of its own, which [`crate::usage`] counts
//! by its name.

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

/// Requests that prepare a row, at once.
pub(crate) const AT_ONCE: usize = 32;
/// Where pods say that they run. Nothing runs there: the bench writes their status.
const NODE: &str = "flips";
const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");

/// From a registration until the load balancer knows the target, as at an ALB.
const REGISTRATION: Duration = Duration::from_secs(4);
/// A target's first check begins within this time after that, at a moment that the seed decides.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How long a check takes: with the two above a target is healthy 20 to 25 s after its registration.
const CHECK: Duration = Duration::from_secs(16);

/// The control plane, and what it has been given for all rows.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    claim: Claim,
    // Dropped last: it ends the rest.
    control_plane: ControlPlane,
}

impl World {
    /// Starts it, with kube-controller-manager.
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

    /// Removes what all rows shared.
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        self.claim.remove().await
    }
}

/// The place of one row.
pub(crate) struct Place {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) claim: Claim,
    pub(crate) observer: Observer,
    watch: Background,
}

impl Place {
    /// Makes a namespace that asks for gates, and watches its pods.
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
        // A client lives on the runtime that it is first used on.
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

    /// The collection of a kind in the namespace, by its group and version and its plural.
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

    /// The collection of bindings in the namespace.
    pub(crate) fn bindings(&self) -> String {
        self.path("elbv2.k8s.aws/v1beta1", "targetgroupbindings")
    }

    /// Makes a Service for each name that selects the pods labelled with it.
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

    /// Removes the namespace with all that is in it, and what else was made for the row.
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

/// targetgate, as its own process, and the ELB that it asks.
pub(crate) struct Gate {
    pub(crate) aws: Aws,
    // They end when this is dropped.
    _product: Process,
    _parts: Parts,
    _elb: Background,
    _directory: TempDir,
}

impl Gate {
    /// Starts both, and makes the cluster ask the hooks. `seed` decides when targets turn healthy.
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

    /// Makes a target group for each name, behind one load balancer. Returns their ARNs.
    pub(crate) fn target_groups(&self, names: &[String]) -> anyhow::Result<Vec<String>> {
        let elb = &self.aws.elb;
        let create = |name: &String| elb.create_target_group(TargetGroupSpec::http(name));
        let arns: Vec<String> = names.iter().map(create).collect();
        let balancer = elb.create_load_balancer("flips", LoadBalancerKind::Application, &[]);
        let forward: Vec<(&str, u32)> = arns.iter().map(|arn| (arn.as_str(), 1)).collect();
        elb.add_listener(&balancer, &forward)?;
        Ok(arns)
    }

    /// Waits until a pod of the group would get its gate: the hooks are asked, and know the binding.
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

/// Every target passes every check, without a socket.
struct SlowPass;

impl Probe for SlowPass {
    fn check(&self, _: &Check) -> BoxFuture<'static, CheckOutcome> {
        Box::pin(async {
            sleep(CHECK).await;
            CheckOutcome::Passed
        })
    }
}

/// A thread of a known name with a runtime of its own.
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
        // Waiting for its tasks is not for a thread that runs others'.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
