//! targetgate as it is shipped: `deploy/crd` and `deploy/base` applied to the real API server, and the binary
//! as a process that has only the token of the shipped ServiceAccount. Only the address of the hooks and the CA
//! to trust are the test's own.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::elb::check::{CheckOutcome, ScriptedProbe};
use targetgate_sandbox::elb::{self, Elb, LoadBalancerKind, TargetGroupSpec};
use targetgate_sandbox::harness::{Process, Program};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

use crate::servers::{Cluster, Server, resource};

/// The turn of the test that has `deploy/base` installed, of which a cluster has one.
static TURN: Mutex<()> = Mutex::const_new(());
/// A counter that seeds the AWS of each test.
static ACCOUNTS: AtomicU64 = AtomicU64::new(1);
/// The namespace of the installation.
pub(crate) const NAMESPACE: &str = "targetgate-system";
/// The kinds of shipped objects that are namespaced. The others are cluster-scoped.
const NAMESPACED: [&str; 8] = [
    "ServiceAccount",
    "Service",
    "Deployment",
    "PodDisruptionBudget",
    "Lease",
    "Role",
    "RoleBinding",
    "Secret",
];
const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");
pub(crate) const PORT: u16 = 8080;
/// The shipped ServiceAccount, as the API server names it.
pub(crate) const ACCOUNT: &str = "system:serviceaccount:targetgate-system:targetgate";

/// A cluster in which everything except the hooks is installed, and an AWS. It belongs to one test until it is
/// dropped.
pub(crate) struct Site {
    /// The cluster, with a namespace that has opted in.
    pub(crate) cluster: Cluster,
    pub(crate) elb: Elb,
    /// All shipped objects, the webhook configurations included.
    pub(crate) shipped: Vec<Value>,
    /// The program that runs as the installation's pods.
    pub(crate) program: Program,
    #[expect(dead_code, reason = "held until dropped")]
    tasks: JoinSet<()>,
    turn: Option<MutexGuard<'static, ()>>,
}

impl Site {
    /// Installs the shipped objects on the control plane that all tests share.
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    /// Does the same, and adds these arguments to the program's.
    async fn with(arguments: &[&str]) -> Self {
        let turn = TURN.lock().await;
        let cluster = Server::Kubernetes.cluster().await;
        cluster.apply_crd().await;
        let mut site = Self::on(cluster, arguments).await;
        site.turn = Some(turn);
        site
    }

    /// Installs the shipped objects on a control plane that no other test uses, and adds these arguments to the
    /// program's. The caller chooses which CRDs of bindings are served.
    pub(crate) async fn on(cluster: Cluster, arguments: &[&str]) -> Self {
        let opt_in = "elbv2.k8s.aws/pod-readiness-gate-inject";
        cluster.label_namespace(opt_in, "enabled").await;
        let shipped = rendered();
        for object in shipped.iter().filter(|object| !is_hooks(object)) {
            apply(&cluster.client, object).await;
        }
        // Leftovers of the previous test are deleted: the program would wait for the holder of its Lease, which
        // was killed, and its hooks, which no process answers any more, would deny bindings.
        let leases = ["targetgate", "targetgate-certificates"];
        let mut left: Vec<_> = leases
            .map(|name| ("coordination.k8s.io", "Lease", name))
            .into();
        for object in shipped.iter().filter(|object| is_hooks(object)) {
            let kind = object["kind"].as_str().unwrap();
            left.push(("admissionregistration.k8s.io", kind, "targetgate"));
        }
        for (group, kind, name) in left {
            delete(&cluster.client, &resource(group, "v1", kind), name).await;
        }
        delete(
            &cluster.client,
            &resource("", "v1", "Secret"),
            "targetgate-tls",
        )
        .await;
        let mut tasks = JoinSet::new();
        let (elb, endpoint) = aws(&mut tasks).await;
        let kubeconfig = kubeconfig(&cluster).await;
        Self {
            cluster,
            elb,
            shipped,
            program: Program::new(
                Path::new(BINARY),
                NAMESPACE,
                kubeconfig,
                endpoint,
                arguments,
            )
            .unwrap(),
            tasks,
            turn: None,
        }
    }

    /// Registers the hooks at this address, merged with `more`. If the process itself keeps the bundle, they
    /// are registered without a CA, as shipped.
    pub(crate) async fn register_hooks(&self, hooks: SocketAddr, mut more: Value) {
        if let Some(ca) = &self.program.ca {
            let trusting = json!({ "clientConfig": { "caBundle": STANDARD.encode(ca) } });
            json_patch::merge(&mut more, &trusting);
        }
        for object in self.shipped.iter().filter(|object| is_hooks(object)) {
            let mut object = object.clone();
            redirect(&mut object, hooks, &more);
            apply(&self.cluster.client, &object).await;
        }
    }

    /// A target group behind a load balancer of its own.
    pub(crate) fn group(&self, name: &str) -> String {
        let delays = elb::Delays::alb().scaled(0.01);
        let spec = TargetGroupSpec::http(name).delays(delays);
        let arn = self.elb.create_target_group(spec);
        let balancer = self
            .elb
            .create_load_balancer(name, LoadBalancerKind::Application, &[]);
        self.elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
        arn
    }

    /// Registers a target, which is healthy from the first check on.
    pub(crate) fn register(&self, arn: &str, ip: &str) {
        self.elb.register(arn, ip.parse().unwrap(), PORT).unwrap();
    }

    /// The bindings of one API.
    pub(crate) fn bindings(&self, api: BindingApi) -> Api<DynamicObject> {
        let resource = resource(api.group(), api.version(), "TargetGroupBinding");
        self.cluster.dynamic(&resource)
    }
}

/// A running installation with one process, which ends when dropped.
pub(crate) struct Installed {
    /// The process, or `None` once it was killed.
    process: Option<Process>,
    site: Site,
}

impl Installed {
    /// Installs targetgate on the control plane that all tests share, starts it, and waits until it is ready
    /// and its hooks are registered.
    pub(crate) async fn new() -> Self {
        Self::started(Site::new().await).await
    }

    /// Does the same, and adds these arguments to the program's.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        Self::started(Site::with(arguments).await).await
    }

    /// Installs targetgate as [`Site::on`] does, starts it, and waits until it is ready.
    pub(crate) async fn on(cluster: Cluster, arguments: &[&str]) -> Self {
        Self::started(Site::on(cluster, arguments).await).await
    }

    /// Starts targetgate where it is installed, and waits until it is ready.
    pub(crate) async fn started(site: Site) -> Self {
        let installed = Self::without_hooks(site).await;
        let hooks = installed.process().hooks;
        installed.register_hooks(hooks, json!({})).await;
        installed
    }

    /// Starts the process of a site, and waits until it is ready. Its hooks are not registered.
    pub(crate) async fn without_hooks(site: Site) -> Self {
        let mut installed = Self {
            process: None,
            site,
        };
        installed.launch().await.ready().await.unwrap();
        installed
    }

    /// Starts the process, waits until it is ready, and registers its hooks.
    pub(crate) async fn start(&mut self) {
        self.launch().await.ready().await.unwrap();
        self.register_hooks(self.process().hooks, json!({})).await;
    }

    /// Starts the process, and waits until it listens.
    pub(crate) async fn launch(&mut self) -> &Process {
        self.kill();
        let started = self.site.program.start("targetgate-0").await;
        self.process.insert(started.unwrap())
    }

    /// Kills the process, as the death of its node would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }
}

impl Deref for Installed {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl DerefMut for Installed {
    fn deref_mut(&mut self) -> &mut Site {
        &mut self.site
    }
}

impl Cluster {
    /// Does what `kubectl apply --server-side -f deploy/crd` does.
    pub(crate) async fn apply_crd(&self) {
        let crd = include_str!("../../deploy/crd/targetgroupbindings.yaml");
        apply(&self.client, &serde_saphyr::from_str(crd).unwrap()).await;
    }
}

/// Renders what `kubectl kustomize deploy/base` prints. It knows the fields of kustomize that `deploy/base`
/// uses, and refuses others.
fn rendered() -> Vec<Value> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/base");
    let read = |name: &str| std::fs::read_to_string(base.join(name)).unwrap();
    let kustomization: Value = serde_saphyr::from_str(&read("kustomization.yaml")).unwrap();
    let known = ["apiVersion", "kind", "namespace", "labels", "resources"];
    let fields = kustomization.as_object().unwrap();
    assert!(fields.keys().all(|field| known.contains(&field.as_str())));
    let files = kustomization["resources"].as_array().unwrap();
    let files = files.iter().map(|file| read(file.as_str().unwrap()));
    let mut objects: Vec<Value> = files
        .flat_map(|file| serde_saphyr::from_multiple::<Value>(&file).unwrap())
        .collect();
    for object in &mut objects {
        let kind = object["kind"].as_str().unwrap();
        if NAMESPACED.contains(&kind) {
            object["metadata"]["namespace"] = kustomization["namespace"].clone();
        }
        for labels in kustomization["labels"].as_array().unwrap() {
            let added = json!({ "metadata": { "labels": labels["pairs"] } });
            json_patch::merge(object, &added);
        }
    }
    objects
}

fn is_hooks(object: &Value) -> bool {
    object["kind"]
        .as_str()
        .unwrap()
        .ends_with("WebhookConfiguration")
}

/// Does what `kubectl apply --server-side` does.
pub(crate) async fn apply(client: &Client, object: &Value) {
    let types = serde_json::from_value(object.clone()).unwrap();
    let gvk = kube::core::GroupVersionKind::try_from(&types).unwrap();
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("install").force();
    let applied = api.patch(name, &params, &Patch::Apply(object)).await;
    applied.unwrap_or_else(|error| panic!("{} {name}: {error}", gvk.kind));
}

/// Deletes an object, if it exists.
async fn delete(client: &Client, resource: &ApiResource, name: &str) {
    let api: Api<DynamicObject> = match NAMESPACED.contains(&resource.kind.as_str()) {
        true => Api::namespaced_with(client.clone(), NAMESPACE, resource),
        false => Api::all_with(client.clone(), resource),
    };
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("{} {name}: {error}", resource.kind),
    }
}

/// Points the hooks at an address of this machine instead of a Service of the cluster, and merges `more` into
/// them.
fn redirect(configuration: &mut Value, hooks: SocketAddr, more: &Value) {
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap();
        webhook["clientConfig"] = json!({ "url": format!("https://{hooks}{path}") });
        json_patch::merge(webhook, more);
    }
}

/// An AWS account where every target passes its health checks, and the URL of its API.
async fn aws(tasks: &mut JoinSet<()>) -> (Elb, String) {
    let elb = Elb::new(elb::Options {
        probe: Arc::new(ScriptedProbe::new(CheckOutcome::Passed)),
        // Bindings stay in the shared cluster, and our hook denies a second binding of a target group. So the
        // groups of each test have ARNs of their own.
        seed: ACCOUNTS.fetch_add(1, Ordering::Relaxed),
        ..elb::Options::default()
    });
    tasks.spawn(elb.run());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(elb.clone().serve(listener, std::future::pending()));
    (elb, endpoint)
}

/// A kubeconfig of the shipped ServiceAccount.
async fn kubeconfig(cluster: &Cluster) -> PathBuf {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let wanted: TokenRequest =
        serde_json::from_value(json!({ "spec": { "audiences": [] } })).unwrap();
    let params = PostParams::default();
    let issued = accounts
        .create_token_request("targetgate", &params, &wanted)
        .await;
    let token = issued.unwrap().status.unwrap().token;
    let name = format!("{}.kubeconfig", cluster.namespace);
    let control_plane = cluster.control_plane();
    control_plane.kubeconfig_for(&name, &token).unwrap()
}
